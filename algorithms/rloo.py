"""RLOO (arXiv 2402.14740): an episode's return against the mean return of the other episodes of its task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Algorithm, Batch
from algorithms.stats import episode_returns, episodes_without_signal, normalise


@dataclass
class RLOO(Algorithm):
    """A(i) = R_i - mean of the others = n / (n - 1) (R_i - mean of all n), given to every token of the episode."""

    episode_stats: Literal["trajectories", "rows"] = "trajectories"
    """Mean and n over the group's trajectories, or over its steps, where long episodes weigh more (official)."""
    lone_episode: Literal["zero", "raw"] = "zero"
    """In a group of one: nothing to compare with, or the score itself (official)."""

    smallest_group: ClassVar[int] = 2

    def advantages(self, batch: Batch) -> Advantages:
        """One value a step [S], the same for all steps of an episode but for shaped rewards that enter at a step."""
        score = episode_returns(batch, batch.reward + self.entering(batch, "reward")) + self.entering(batch, "return")
        compared = batch.counted & (batch.position == 0) if self.episode_stats == "trajectories" else batch.counted
        deviation = normalise(score, batch.group, compared, "mean", 0.0, self.lone_episode)
        n = np.bincount(batch.group[compared], minlength=int(batch.group.max(initial=-1)) + 1)  # [G]
        episode = deviation * (n / np.maximum(n - 1, 1))[batch.group]
        shaped = self.entering(batch, "after")
        values = np.where(batch.counted, episode + shaped, 0.0)
        return Advantages(
            values,
            batch.counted,
            parts={"episode": episode, "shaped": shaped},
            metrics={"zero_episodes": episodes_without_signal(batch, values)},
        )
