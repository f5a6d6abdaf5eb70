"""How many continuations each state gets: some everywhere first, then more where a value is uncertain and counts in many steps.

How many the second round has may depend on what the first one found in any way: both are averaged with weights that were fixed
before (`Plan.first` over `Plan.mean`), and the second one's mean is unbiased whatever it was that made it longer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.base import Floats, Ints

LEAST = 2
"""Continuations of a state in each round: below it nothing would be known of their variance."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Of the mean state's continuations."""

    first: int
    """In the first round."""
    mean: int
    """In both."""

    @classmethod
    def of(cls, continuations: int) -> Plan:
        """Half of them in each round."""
        return cls(max(LEAST, continuations // 2), continuations)

    @property
    def share(self) -> float:
        """The weight of the first round."""
        return self.first / self.mean


def first_round(uses: Floats, plan: Plan) -> Ints:
    """[V] continuations of each state: `plan.first` for one that a single episode came through, whose value is used twice.

    uses: [V] as of `Decisions.uses`. A state that several episodes share gets more, by the square root: that makes the sum of
    the advantages' variances smallest.
    """
    return np.maximum(LEAST, np.rint(plan.first * np.sqrt(uses / 2))).astype(np.int64)


def second_round(uses: Floats, spread: Floats, total: int) -> Ints:
    """[V] continuations of each state, `total` in all (more only if `LEAST` for each are more): Neyman's allocation.

    spread: [V] estimated standard deviation of a continuation's return.
    """
    wish = np.sqrt(uses) * spread
    counts = np.full(len(wish), LEAST, dtype=np.int64)
    left = total - int(counts.sum())
    if left <= 0 or not wish.any():
        return counts
    low, high = 0.0, (total + len(wish)) / float(wish[wish > 0].min())
    for _ in range(100):  # the factor at which the states that want more than the least take what is left
        middle = (low + high) / 2
        if np.maximum(LEAST, middle * wish).sum() > total:
            high = middle
        else:
            low = middle
    exact = np.maximum(LEAST, low * wish)
    counts = np.floor(exact).astype(np.int64)
    rest = np.argsort(-(exact - counts), kind="stable")[: total - int(counts.sum())]
    counts[rest] += 1
    return counts


def affordable(plan: Plan, cost: Floats, uses: Floats, budget: float | None) -> Plan | None:
    """The plan, or where its expected cost exceeds the budget the largest one that does not; None if there is none.

    cost: [V] expected cost of one continuation of each state. It is known before any is played, so that what they return
    decides nothing.
    """
    if budget is None:
        return plan
    for mean in range(plan.mean, 2 * LEAST - 1, -1):
        smaller = Plan.of(mean)
        rounds = first_round(uses, smaller) * (smaller.mean / smaller.first)
        if float((rounds * cost).sum()) <= budget:
            return smaller
    return None
