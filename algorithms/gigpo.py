"""GiGPO (arXiv 2505.10978): credit to an episode among its task's episodes, and to a step among visits of the same state.

The defaults are the paper's formulas; conf/algo/gigpo_official.yaml sets what the authors' trainer computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from algorithms.base import Advantages, Batch, Ints, Scored
from algorithms.grouping import same_state, similar_text, sizes
from algorithms.grpo import GRPO
from algorithms.stats import normalize
from envs.common.structured import Fraction, NonNegative


@dataclass
class GiGPO(GRPO):
    """A(i,t) = A_E(i) + omega * A_S(i,t), given to every token of the action (Eq. 8); A_E is GRPO's.

    Both parts are normalized alike. A_S of a step that is alone in its state is 0, whatever `singleton_group` says of episodes.
    """

    gamma: Fraction = 0.95
    """Discount of step returns; the episode's return is undiscounted."""
    omega: NonNegative = 1.0
    """Weight of the step advantage; 0 is GRPO."""
    grouping: Literal["exact", "similarity"] = "exact"
    """What counts as the same state. exact: equal state keys of the environment; similarity: similar observations."""
    similarity: Fraction = 0.95
    """grouping=similarity: smallest difflib ratio of two observations that count as similar."""

    credits_steps: ClassVar[bool] = True

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]."""
        episode = super().credit(batch).values  # A_E, Eq. 3

        step_return = batch.returns(self.gamma)  # R_t, Eq. 5
        step_group = self.step_groups(batch)  # Eq. 6
        step = normalize(step_return, step_group, batch.included, self.normalize, self.epsilon)  # A_S, Eq. 7

        return Advantages(
            episode + self.omega * step,  # Eq. 8
            parts={"episode": episode, "step": step},
            step_group=step_group,
            metrics=sizes(step_group),
        )

    def step_groups(self, batch: Batch) -> Ints:
        """[S] number of each step's group (Eq. 6)."""
        return same_state(batch) if self.grouping == "exact" else similar_text(batch, self.similarity)
