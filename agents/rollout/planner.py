"""Which episodes an iteration of training plays: its tasks, a group of episodes for each, and what a method asks for besides.

All of it is a function of weights, root seed and iteration number: a resumed run plays what the uninterrupted one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agents.config.sections import TrainConfig
from agents.rollout.assembly import Assembly
from agents.rollout.sampler import Episode, group_episodes
from agents.runs.tracking import Trackers
from envs.common.seeding import generator
from envs.trajectory import Trajectory

GREEDY = "+greedy"
"""Ends the group id of a greedy episode, which is not one of the group that it is compared with."""


@dataclass
class Played:
    """The episodes of an iteration."""

    trajectories: list[Trajectory] = field(default_factory=list)
    """To learn from, group by group."""
    dropped: list[Trajectory] = field(default_factory=list)
    """Those of groups that dynamic sampling replaced."""
    greedy: list[Trajectory] = field(default_factory=list)
    """One of each group, without chance in the choice of tokens; only for methods that need it."""
    retried: int = 0
    """Episodes played again after a fault."""

    @property
    def all(self) -> list[Trajectory]:
        """Every episode that was played."""
        return [*self.trajectories, *self.dropped, *self.greedy]


class TrainingEpisodes:
    """Plays the episodes of one iteration after another."""

    def __init__(self, parts: Assembly, config: TrainConfig, panel: Sequence[str], trackers: Trackers, greedy: bool) -> None:
        self._parts, self._config, self._panel, self._trackers = parts, config, panel, trackers
        self._wants_greedy = greedy

    def play(self, iteration: int) -> Played:
        """The episodes of iteration 1, 2, ..."""
        rollout, seed = self._config.rollout, self._config.seed
        played = Played()
        fresh = group_episodes(seed, "train", iteration, self.tasks(iteration), rollout.group_size, "train")
        groups = self._groups(fresh, played)
        alike = [group for group in groups if returns_alike(group)]
        kept = [group for group in groups if not returns_alike(group)] if rollout.resample else groups
        for again in range(rollout.resample):
            missing = rollout.groups - len(kept)
            if not missing:
                break
            draw = generator(seed, "panel", "resample", iteration, again)
            tasks = [self._panel[int(i)] for i in draw.integers(len(self._panel), size=missing)]
            fresh = group_episodes(seed, "train", f"{iteration}+{again + 1}", tasks, rollout.group_size, "train")
            groups = self._groups(fresh, played)
            kept += [group for group in groups if not returns_alike(group)]
            alike += [group for group in groups if returns_alike(group)]
        if rollout.resample:  # what is still missing is filled up, so that every iteration has as many episodes
            missing = rollout.groups - len(kept)
            kept, alike = kept + alike[:missing], alike[missing:]
            played.dropped = [trajectory for group in alike for trajectory in group]
        played.trajectories = [trajectory for group in kept for trajectory in group]
        if self._wants_greedy:
            firsts = [group[0] for group in kept]
            episodes = [Episode(t.task_id, f"{t.group_id}{GREEDY}", t.seed, 0, t.split) for t in firsts]
            played.greedy = self._play(episodes, 0.0, played)
        return played

    def tasks(self, iteration: int) -> list[str]:
        """The iteration's tasks: the panel in a new order every pass, cut at where earlier iterations stopped."""
        n = self._config.rollout.groups
        chosen = []
        for place in range((iteration - 1) * n, iteration * n):
            turn, index = divmod(place, len(self._panel))
            order = generator(self._config.seed, "panel", "train", turn).permutation(len(self._panel))
            chosen.append(self._panel[int(order[index])])
        return chosen

    def _groups(self, episodes: Sequence[Episode], played: Played) -> list[list[Trajectory]]:
        size = self._config.rollout.group_size
        trajectories = self._play(episodes, self._config.engine.temperature, played)
        return [trajectories[start : start + size] for start in range(0, len(trajectories), size)]

    def _play(self, episodes: Sequence[Episode], temperature: float, played: Played) -> list[Trajectory]:
        done = [0, 0, 0]

        def ended(trajectory: Trajectory) -> None:
            done[0] += 1
            done[1] += trajectory.success
            done[2] += trajectory.error is not None
            success = {"success": done[1] / (done[0] - done[2])} if done[2] < done[0] else {}
            self._trackers.progress("rollout", done[0], len(episodes), **success)

        rollout = self._parts.rollout(temperature, ended)
        trajectories = self._parts.play(rollout, episodes)
        played.retried += rollout.retried
        return trajectories


def grouped(trajectories: Sequence[Trajectory]) -> list[list[Trajectory]]:
    """The groups of some episodes, in order of appearance."""
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        groups.setdefault(trajectory.group_id, []).append(trajectory)
    return list(groups.values())


def returns_alike(group: Sequence[Trajectory]) -> bool:
    """Whether the episodes have nothing to tell by comparison; those cut off by a fault do not count."""
    return len({trajectory.total_reward for trajectory in group if trajectory.error is None}) <= 1
