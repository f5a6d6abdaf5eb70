"""BRPO (AnytimeReasoner, arXiv 2505.13438): an episode may be stopped at any of several budgets, and is to be good at each.

A budget is a number of turns. An episode is worth what it was paid within so many, so that nothing is played besides.
A turn is credited with the budgets that were still to come, compared with what earlier budgets brought and with its group.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Algorithm, Floats, Ints, Scored
from algorithms.branching import difference
from algorithms.stats import means
from envs.common.structured import AtLeast


@dataclass
class BRPO(Algorithm):
    """A(i,t) = J_s - (s V1 + (S - s) V2) / S for a turn within budget s = 0 .. S - 1.

    J_s = sum over s' >= s of P(s') R(s'), R(s') the return within budget s'. V1: mean of the episode's R at earlier budgets,
    the k-th weighing 2^k, times the sum of P from s on. V2: mean of the task's J_s.
    """

    budgets: Annotated[list[int], AtLeast(1)] = field(default_factory=lambda: [5, 10, 15])
    """Turns after which an episode may be stopped, ascending. One more budget is the episode's own end."""
    prior: Literal["uniform", "linear", "last"] = "uniform"
    """P, how likely each budget is. linear: in proportion to its number; last: only the whole episode counts."""

    min_group_size: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.budgets or any(b <= a for a, b in pairwise(self.budgets)):
            raise ValueError(f"budgets is {self.budgets}; it must be a list of turns that rise, for example [5, 10, 15]")

    @property
    def probabilities(self) -> Floats:
        """[budgets]"""
        count = len(self.budgets) + 1
        weights = {"uniform": np.ones(count), "linear": np.arange(1.0, count + 1), "last": np.eye(count)[-1]}[self.prior]
        return weights / weights.sum()

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]."""
        first, count = batch.position == 0, len(self.budgets) + 1
        budget = np.searchsorted(self.budgets, batch.position, side="right")  # [S] the one that a turn is played within
        paid = np.zeros((len(batch.length), count))
        np.add.at(paid, (batch.episode, budget), batch.backed_up)
        returns, earlier, group = budget_relative(np.cumsum(paid, axis=1), batch.group[first], self.probabilities)
        here = batch.episode, budget
        share = budget / count
        parts = {
            "earlier": share * difference(returns, earlier)[here],
            "group": (1 - share) * difference(returns, group)[here],
            "own": batch.own,
        }
        return Advantages(np.sum(list(parts.values()), axis=0), parts=parts)


def budget_relative(scores: Floats, group: Ints, probabilities: Floats) -> tuple[Floats, Floats, Floats]:
    """J, V1 and V2 of BRPO, each [N, budgets]. scores: [N, budgets] at each budget; group [N]; probabilities [budgets]."""
    count = len(probabilities)
    returns = np.cumsum((scores * probabilities)[:, ::-1], axis=1)[:, ::-1]
    weight = 2.0 ** np.arange(count)
    before = np.cumsum(scores * weight, axis=1) / np.cumsum(weight)  # means of the budgets up to each
    earlier = np.zeros_like(returns)
    earlier[:, 1:] = before[:, :-1]
    earlier *= np.cumsum(probabilities[::-1])[::-1]
    together = np.stack([means(returns[:, s], group) for s in range(count)], axis=1) if len(returns) else returns
    return returns, earlier, together
