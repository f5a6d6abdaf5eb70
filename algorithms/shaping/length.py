"""A reward for an episode of the right length (Train Long, Think Short, arXiv 2508.08940): one of three parts of its reward.

The others are the environment's own and a penalty for invalid actions. The budget is the one that the episode was planned with
(rollout.curriculum), which tightens over a training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Batch, Floats
from algorithms.shaping import Shaping
from envs.common.structured import NonNegative
from envs.trajectory import Trajectory


@dataclass
class Length(Shaping):
    """Something at an episode's last step, most of it if the episode is as long as its budget."""

    weight: NonNegative = 1.0
    """Largest reward, in units of the environment's."""
    form: Literal["triangle", "band"] = "triangle"
    """triangle: rises from 0 to 1 at the budget, and falls to 0 at twice the budget. band: 1 within the budget, then falls
    likewise."""

    needs_budget: ClassVar[bool] = True

    async def shape(self, batch: Batch) -> Floats:
        """[S] the reward at the last step of each episode that has a budget; nan elsewhere.

        metrics: mean length in shares of the budget, and the share of episodes within it.
        """
        rewards = np.full(len(batch.reward), np.nan)
        last = np.cumsum(batch.length) - 1
        spent: list[float] = []
        for place, steps, faulted, one in zip(last, batch.length, batch.faulted, batch.trajectories, strict=True):
            share = spent_share(one) if steps and not faulted else None
            if share is not None:
                spent.append(share)
                rewards[place] = self.weight * self.of(share)
        found = np.array(spent)
        self.metrics = {"spent": float(found.mean()), "within": float((found <= 1).mean())} if spent else {}
        return rewards

    def of(self, share: float) -> float:
        """The reward, at weight 1, of an episode whose length is this share of its budget."""
        if share <= 1:
            return share if self.form == "triangle" else 1.0
        return max(0.0, 2.0 - share)


def spent_share(trajectory: Trajectory) -> float | None:
    """An episode's length by its budget: of turns, or of the tokens of an answer on average; None: it has no budget."""
    if trajectory.turn_budget is not None:
        return len(trajectory.steps) / trajectory.turn_budget
    if trajectory.token_budget is not None:
        tokens = sum(len(step.response_ids) for step in trajectory.steps)
        return tokens / max(1, len(trajectory.steps)) / trajectory.token_budget
    return None
