"""What methods share that credit an episode by its outcome alone: its return is compared, and every token gets the result.

How it is compared is the method's own, in a file of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Algorithm, Batch, Bools, Floats
from algorithms.stats import compared_steps, episode_returns, episodes_without_signal


@dataclass
class OutcomeMethod(Algorithm):
    """A subclass says how an episode compares with others."""

    episode_stats: Literal["trajectories", "rows"] = "trajectories"
    """The group's statistics are over its trajectories, or over its steps, where long episodes weigh more (official)."""
    lone_episode: Literal["zero", "raw"] = "zero"
    """In a group of one: nothing to compare with, or the score itself (official)."""

    smallest_group: ClassVar[int] = 2

    @property
    def credits_steps(self) -> bool:
        """No."""
        return False

    @abstractmethod
    def compared(self, batch: Batch, score: Floats, counted: Bools) -> Floats:
        """[S] what the `score` [S] of each step's episode comes to; statistics are over the `counted` [S] steps."""

    def advantages(self, batch: Batch) -> Advantages:
        """One value a step [S], the same for all steps of an episode but for shaped rewards that enter at a step."""
        score = episode_returns(batch, batch.reward + self.entering(batch, "reward")) + self.entering(batch, "return")
        counted = compared_steps(batch, self.episode_stats)
        episode, shaped = self.compared(batch, score, counted), self.entering(batch, "after")
        values = np.where(batch.counted, episode + shaped, 0.0)
        return Advantages(
            values,
            batch.counted,
            parts={"episode": episode, "shaped": shaped},
            metrics={"zero_episodes": episodes_without_signal(batch, values)},
        )
