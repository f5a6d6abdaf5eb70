"""GRPO (arXiv 2402.03300): an episode's return against those of the same task, given to every token of the episode.

Dr. GRPO (arXiv 2503.20783) is norm=mean together with the loss aggregation seq-mean-token-sum-norm.
"""

from __future__ import annotations

from dataclasses import dataclass

from algorithms.base import Batch, Bools, Floats
from algorithms.outcome import OutcomeMethod
from algorithms.stats import Norm, normalise


@dataclass
class GRPO(OutcomeMethod):
    """A(i) = (R_i - mean of the group) / F, outcome supervision."""

    norm: Norm = "std"
    """F: the group's standard deviation (ddof 1, plus epsilon), or 1 ("mean": only the mean is subtracted)."""
    epsilon: float = 1e-6
    """Added to the standard deviation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon is {self.epsilon!r}; it must be at least 0")

    def compared(self, batch: Batch, score: Floats, counted: Bools) -> Floats:
        """[S] (R - mean) / F of its group."""
        return normalise(score, batch.group, counted, self.norm, self.epsilon, self.lone_episode)
