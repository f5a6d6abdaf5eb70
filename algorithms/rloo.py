"""RLOO (arXiv 2402.14740): an episode's return against the mean return of the other episodes of its task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.base import Bools, Floats, Scored
from algorithms.outcome import OutcomeMethod
from algorithms.stats import normalize


@dataclass
class RLOO(OutcomeMethod):
    """A(i) = R_i - mean of the others = n / (n - 1) (R_i - mean of all n), given to every token of the episode."""

    def compared(self, batch: Scored, score: Floats, counted: Bools) -> Floats:
        """[S] n / (n - 1) times the deviation from the group's mean."""
        n = np.bincount(batch.group[counted], minlength=int(batch.group.max(initial=-1)) + 1)  # [G]
        deviation = normalize(score, batch.group, counted, "mean", 0.0, self.singleton_group)
        return deviation * (n / np.maximum(n - 1, 1))[batch.group]
