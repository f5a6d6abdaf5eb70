"""GPG (arXiv 2504.02546): the return against the mean of its task, scaled up for the groups that have nothing to tell.

Its loss is the plain policy gradient, the surrogate `gpg`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from algorithms.base import Bools, Floats, Scored
from algorithms.outcome import OutcomeMethod
from algorithms.stats import deviations


@dataclass
class GPG(OutcomeMethod):
    """A(i) = B / V (R_i - mean of the group): of a batch's B episodes only V bring a gradient."""

    informative: Literal["group", "return"] = "group"
    """Which episodes V counts: those of groups whose returns differ, or those whose own return is not 0 (verl)."""

    def compared(self, batch: Scored, score: Floats, counted: Bools) -> Floats:
        """[S] B / V times the deviation from the group's mean."""
        deviation = deviations(score, batch.group, counted, self.singleton_group)
        if self.informative == "group":
            differs = (
                np.bincount(batch.group[counted], deviation[counted] != 0, int(batch.group.max(initial=-1)) + 1) > 0
            )  # [G]
            informative = differs[batch.group]
        else:
            informative = score != 0
        return deviation * (counted.sum() / max(1, (informative & counted).sum()))
