"""What a method has played on from inside the audited episodes for its credit: kept, not played twice, and what it costs.

The seeds are not those of the truth's continuations: credit by the same ones would agree with the truth for no merit. Methods
that ask for the same branches share them, so that they differ by what they make of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from agents.auditing.playing import Store, counting
from agents.config.commands import AuditConfig, TrainConfig
from agents.rollout.branching import Branch, continued, read_before
from agents.rollout.collect import Collected, Watch
from agents.rollout.engines.slots import shared
from agents.rollout.sampler import OnEpisode, Sampler
from agents.training.branches import Branches
from agents.training.gathering import learnable
from algorithms import base
from envs import trajectory_file
from envs.common.seeding import derive
from envs.trajectory import Step, Trajectory


@dataclass
class Continuing:
    """Continues episodes; branches that the store holds are not played again. Counts those that were asked for."""

    sampler: Sampler
    temperature: float
    store: Store
    count: int = 0
    sampled: int = 0
    """Tokens that were sampled in branches; not those kept of the responses that they begin within."""
    computed: int = 0
    """Tokens that a model computes for them, where it reads once what branches of an episode have in common."""

    async def __call__(self, branches: Sequence[Branch], *, on_episode: OnEpisode) -> list[Trajectory]:
        """The episodes in the order of `branches`."""
        wanted = {branch.name: branch for branch in branches}
        found = self._kept(wanted)
        for episode in found.values():
            on_episode(episode)

        def ended(episode: Trajectory) -> None:
            # What it shares with its parent is in the parent.
            own = replace(episode, steps=episode.steps[wanted[episode.name].step :])
            trajectory_file.append(self.store.branches, [own])
            found[episode.name] = episode
            on_episode(episode)

        missing = [branch for branch in branches if branch.name not in found]
        with counting(self.sampler, self.store, "branches", "branches"):
            await continued(self.sampler, missing, self.temperature, ended)
        children = [found[branch.name] for branch in branches]
        self._count(branches, children)
        return children

    def _kept(self, wanted: dict[str, Branch]) -> dict[str, Trajectory]:
        """Those of the wanted branches that the store holds."""
        if not self.store.branches.exists():
            return {}
        kept = (one for one in trajectory_file.read(self.store.branches) if one.name in wanted)
        return {one.name: replace(one, steps=[*_before(wanted[one.name]), *one.steps]) for one in kept}

    def _count(self, branches: Sequence[Branch], children: Sequence[Trajectory]) -> None:
        played = [(branch, child.steps[branch.step :]) for branch, child in zip(branches, children) if not branch.over]
        sampled = sum(len(step.response_ids) for _, own in played for step in own) - sum(branch.token for branch, _ in played)
        self.count += len(branches)
        self.sampled += sampled
        self.computed += sampled + _read_in_common(branch for branch, _ in played) + sum(map(_read_alone, played))


def _before(branch: Branch) -> list[Step]:
    return branch.parent.steps[: branch.step]


def _read_in_common(branches: Iterable[Branch]) -> int:
    """Tokens that are read once for all branches of an episode: in the order of their places, each with what led to it."""
    by_parent: dict[str, dict[tuple[int, int], Branch]] = {}
    for branch in branches:
        by_parent.setdefault(branch.parent.called, {})[branch.step, branch.token] = branch
    before = ([[], *(read_before(places[at]) for at in sorted(places))] for places in by_parent.values())
    return sum(_anew(*pair) for contexts in before for pair in pairwise(contexts))


def _read_alone(played: tuple[Branch, list[Step]]) -> int:
    """Tokens of a branch's prompts behind its first one that it had not read yet."""
    branch, own = played
    if branch.parent.context == "full":
        return sum(len(step.prompt_ids) for step in own[1:])
    return sum(_anew([*step.prompt_ids, *step.response_ids], after.prompt_ids) for step, after in pairwise(own))


def _anew(held: list[int], ids: list[int]) -> int:
    """Tokens of a context that are read where another one is held: those behind what they have in common."""
    return len(ids) - shared(held, ids)


async def branched(
    config: AuditConfig, training: TrainConfig, played: Collected, sampler: Sampler, store: Store, watch: Watch
) -> tuple[Collected, Continuing]:
    """The audited episodes with what the method of a training has branched from them, and what that took."""
    continuing = Continuing(sampler, config.engine.temperature, store)
    seed = derive(config.seed, "audit", "branches")
    branches = Branches.of(base.build(training.algo), continuing, seed, partial(learnable, config=training))
    return (played if branches is None else await branches.play(played, watch)), continuing
