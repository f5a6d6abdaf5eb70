"""OPO (arXiv 2505.23585): an episode's return against the mean of its task, in which an episode counts by its length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.base import Bools, Floats, Scored
from algorithms.outcome import OutcomeMethod
from algorithms.stats import deviations, episode_returns


@dataclass
class OPO(OutcomeMethod):
    """A(i) = R_i - sum of l_j R_j / sum of l_j, l the sampled tokens: the baseline of least variance if a gradient's squared
    norm grows with length."""

    def compared(self, batch: Scored, score: Floats, counted: Bools) -> Floats:
        """[S] deviation from the group's mean, weighted by the tokens of the episode, or of the row."""
        length = batch.tokens.astype(np.float64)
        if self.episode_stats == "trajectories":
            length = episode_returns(batch, length)
        return deviations(score, batch.group, counted, self.singleton_group, length)
