"""What methods share that credit an episode by its outcome alone: its return is compared, and every token gets the result.

How it is compared is the method's own, in a file of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from algorithms.base import Advantages, Algorithm, Bools, Floats, Scored
from algorithms.stats import Lone, Over, compared_steps


@dataclass
class OutcomeMethod(Algorithm):
    """A subclass says how an episode compares with others."""

    episode_stats: Over = "trajectories"
    """What an episode is compared with: its group's trajectories, or their steps, where long episodes weigh more (official)."""
    singleton_group: Lone = "zero"
    """What an episode gets that is alone in its group. zero: 0, as there is nothing to compare with; raw: the score itself
    (official)."""

    min_group_size: ClassVar[int] = 2
    credits_steps: ClassVar[bool] = False

    @abstractmethod
    def compared(self, batch: Scored, score: Floats, counted: Bools) -> Floats:
        """[S] what the `score` [S] of each step's episode comes to; statistics are over the `counted` [S] steps."""

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S], the same for all steps of an episode but for shaped rewards that enter at a step's return."""
        episode = self.compared(batch, batch.scores(), compared_steps(batch, self.episode_stats))
        return Advantages(episode, parts={"episode": episode})
