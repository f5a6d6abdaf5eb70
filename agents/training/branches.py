"""Branches of an iteration's episodes: the method says where they begin, the sampler plays them, columns say what came of them.

Two uses. Continuations of a place only tell what it is worth: their mean return becomes a column of the batch. Leaves of a tree
are episodes to learn from, with what they share with other leaves. All seeds are derived by the names of the episodes that are
left, so that branches are a function of the episodes and of the run's root seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from agents.rollout.collect import Collected, Group, Watch
from agents.rollout.planner import Branch, branches_at
from agents.rollout.sampler import OnEpisode
from agents.training.columns import columns
from algorithms.base import Algorithm, Batch, Floats, Ints
from algorithms.branching import MonteCarloMethod, TreeMethod, first_tokens
from envs.common.seeding import derive, generator
from envs.trajectory import Trajectory


class Continues(Protocol):
    """Plays branches to their ends: `agents.rollout.branching.continued` with its sampler and temperature."""

    async def __call__(self, branches: Sequence[Branch], *, on_episode: OnEpisode) -> list[Trajectory]:
        """The episodes in the order of `branches`."""


@dataclass(frozen=True, slots=True)
class Branches:
    """Plays the branches that a method needs. Made of what does not change in a run."""

    method: MonteCarloMethod | TreeMethod
    continued: Continues
    seed: int
    """Root seed of the run."""
    learnable: Callable[[Trajectory], bool]
    """Whether an episode may be learned from; others are not branched, and are no leaves."""

    @classmethod
    def of(cls, method: Algorithm, continued: Continues, seed: int, learnable: Callable[[Trajectory], bool]) -> Branches | None:
        """None for a method that needs none."""
        if not isinstance(method, MonteCarloMethod | TreeMethod):
            return None
        return cls(method, continued, seed, learnable)

    async def play(self, played: Collected, watch: Watch) -> Collected:
        """An iteration's episodes with what was branched from them, and with the columns that the method reads of it."""
        if isinstance(self.method, TreeMethod):
            return await self._grow(self.method, played, watch)
        return await self._value(self.method, played, watch)

    async def _play(self, planned: Sequence[Branch], watch: Watch) -> list[Trajectory]:
        return await self.continued(planned, on_episode=watch(len(planned))) if planned else []

    # -- values ---------------------------------------------------------------------------------------------------------

    async def _value(self, method: MonteCarloMethod, played: Collected, watch: Watch) -> Collected:
        """Continuations from the places that the method names, and the columns of their mean returns."""
        episodes = [one for one in played.learned if self.learnable(one)]
        batch = batch_of(episodes)
        places = method.places(batch)
        of, planned = self._continuations(method, batch, places)
        children = await self._play(planned, watch)
        returns = [_return(child, branch.step, method.gamma) for child, branch in zip(children, planned, strict=True)]
        means = mean_known(np.array(returns, dtype=np.float64).reshape(-1, method.continuations))
        values = np.full(int(batch.tokens.sum()), np.nan)
        values[places] = means[of]
        found: dict[str, Any] = {}
        if "prefix_values" in method.needs:
            found["prefix_values"] = values
        if "state_values" in method.needs:
            asked = np.where(batch.tokens > 0, first_tokens(batch), 0)
            found["state_values"] = np.where(batch.tokens > 0, values[asked], np.nan)
        return played._replace(branched=children, columns=found)

    def _continuations(self, method: MonteCarloMethod, batch: Batch, places: Ints) -> tuple[Ints, list[Branch]]:
        """Which of the distinct histories stands before each of the places [B], and the continuations of each history.

        Episodes of a group that went the same way so far are in the same state, and are continued once for all of them.
        """
        first, ends = first_tokens(batch), np.cumsum(batch.tokens)
        steps = np.searchsorted(ends, places, side="right")  # [B]
        wanted: dict[int, list[tuple[int, int]]] = {}
        for step, place in zip(steps.tolist(), places.tolist()):
            wanted.setdefault(int(batch.episode[step]), []).append((int(batch.position[step]), place - int(first[step])))
        histories: dict[bytes, int] = {}
        planned: list[Branch] = []
        of: list[int] = []
        for episode, asked in wanted.items():
            trajectory = batch.trajectories[episode]
            for (step, token), history in zip(asked, _histories(trajectory, asked), strict=True):
                if history not in histories:
                    planned += branches_at(self.seed, trajectory, step, method.continuations, token)
                of.append(histories.setdefault(history, len(histories)))
        return np.array(of, dtype=np.int64), planned

    # -- trees ----------------------------------------------------------------------------------------------------------

    async def _grow(self, method: TreeMethod, played: Collected, watch: Watch) -> Collected:
        """A tree from each episode, and the groups of the leaves that are learned from."""
        trees = [_Tree(number, [one]) for number, group in enumerate(played.groups) for one in group if self.learnable(one)]
        children: list[Trajectory] = []
        for round_ in range(method.rounds):
            asked = [(tree, *place) for tree in trees for place in tree.drawn(method, round_, self.seed)]
            planned = [tree.branch(leaf, place, seed) for tree, leaf, place, seed in asked]
            grown = await self._play(planned, watch)
            for (tree, leaf, place, _), branch, child in zip(asked, planned, grown, strict=True):
                child = _apart(child, branch)
                children.append(child)
                if self.learnable(child):
                    tree.add(child, leaf, place)
        if not trees:
            return played
        groups: list[Group] = [[] for _ in played.groups]
        tree_of: list[int] = []
        segment: list[Ints] = []
        count = 0
        for number, tree in enumerate(trees):
            kept = method.kept(tree.batch(), generator(self.seed, "leaves", tree.name)).tolist()
            numbers = tree.segments()
            groups[tree.group] += [tree.leaves[leaf] for leaf in kept]
            tree_of += [number] * len(kept)
            segment += [numbers[leaf] + count for leaf in kept]
            count += len(tree.starts)
        found = {"tree": np.array(tree_of, dtype=np.int64), "segment": np.concatenate([*segment, np.empty(0, dtype=np.int64)])}
        return played._replace(branched=children, grown=groups, columns=found)


@dataclass(slots=True)
class _Tree:
    """One episode and what grew from it. Its sampled tokens are numbered as they are sampled; leaves share numbers."""

    group: int
    """Number of its group."""
    leaves: list[Trajectory]
    tokens: list[Ints] = field(init=False)
    """Of each leaf the numbers of its sampled tokens."""
    starts: set[int] = field(init=False)
    """Numbers of the tokens that segments begin with."""
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = _sampled(self.leaves[0])
        self.tokens, self.starts = [np.arange(self.count)], {0}

    @property
    def name(self) -> str:
        return self.leaves[0].called

    def batch(self) -> Batch:
        """Its leaves as a method reads them."""
        batch = batch_of(self.leaves)
        batch.tree, batch.segment = np.zeros(len(self.leaves), dtype=np.int64), np.concatenate(self.segments())
        return batch

    def segments(self) -> list[Ints]:
        """Of each leaf the number of the segment of each token: 0, 1, ... in the order in which they begin."""
        starts = np.array(sorted(self.starts))
        return [np.searchsorted(starts, numbers, side="right") - 1 for numbers in self.tokens]

    def drawn(self, method: TreeMethod, round_: int, seed: int) -> list[tuple[int, int, int]]:
        """(leaf, its token, seed of what is sampled) of each branch of a round."""
        draw = generator(seed, "tree", self.name, round_)
        ends = np.cumsum([len(numbers) for numbers in self.tokens])
        places = method.places(self.batch(), round_, draw)
        leaf = np.searchsorted(ends, places, side="right")
        at = places - (ends - [len(numbers) for numbers in self.tokens])[leaf]
        seeds = [derive(seed, "leaf", self.name, round_, number) for number in range(len(places))]
        return list(zip(leaf.tolist(), at.tolist(), seeds, strict=True))

    def branch(self, leaf: int, place: int, seed: int) -> Branch:
        """That leaves a leaf before its token `place`."""
        lengths = [len(step.response_ids) for step in self.leaves[leaf].steps]
        step = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
        return Branch(self.leaves[leaf], step, seed, place - sum(lengths[:step]))

    def add(self, child: Trajectory, leaf: int, place: int) -> None:
        """A new leaf, which shares the tokens before `place` with another one."""
        sampled = _sampled(child)  # fewer than `place` if the context ended before anything was sampled
        own = max(0, sampled - place)
        self.starts |= {self.count, int(self.tokens[leaf][place])}
        self.tokens.append(np.append(self.tokens[leaf][:place][:sampled], np.arange(self.count, self.count + own)))
        self.leaves.append(child)
        self.count += own


# -- trajectories -----------------------------------------------------------------------------------------------------------


def batch_of(episodes: Sequence[Trajectory]) -> Batch:
    """Columns of some episodes, with the log-probabilities of their sampled tokens."""
    logprobs = [value for one in episodes for step in one.steps for value in step.rollout_logprobs]
    return Batch(**columns(episodes), logprobs=np.array(logprobs, dtype=np.float64))


def mean_known(values: Floats) -> Floats:
    """[P] mean of the rows of [P, K] without their nan; nan where there is nothing else. Equal values give exactly theirs."""
    known = ~np.isnan(values)
    number = known.sum(1)
    some = np.where(number > 0, values[np.arange(len(values)), known.argmax(1)], np.nan)
    rest = np.where(known, values - some[:, None], 0.0).sum(1)
    return np.where(number > 0, some + rest / np.maximum(number, 1), np.nan)


def _return(child: Trajectory, step: int, gamma: float) -> float:
    """Of a continuation from its step on; nan if a fault cut it off."""
    if child.error is not None:
        return float("nan")
    total = 0.0
    for one in reversed(child.steps[step:]):
        total = one.reward + gamma * total
    return total


def _sampled(trajectory: Trajectory) -> int:
    return sum(len(step.response_ids) for step in trajectory.steps)


def _apart(child: Trajectory, branch: Branch) -> Trajectory:
    """With steps of its own in place of the parent's, as a leaf gets credit of its own for them."""
    shared = [replace(step, shaped_rewards=dict(step.shaped_rewards), credit=None) for step in child.steps[: branch.step]]
    return replace(child, steps=[*shared, *child.steps[branch.step :]])


def _histories(trajectory: Trajectory, asked: Sequence[tuple[int, int]]) -> list[bytes]:
    """For each (step, token) in ascending order what tells all that was read and sampled before it from any other, by hash."""
    known = hashlib.blake2b(trajectory.group_id.encode())
    found = []
    for (done, _), (step, token) in pairwise([(0, 0), *asked]):
        for one in trajectory.steps[done:step]:
            for ids in (one.prompt_ids, one.response_ids):
                known.update(len(ids).to_bytes(4, "big") + np.array(ids, dtype=np.int64).tobytes())
        here, of = known.copy(), trajectory.steps[step]
        here.update(np.array([len(of.prompt_ids), *of.prompt_ids, *of.response_ids[:token]], dtype=np.int64).tobytes())
        found.append(here.digest())
    return found
