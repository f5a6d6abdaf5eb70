"""REINFORCE++ with a group baseline (arXiv 2501.03262): the task's mean is subtracted, the scale is that of the whole batch.

An episode's advantage therefore depends on the other tasks of the batch, and on how many tokens each episode has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Algorithm, Batch
from algorithms.stats import episode_returns, episodes_without_signal, normalise, whiten


@dataclass
class ReinforceBaseline(Algorithm):
    """A(i) = (D_i - mean of D) / std of D over all tokens of the batch, where D_i = R_i - mean of the group."""

    episode_stats: Literal["trajectories", "rows"] = "trajectories"
    """The group's mean over its trajectories, or over its steps, where long episodes weigh more (official)."""
    lone_episode: Literal["zero", "raw"] = "zero"
    """D in a group of one: nothing to compare with, or the score itself (official)."""
    epsilon: float = 1e-8
    """Added to the variance."""

    smallest_group: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon is {self.epsilon!r}; it must be at least 0")

    def advantages(self, batch: Batch) -> Advantages:
        """One value a step [S], the same for all steps of an episode but for shaped rewards that enter at a step."""
        score = episode_returns(batch, batch.reward + self.entering(batch, "reward")) + self.entering(batch, "return")
        compared = batch.counted & (batch.position == 0) if self.episode_stats == "trajectories" else batch.counted
        deviation = normalise(score, batch.group, compared, "mean", 0.0, self.lone_episode)
        episode = whiten(deviation, np.where(batch.counted, batch.tokens, 0), self.epsilon)
        shaped = self.entering(batch, "after")
        values = np.where(batch.counted, episode + shaped, 0.0)
        return Advantages(
            values,
            batch.counted,
            parts={"episode": episode, "shaped": shaped},
            metrics={"zero_episodes": episodes_without_signal(batch, values)},
        )
