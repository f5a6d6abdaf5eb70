"""GiGPO (arXiv 2505.10978): credit to an episode among its task's episodes, and to a step among visits of the same state.

The defaults are the paper's formulas; `OFFICIAL` lists the settings with which the authors' trainer departs from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Algorithm, Batch, Ints
from algorithms.grouping import same_state, similar_text
from algorithms.stats import (
    Norm,
    compared_steps,
    discounted_returns,
    episode_returns,
    episodes_without_signal,
    normalise,
    share,
)

OFFICIAL: dict[str, Any] = {"episode_stats": "rows", "lone_episode": "raw", "shaped": {"invalid_action": "return"}}
"""Settings that reproduce the official trainer: GiGPO(**OFFICIAL)."""


@dataclass
class GiGPO(Algorithm):
    """A(i,t) = A_E(i) + omega * A_S(i,t), given to every token of the action (Eq. 8)."""

    gamma: float = 0.95
    """Discount of step returns; the episode's return is undiscounted."""
    omega: float = 1.0
    """Weight of the step advantage; 0 is GRPO."""
    norm: Norm = "std"
    """F: the group's standard deviation (ddof 1, plus epsilon), or 1 ("mean": only the mean is subtracted)."""
    grouping: Literal["exact", "similarity"] = "exact"
    """Same state: by the environment's state key, or by likeness of observations (free-form text)."""
    similarity: float = 0.95
    """Least difflib ratio of similar observations."""
    episode_stats: Literal["trajectories", "rows"] = "trajectories"
    """A_E's mean and std over the group's trajectories, or over its steps, where long episodes weigh more (official)."""
    lone_episode: Literal["zero", "raw"] = "zero"
    """A_E in a group of one: nothing to compare with, or the score itself (official)."""
    epsilon: float = 1e-6
    """Added to the standard deviation."""

    smallest_group: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (("gamma", 0, 1), ("similarity", 0, 1), ("omega", 0, np.inf), ("epsilon", 0, np.inf)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be between {low} and {high}")

    def advantages(self, batch: Batch) -> Advantages:
        """One value a step [S]."""
        reward, own = batch.reward + self.entering(batch, "reward"), self.entering(batch, "return")

        score = episode_returns(batch, reward) + own  # R(tau_i), at each of its steps
        compared = compared_steps(batch, self.episode_stats)
        episode = normalise(score, batch.group, compared, self.norm, self.epsilon, self.lone_episode)  # A_E, Eq. 3

        step_return = discounted_returns(batch, reward, self.gamma) + own  # R_t, Eq. 5
        step_group = self.step_groups(batch)  # Eq. 6
        step = normalise(step_return, step_group, batch.counted, self.norm, self.epsilon)  # A_S, Eq. 7; alone: 0

        shaped = self.entering(batch, "after")
        values = np.where(batch.counted, episode + self.omega * step + shaped, 0.0)  # Eq. 8
        return Advantages(
            values,
            batch.counted,
            parts={"episode": episode, "step": step, "shaped": shaped},
            step_group=step_group,
            metrics={**self._metrics(batch, step_group), "zero_episodes": episodes_without_signal(batch, values)},
        )

    def step_groups(self, batch: Batch) -> Ints:
        """[S] number of each step's group (Eq. 6)."""
        return same_state(batch) if self.grouping == "exact" else similar_text(batch, self.similarity)

    def _metrics(self, batch: Batch, group: Ints) -> dict[str, float]:
        size = np.bincount(group[batch.counted], minlength=int(group.max(initial=-1)) + 1)  # [G]
        mean = batch.counted.sum() / max(1, np.count_nonzero(size))
        return {"step_group_size": float(mean), "lone_steps": share(size[group] == 1, batch.counted)}
