"""GRPO (arXiv 2402.03300): an episode's return against those of the same task, given to every token of the episode.

Dr. GRPO (arXiv 2503.20783) is normalize=mean together with the loss aggregation seq-mean-token-sum-norm.
"""

from __future__ import annotations

from dataclasses import dataclass

from algorithms.base import Bools, Floats, Scored
from algorithms.outcome import OutcomeMethod
from algorithms.stats import Normalize, normalize
from envs.common.structured import NonNegative


@dataclass
class GRPO(OutcomeMethod):
    """A(i) = (R_i - mean of the group) / F, outcome supervision."""

    normalize: Normalize = "std"
    """std: divide by the group's standard deviation (ddof 1) plus epsilon; mean: only subtract the mean (F = 1)."""
    epsilon: NonNegative = 1e-6
    """Added to the standard deviation."""

    def compared(self, batch: Scored, score: Floats, counted: Bools) -> Floats:
        """[S] (R - mean) / F of its group."""
        return normalize(score, batch.group, counted, self.normalize, self.epsilon, self.singleton_group)
