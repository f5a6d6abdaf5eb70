"""ReMax (arXiv 2310.10505): the return of each step against that of the same task's greedy episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from algorithms.base import Advantages, Algorithm, Batch, Need
from algorithms.stats import discounted_returns, episodes_without_signal


@dataclass
class ReMax(Algorithm):
    """A(i,t) = sum of r from t on - R of the greedy episode, given to every token of the action.

    The greedy return is the environment's alone: shaped rewards that enter as reward or return have no baseline.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"greedy"})

    def advantages(self, batch: Batch) -> Advantages:
        """One value a step [S]. Raises ValueError without batch.greedy."""
        if batch.greedy is None:
            raise ValueError("ReMax needs batch.greedy, the return of each task's greedy episode; there is none")
        returns = discounted_returns(batch, batch.reward + self.entering(batch, "reward"), 1.0) + self.entering(batch, "return")
        shaped = self.entering(batch, "after")
        values = np.where(batch.counted, returns - batch.greedy + shaped, 0.0)
        return Advantages(
            values,
            batch.counted,
            parts={"return": returns, "greedy": -batch.greedy, "shaped": shaped},
            metrics={"zero_episodes": episodes_without_signal(batch, values)},
        )
