"""GiGPO (arXiv 2505.10978): credit to an episode among its task's episodes, and to a step among visits of the same state.

The defaults are the paper's formulas; conf/algo/gigpo_official.yaml sets what the authors' trainer computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from algorithms.base import Advantages, Algorithm, Batch, Ints, Scored
from algorithms.grouping import same_state, similar_text, sizes
from algorithms.stats import Lone, Normalize, Over, compared_steps, normalize
from envs.common.structured import Fraction, NonNegative


@dataclass
class GiGPO(Algorithm):
    """A(i,t) = A_E(i) + omega * A_S(i,t), given to every token of the action (Eq. 8)."""

    gamma: Fraction = 0.95
    """Discount of step returns; the episode's return is undiscounted."""
    omega: NonNegative = 1.0
    """Weight of the step advantage; 0 is GRPO."""
    normalize: Normalize = "std"
    """std: divide by the group's standard deviation (ddof 1) plus epsilon; mean: only subtract the mean (F = 1)."""
    grouping: Literal["exact", "similarity"] = "exact"
    """What counts as the same state. exact: equal state keys of the environment; similarity: similar observations."""
    similarity: Fraction = 0.95
    """grouping=similarity: smallest difflib ratio of two observations that count as similar."""
    episode_stats: Over = "trajectories"
    """Mean and std of the episode advantage: over the group's trajectories, or over their steps (rows), where long episodes
    weigh more (official)."""
    singleton_group: Lone = "zero"
    """Episode advantage in a group of one. zero: 0, as there is nothing to compare with; raw: the score itself (official)."""
    epsilon: NonNegative = 1e-6
    """Added to the standard deviation."""

    min_group_size: ClassVar[int] = 2

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]."""
        compared = compared_steps(batch, self.episode_stats)
        episode = normalize(
            batch.scores(), batch.group, compared, self.normalize, self.epsilon, self.singleton_group
        )  # A_E, Eq. 3

        step_return = batch.returns(self.gamma)  # R_t, Eq. 5
        step_group = self.step_groups(batch)  # Eq. 6
        step = normalize(step_return, step_group, batch.included, self.normalize, self.epsilon)  # A_S, Eq. 7; alone: 0

        return Advantages(
            episode + self.omega * step,  # Eq. 8
            parts={"episode": episode, "step": step},
            step_group=step_group,
            metrics=sizes(step_group),
        )

    def step_groups(self, batch: Batch) -> Ints:
        """[S] number of each step's group (Eq. 6)."""
        return same_state(batch) if self.grouping == "exact" else similar_text(batch, self.similarity)
