"""True values and advantages from the returns of continuations, with what is known of their errors.

No estimate has anything of the audited episodes in it beyond the rewards of the steps themselves: a method credits by the same
episodes' returns, and an estimate that shared them would agree with it for no merit. Values of different states have
independent errors; advantages of neighboring steps share a value, and so an error. A sum over advantages whose error is to be
known is therefore taken over states (`Truth.state_sums`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.auditing.allocation import LEAST
from agents.auditing.states import Decisions, sums
from algorithms.base import Bools, Floats, Ints


@dataclass(eq=False)
class Returns:
    """What the continuations of one round returned. Of those that a fault cut off nothing is known: they are not among them."""

    state: Ints
    """[R] number of the state."""
    value: Floats
    """[R]"""

    def by_state(self, states: int) -> tuple[Ints, Floats, Floats]:
        """Of each of so many states [V]: how many there are, their mean, and the sum of squares around it."""
        n = np.bincount(self.state, minlength=states).astype(np.int64)
        mean = sums(self.state, self.value, states) / np.maximum(n, 1)
        return n, mean, sums(self.state, (self.value - mean[self.state]) ** 2, states)

    def moderate(self, states: int, ends: tuple[float, float] | None = None) -> Floats:
        """[V] variance of each state's returns, taken with two more: `ends`, by default the lowest and the highest of all.

        Eight lost continuations do not show that a state cannot be won, and their own variance, 0, would say so. For returns of
        0 and 1 this is the variance behind the interval of Agresti and Coull, with one success and one failure added.
        """
        if not len(self.value):
            return np.zeros(states)
        low, high = ends or (float(self.value.min()), float(self.value.max()))
        n, mean, squares = self.by_state(states)
        total = (n * mean + low + high) / (n + 2)
        squares = squares + n * (mean - total) ** 2 + (low - total) ** 2 + (high - total) ** 2
        return squares / (n + 2)


@dataclass(eq=False)
class Values:
    """The values of some states [V]."""

    rounds: Floats
    """[2, V] mean return of each round's continuations, two independent unbiased estimates; 0 where unknown."""
    round_errors: Floats
    """[2, V] their standard errors, as `error`."""
    mean: Floats
    """[V] both rounds together."""
    variance: Floats
    """[V] unbiased estimate of the variance of `mean`. Often 0 where few continuations all ended alike."""
    error: Floats
    """[V] standard error of `mean`, also good for few continuations that all ended alike."""
    known: Bools
    """[V] False for a state with fewer than two continuations in a round."""
    counts: Ints
    """[2, V] continuations."""
    share: float
    """The weight of the first round in `mean`."""

    @classmethod
    def of(cls, first: Returns, second: Returns, share: float, states: int) -> Values:
        """share: the weight of the first round, fixed before it was played."""
        both = Returns(np.concatenate([first.state, second.state]), np.concatenate([first.value, second.value]))
        ends = (float(both.value.min()), float(both.value.max())) if len(both.value) else (0.0, 0.0)
        counts, means, squares = map(np.stack, zip(*(one.by_state(states) for one in (first, second))))
        weights, n = np.array([[share], [1 - share]]), np.maximum(counts, 1)
        variances = squares / np.maximum(counts - 1, 1)
        of_round = np.stack([one.moderate(states, ends) for one in (first, second)])
        return cls(
            rounds=means,
            round_errors=np.sqrt(of_round / n),
            mean=(weights * means).sum(axis=0),
            variance=(weights**2 * variances / n).sum(axis=0),
            error=np.sqrt(both.moderate(states, ends) * (weights**2 / n).sum(axis=0)),
            known=np.all(counts >= LEAST, axis=0),
            counts=counts,
            share=share,
        )


@dataclass(eq=False)
class Truth:
    """The true advantages of some decisions [D], as far as they are known."""

    decisions: Decisions
    values: Values

    def __post_init__(self) -> None:
        decision, state, factor = self.decisions.entries
        v, self._entries = self.values, (decision, state, factor)

        def summed(of_states: Floats) -> Floats:
            return sums(decision, factor * of_states[state], len(self.decisions))

        def spread_out(variances: Floats) -> Floats:
            return sums(decision, factor**2 * variances[state], len(self.decisions))

        reward = self.decisions.reward
        self.advantage: Floats = reward + summed(v.mean)
        """[D] unbiased."""
        self.variance: Floats = spread_out(v.variance)
        """[D] unbiased estimate of its variance."""
        self.error: Floats = np.sqrt(spread_out(v.error**2))
        """[D] its standard error, also good for few continuations."""
        self.rounds: Floats = np.stack([reward + summed(one) for one in v.rounds])
        """[2, D] by each round alone: the second one's error is uncorrelated with the first one's."""
        self.round_errors: Floats = np.sqrt(np.stack([spread_out(one**2) for one in v.round_errors]))
        """[2, D]"""
        self.known: Bools = sums(decision, ~v.known[state], len(self.decisions)) == 0
        """[D]"""
        self.value: Floats = v.mean[self.decisions.before]
        """[D] of the state before."""
        self.value_error: Floats = v.error[self.decisions.before]
        """[D]"""

    def state_sums(self, taken: Bools, groups: Ints, count: int) -> tuple[Floats, Floats]:
        """How the sums of the `taken` [D] advantages by group depend on values: factors [count, U], the values' variances [U].

        groups: [D] number of each decision's group. Only states that do not cancel out of every sum are among the U.
        """
        decision, state, factor = self._entries
        kept = taken[decision]
        where, column = np.unique(state[kept], return_inverse=True)
        factors = np.zeros((count, len(where)))
        np.add.at(factors, (groups[decision[kept]], column), factor[kept])
        left = (np.abs(factors) > 1e-12).any(axis=0)
        return factors[:, left], self.values.variance[where[left]]
