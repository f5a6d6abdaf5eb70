"""ReMax (arXiv 2310.10505): the return of each step against that of the same task's greedy episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from algorithms.base import Advantages, Algorithm, Need, Scored


@dataclass
class ReMax(Algorithm):
    """A(i,t) = sum of r from t on - R of the greedy episode, given to every token of the action.

    The greedy return is the environment's alone: shaped rewards that enter as reward or return have no baseline.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"greedy"})

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]. Raises ValueError without batch.greedy."""
        if batch.greedy is None:
            raise ValueError("ReMax needs batch.greedy, the return of each task's greedy episode; there is none")
        returns = batch.returns(1.0)
        return Advantages(returns - batch.greedy, parts={"return": returns, "greedy": -batch.greedy})
