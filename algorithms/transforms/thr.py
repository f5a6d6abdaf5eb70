"""Token hidden reward (THR, arXiv 2510.03669): tokens by what learning them does to the likelihood of the task's successes.

To raise a token's log-probability moves those of others by the product of their hidden states and of their prediction errors
(one-hot less probabilities). The trainer sums that over the tokens of the task's successes: `batch.influence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from algorithms.batch import Batch, Bools, Floats, Need
from algorithms.transforms import Changed, Left, Transform, column, kept
from envs.common.structured import AtLeast, AtMost, NonNegative


@dataclass
class THR(Transform):
    """Tokens of large |THR| count more if they make successes likelier (p > 0), or if they make them less likely (p < 0).

    THR = influence times the sign of the advantage: whether the update makes the task's successes likelier. Tasks without a
    success have none, and stay as they are.
    """

    p: Annotated[float, AtLeast(-1), AtMost(1)] = 0.1
    """The advantage is scaled by 1 + p sign(THR). Above 0: exploits what succeeded; below 0: explores."""
    threshold: NonNegative = 1.0
    """Only tokens of a larger |THR| are kept, in units of the mean |THR| of the iteration's tokens; 0: all."""
    rest: Left = "masked"
    """What becomes of the others. masked: not trained on; zero: their advantage is 0, and they count in the loss's mean."""

    needs: ClassVar[frozenset[Need]] = frozenset({"influence"})

    def apply(self, batch: Batch, values: Floats, defined: Bools, done: float) -> Changed:
        """Raises ValueError without batch.influence."""
        influence = column(batch, "influence", self)
        known = np.isfinite(influence)
        reward = np.where(known, influence, 0.0) * np.sign(values)
        of = np.abs(reward[known & defined])
        threshold = self.threshold * (of.mean() if len(of) else 0.0)
        chosen = ~known | (np.abs(reward) > threshold) | (self.threshold == 0)
        return kept(values * (1 + self.p * np.sign(reward)), defined, chosen, self.rest)
