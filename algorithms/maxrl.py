"""MaxRL (arXiv 2602.02710): an episode's lead over its task's mean return, divided by that mean.

The rarer a task succeeds, the more a success counts: with returns of 0 and 1 the expected update is an approximation of maximum
likelihood, of higher order the more episodes a task has. A mean below 0 would turn the sign, so returns must be at least 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from algorithms.base import Bools, Floats, Scored
from algorithms.outcome import OutcomeMethod
from algorithms.stats import deviations
from envs.common.structured import NonNegative

ENTERED = ("reward", "return")
"""Where a shaped reward becomes part of what is divided by."""


@dataclass
class MaxRL(OutcomeMethod):
    """A(i) = (R_i - mean of the group) / (mean of the group + epsilon); where nobody is paid anything, 0."""

    epsilon: NonNegative = 1e-6
    """Added to the mean; 0: none, as in prime-rl."""

    divides_by_rewards: ClassVar[bool] = True

    def check(self, shapings: Sequence[str]) -> None:
        """A penalty must not make a return negative."""
        if "invalid_action" in shapings and self.shaped_at["invalid_action"] in ENTERED:
            raise ValueError(
                f"shaped_at.invalid_action is '{self.shaped_at['invalid_action']}', where its penalty makes returns negative, "
                "and MaxRL divides by their mean; allowed: advantage, none"
            )

    def compared(self, batch: Scored, score: Floats, counted: Bools) -> Floats:
        """[S] the deviation from the group's mean over that mean. Raises ValueError for a return below 0."""
        if (score < 0).any():
            step = int(np.argmin(score))
            raise ValueError(
                f"MaxRL divides by a task's mean return, and an episode returns {score[step]:g} (trajectory "
                f"{batch.episode[step]}); every return must be at least 0: let rewards start there, and penalties of shapings "
                "enter after normalization (shaped_at.<name>=advantage)"
            )
        groups = int(batch.group.max(initial=-1)) + 1
        n = np.bincount(batch.group[counted], minlength=groups)  # [G]
        mean = np.bincount(batch.group[counted], score[counted], groups) / np.maximum(n, 1)
        scale = np.divide(1.0, mean + self.epsilon, out=np.zeros(groups), where=mean > 0)
        if self.singleton_group == "raw":
            scale[n == 1] = 1.0
        return deviations(score, batch.group, counted, self.singleton_group) * scale[batch.group]
