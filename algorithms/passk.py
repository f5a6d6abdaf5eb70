"""Pass@k policy optimization (arXiv 2503.19595): only the best episode of a task is credited, by its lead over the second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from algorithms.base import Bools, Floats, Scored
from algorithms.outcome import OutcomeMethod
from algorithms.stats import Normalize, episode_returns, normalize
from envs.common.structured import NonNegative


@dataclass
class PassKGRPO(OutcomeMethod):
    """A(i) = (R_i - second best R) / F of the group's best episode, 0 of all others; 0 where two are best."""

    normalize: Normalize = "std"
    """std: divide by the group's standard deviation (ddof 1) plus epsilon; mean: only subtract the mean (F = 1)."""
    credited: Literal["episode", "row"] = "episode"
    """All steps of the best episode, or only the row that is compared: its first (verl-agent)."""
    epsilon: NonNegative = 1e-6
    """Added to the standard deviation."""

    def compared(self, batch: Scored, score: Floats, counted: Bools) -> Floats:
        """[S] the lead of the best; with episode_stats=rows over the second best row, which may be the same episode's."""
        scaled = normalize(score, batch.group, counted, self.normalize, self.epsilon, self.singleton_group)
        rows = np.flatnonzero(counted)
        rows = rows[np.lexsort((scaled[rows], batch.group[rows]))]  # by group, the best last
        size = np.bincount(batch.group[rows])
        best = rows[np.cumsum(size)[size > 0] - 1]
        second = rows[np.cumsum(size)[size > 0] - 2]  # in a group of one another group's, and not used
        lead = scaled[best] - np.where(size[size > 0] > 1, scaled[second], 0.0)
        credit = np.zeros_like(score)
        credit[best] = lead
        return credit if self.credited == "row" else episode_returns(batch, credit)
