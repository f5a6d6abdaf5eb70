"""REINFORCE++ with a group baseline (arXiv 2501.03262): the task's mean is subtracted, the scale is that of the whole batch.

An episode's advantage therefore depends on the other tasks of the batch, and on how many tokens each episode has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.base import Batch, Bools, Floats
from algorithms.outcome import OutcomeMethod
from algorithms.stats import normalise, whiten


@dataclass
class ReinforceBaseline(OutcomeMethod):
    """A(i) = (D_i - mean of D) / std of D over all tokens of the batch, where D_i = R_i - mean of the group."""

    epsilon: float = 1e-8
    """Added to the variance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon is {self.epsilon!r}; it must be at least 0")

    def compared(self, batch: Batch, score: Floats, counted: Bools) -> Floats:
        """[S] D, whitened over the batch's tokens."""
        deviation = normalise(score, batch.group, counted, "mean", 0.0, self.lone_episode)
        return whiten(deviation, np.where(batch.counted, batch.tokens, 0), self.epsilon)
