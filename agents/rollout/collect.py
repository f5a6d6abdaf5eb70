"""The episodes that one iteration learns from: the planner says which, the sampler plays them.

With dynamic sampling (DAPO, arXiv 2503.14476 Sec. 3.2) groups whose episodes all return the same are replaced; groups of which
faults left nothing always are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from agents.models.temperature import Temperature
from agents.rollout.planner import Episode, Planner
from agents.rollout.sampler import OnEpisode, Sampler
from envs.trajectory import Trajectory

LOST_ROUNDS = 3
"""Rounds in which lost groups are replaced at most: an environment that always fails ends the run."""
Group = list[Trajectory]
Watch = Callable[[int], OnEpisode]
"""From the number of episodes that are played together to what is told of each as it ends."""


class Collected(NamedTuple):
    """The episodes of an iteration."""

    groups: list[Group]
    """To learn from, in the planner's order."""
    dropped: list[Group]
    """Those that were replaced: by dynamic sampling, or because faults left nothing of them."""
    greedy: list[Trajectory]
    """One of each group at temperature 0; only for methods that need it."""
    late: int = 0
    """Groups that were too old to be learned from (rollout.overlap), and are not among the others."""
    late_steps: int = 0
    """Steps of environments in them."""
    branched: Sequence[Trajectory] = ()
    """What was branched from these episodes, for methods that need it; in no rate of theirs."""
    grown: list[Group] | None = None
    """If branches are learned from: the groups with them, in place of `groups`."""
    columns: Mapping[str, Any] = MappingProxyType({})
    """What the method reads of the branches: columns of the batch of `learned`."""

    @property
    def learning(self) -> list[Group]:
        """The groups to learn from."""
        return self.groups if self.grown is None else self.grown

    @property
    def learned(self) -> list[Trajectory]:
        """The episodes to learn from, group by group."""
        return [trajectory for group in self.learning for trajectory in group]

    @property
    def sampled(self) -> list[Trajectory]:
        """All episodes that were sampled at the training temperature."""
        return [trajectory for group in (*self.groups, *self.dropped) for trajectory in group]

    @property
    def all(self) -> list[Trajectory]:
        """Every episode that was played from its beginning."""
        return [*self.sampled, *self.greedy]


async def collect(
    planner: Planner, sampler: Sampler, iteration: int, temperature: Temperature, rounds: int, greedy: bool, watch: Watch
) -> Collected:
    """Play iteration 1, 2, ...

    rounds: most rounds of dynamic sampling; 0: groups whose episodes all return the same stay. greedy: play a greedy episode
    for each group, too.
    """
    groups = await _play(sampler, planner.episodes(iteration), temperature, watch)
    useless = returns_alike if rounds else lost
    kept = [group for group in groups if not useless(group)]
    left = [group for group in groups if useless(group)]
    wanted = len(groups)
    for round_ in range(max(rounds, LOST_ROUNDS)):
        missing = wanted - len(kept)
        if round_ >= rounds:  # what dynamic sampling could not replace fills up
            missing -= sum(not lost(group) for group in left)
        if missing <= 0:
            break
        groups = await _play(sampler, planner.replacements(iteration, round_, missing), temperature, watch)
        kept += [group for group in groups if not useless(group)]
        left += [group for group in groups if useless(group)]
    # What is still missing is filled up, so that every iteration has as many episodes.
    left.sort(key=lost)
    missing = wanted - len(kept)
    groups, dropped = kept + left[:missing], left[missing:]
    compared: list[Trajectory] = []
    if greedy:
        compared = [one for [one] in await _play(sampler, planner.greedy(groups, planner.budget(iteration)), 0.0, watch)]
    return Collected(groups, dropped, compared)


async def _play(sampler: Sampler, episodes: Sequence[Episode], temperature: Temperature, watch: Watch) -> list[Group]:
    """The groups in the order of `episodes`, whichever ended first."""
    place = {group_id: number for number, group_id in enumerate(dict.fromkeys(one.group_id for one in episodes))}
    ended = [group async for group in sampler.groups(episodes, temperature, watch(len(episodes)))]
    return sorted(ended, key=lambda group: place[group[0].group_id])


def returns_alike(group: Sequence[Trajectory]) -> bool:
    """Whether the episodes have nothing to tell by comparison; those cut off by a fault do not count."""
    return len({trajectory.total_reward for trajectory in group if trajectory.error is None}) <= 1


def lost(group: Sequence[Trajectory]) -> bool:
    """Whether a fault cut off every episode."""
    return all(trajectory.error is not None for trajectory in group)
