"""SPO-tree (arXiv 2505.23564): a segment of an episode by the mean return below it, against that of its siblings.

Episodes of a task branch after every `segment` tokens, so that every segment's value comes from episodes that are learned from
too. conf/algo/spo_tree_official.yaml sets what the authors' trainer computes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Annotated, ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Batch, Floats, Ints, Need, Scored
from algorithms.branching import TreeMethod, certain_tokens, first_tokens, with_own
from algorithms.stats import Normalize, episode_returns, normalize
from envs.common.structured import AtLeast, Fraction, NonNegative, Positive


@dataclass
class SPOTree(TreeMethod):
    """A segment's tokens get (V(segment) - V(the one before it)) / F.

    V of a segment that ends an episode is its return, that of any other the mean of V over the segments that follow it; before
    the first one it is the mean over the task's first segments, of which there are rollout.group_size. A segment that leaves
    share is trained on once, in the first of them.
    """

    branching: list[Annotated[int, AtLeast(2)]] = field(default_factory=lambda: [6, 6])
    """How many segments follow each on every further level; the paper's tree 6-6-6 is [6, 6] with rollout.group_size=6."""
    segment: Positive = 30
    """Length of a segment; the last one goes to the episode's end."""
    unit: Literal["tokens", "steps"] = "tokens"
    """What a segment's length counts: sampled tokens (paper), so that an answer may branch in its middle, or whole steps."""
    normalize: Normalize = "mean"
    """mean: F = 1; std: F = standard deviation of the siblings' V (ddof 0) plus epsilon."""
    epsilon: NonNegative = 1e-8
    """Added to the standard deviation."""
    threshold: Fraction = 0.9
    """certain=masked: tokens that were sampled with at least this probability are certain."""
    certain: Literal["masked", "credited"] = "masked"
    """masked: certain tokens are not trained on (the paper's probability mask); credited: like the rest of their segment."""
    zeros: Literal["kept", "dropped"] = "kept"
    """Segments with an advantage of exactly 0. kept: they count in the loss's mean; dropped: not trained on (official)."""

    min_group_size: ClassVar[int] = 2
    needs: ClassVar[frozenset[Need]] = frozenset({"segment"})

    @property
    def credits_tokens(self) -> bool:
        """Where segments are cut between tokens, or tokens are masked one by one."""
        return self.unit == "tokens" or self.certain == "masked"

    @property
    def rounds(self) -> int:
        return len(self.branching)

    @property
    def most_branches(self) -> int:
        return prod(self.branching) - 1

    def places(self, tree: Batch, round_: int, draw: np.random.Generator) -> Ints:
        """[B] for every leaf that goes on there, the token behind its segment of this round, once for each new branch."""
        first, border = first_tokens(tree), (round_ + 1) * self.segment
        if self.unit == "steps":
            ends = first[(tree.position == border) & (tree.tokens > 0)]
        else:
            length = np.bincount(tree.episode, tree.tokens, len(tree.faulted)).astype(np.int64)  # [N] tokens
            ends = (np.cumsum(length) - length)[length > border] + border
        return np.repeat(ends, self.branching[round_] - 1)

    def credit(self, batch: Scored) -> Advantages:
        """One value a token [T]. Raises ValueError without batch.segment, and without batch.logprobs for the mask."""
        if batch.segment is None:
            raise ValueError("SPO-tree needs batch.segment, the part of the tree that each token was sampled in")
        episode = np.repeat(batch.episode, batch.tokens)  # [T]
        number, place = np.unique(batch.segment, return_index=True)  # [X] segments, and the first token of each
        of = np.searchsorted(number, batch.segment)  # [T]
        value, advantage = self.segments(batch, episode, of)
        values = with_own(batch, advantage[of])
        defined = episode == episode[place][of]
        if self.certain == "masked":
            defined &= ~certain_tokens(batch, self.threshold)
        if self.zeros == "dropped":
            defined &= values != 0
        metrics = {"segments": len(number) / max(1, len(batch.faulted))}
        return Advantages(values, defined, level="token", parts={"segment": advantage[of], "value": value[of]}, metrics=metrics)

    def segments(self, batch: Scored, episode: Ints, of: Ints) -> tuple[Floats, Floats]:
        """V and advantage of the segments [X]. episode, of [T]: the trajectory and segment of each token."""
        starts = np.flatnonzero((np.diff(of, prepend=-1) != 0) | (np.diff(episode, prepend=-1) != 0))  # [R] visits of segments
        visited, visitor = of[starts], episode[starts]
        opens = np.diff(visitor, prepend=-1) != 0
        level = np.arange(len(starts)) - np.maximum.accumulate(np.where(opens, np.arange(len(starts)), 0))
        total = int(of.max(initial=-1)) + 1
        depth, parent = np.zeros((2, total), dtype=np.int64)  # [X]; the parents of first segments are the tasks
        depth[visited] = level
        task = batch.group[np.searchsorted(batch.episode, visitor)]
        parent[visited] = np.where(opens, total + task, np.append(0, visited[:-1]))
        closes = np.append(opens[1:], True)[: len(starts)]
        ends = np.searchsorted(batch.episode, visitor[closes])
        # What follows a segment: other segments, or an episode's end.
        value = np.bincount(visited[closes], episode_returns(batch, batch.backed_up)[ends], total).astype(np.float64)
        follow = np.bincount(visited[closes], minlength=total)
        advantage, there = np.zeros(total), np.ones(total, dtype=bool)
        for one in range(int(depth.max(initial=0)), -1, -1):
            here = np.flatnonzero(depth == one)
            siblings, value[here] = parent[here], value[here] / follow[here]
            advantage[here] = normalize(value[here], siblings, there[here], self.normalize, self.epsilon, ddof=0)
            if one:
                value += np.bincount(siblings, value[here], total)
                follow += np.bincount(siblings, minlength=total)
        return value, advantage
