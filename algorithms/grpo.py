"""GRPO (arXiv 2402.03300): an episode's return against those of the same task, given to every token of the episode.

Dr. GRPO (arXiv 2503.20783) is norm=mean together with the loss aggregation seq-mean-token-sum-norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Algorithm, Batch
from algorithms.stats import Norm, episode_returns, episodes_without_signal, normalise


@dataclass
class GRPO(Algorithm):
    """A(i) = (R_i - mean of the group) / F, outcome supervision."""

    norm: Norm = "std"
    """F: the group's standard deviation (ddof 1, plus epsilon), or 1 ("mean": only the mean is subtracted)."""
    episode_stats: Literal["trajectories", "rows"] = "trajectories"
    """Mean and std over the group's trajectories, or over its steps, where long episodes weigh more."""
    lone_episode: Literal["zero", "raw"] = "zero"
    """In a group of one: nothing to compare with, or the score itself."""
    epsilon: float = 1e-6
    """Added to the standard deviation."""

    smallest_group: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon is {self.epsilon!r}; it must be at least 0")

    def advantages(self, batch: Batch) -> Advantages:
        """One value a step [S], the same for all steps of an episode but for shaped rewards that enter at a step."""
        score = episode_returns(batch, batch.reward + self.entering(batch, "reward")) + self.entering(batch, "return")
        compared = batch.counted & (batch.position == 0) if self.episode_stats == "trajectories" else batch.counted
        episode = normalise(score, batch.group, compared, self.norm, self.epsilon, self.lone_episode)
        shaped = self.entering(batch, "after")
        values = np.where(batch.counted, episode + shaped, 0.0)
        return Advantages(
            values,
            batch.counted,
            parts={"episode": episode, "shaped": shaped},
            metrics={"zero_episodes": episodes_without_signal(batch, values)},
        )
