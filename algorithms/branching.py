"""What methods share that have episodes played on from inside: where branches begin, and what is compared with their means.

A branch begins before a sampled token: what stands before it is kept, the rest is sampled anew. Either branches only tell what
a place is worth (`MonteCarloMethod`), or they are episodes to learn from, leaves of a tree (`TreeMethod`). Playing them is the
trainer's work.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from algorithms.base import Algorithm, Batch, Bools, Floats, Ints, Need, Scored
from algorithms.stats import ROUNDING, normalize_tokens
from envs.common.structured import Fraction, Positive

BRANCHED: frozenset[Need] = frozenset({"state_values", "prefix_values", "tree", "segment"})
"""What comes of branches, of which a method reads any (`Algorithm.needs`)."""


@dataclass
class MonteCarloMethod(Algorithm):
    """A subclass says at which places values are wanted, and what it makes of them.

    A value is the mean return, from its step on, of continuations that the sampling policy plays from there. They are paid by
    the environment alone.
    """

    continuations: Positive = 9
    """How often an episode is played on from each place, K."""
    gamma: Fraction = 1.0
    """Discount from one step to the next, also of the continuations' returns."""
    normalize: bool = False
    """Shift and scale advantages over all trained tokens of the batch to mean 0 and variance 1."""

    @property
    def discount(self) -> float:
        return self.gamma

    def check(self, shapings: Sequence[str]) -> None:
        """Raises ValueError for a shaping that would enter rewards, of which continuations have none."""
        for name in shapings:
            if self.shaped_at.get(name, "reward") == "reward":
                raise ValueError(
                    f"shaped_at.{name} is reward, but the continuations that values come from are paid by the environment "
                    "alone, so a step's credit would hold what its value lacks; allowed with this method: return, advantage, "
                    "none"
                )

    @abstractmethod
    def places(self, batch: Batch) -> Ints:
        """[B] numbers of the sampled tokens before which continuations begin, ascending, each `continuations` times."""

    @abstractmethod
    def most_places(self, steps: int, tokens: int) -> int:
        """How many places an episode of so many steps and sampled tokens can have, to tell what a run costs."""


@dataclass
class TreeMethod(Algorithm):
    """A subclass says where trees grow. A tree begins as one episode; every branch adds a leaf, which is a whole episode."""

    @property
    @abstractmethod
    def rounds(self) -> int:
        """How often trees grow, each time from the leaves that are there."""

    @abstractmethod
    def places(self, tree: Batch, round_: int, draw: np.random.Generator) -> Ints:
        """[B] numbers of the sampled tokens of a tree's leaves before which branches begin in round 0, 1, ...; may repeat."""

    @property
    @abstractmethod
    def most_branches(self) -> int:
        """How many branches an episode that a tree begins with can get, to tell what a run costs."""

    def kept(self, tree: Batch, draw: np.random.Generator) -> Ints:
        """Numbers of the grown tree's leaves that are learned from, ascending. Default: all."""
        return np.arange(len(tree.faulted))


def difference(target: Floats, value: Floats) -> Floats:
    """target - value; 0 where they differ by rounding alone, as means of equal returns do."""
    found = target - value
    found[np.abs(found) <= ROUNDING * np.abs(value)] = 0.0
    return found


def first_tokens(batch: Batch) -> Ints:
    """[S] number of each step's first sampled token."""
    return np.cumsum(batch.tokens) - batch.tokens


def certain_tokens(batch: Batch, threshold: float) -> Bools:
    """[T] tokens that were sampled with at least this probability. Raises ValueError without batch.logprobs."""
    if batch.logprobs is None:
        raise ValueError("probabilities of sampled tokens are asked for, and there is no batch.logprobs")
    return np.exp(batch.logprobs) >= threshold


def with_own(batch: Scored, values: Floats) -> Floats:
    """values [T] with what enters at each step's own return added to its tokens."""
    return values + np.repeat(batch.own, batch.tokens)


def normalized(values: Floats, defined: Bools) -> Floats:
    """[T] with mean 0 and variance 1 over the tokens that are trained on."""
    return normalize_tokens(values, defined.astype(np.int64), 1e-8)
