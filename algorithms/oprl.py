"""OPRL (arXiv 2509.19199, later titled iStar): credit to an episode by its return, and to a step by an implicit reward.

The step rewards come from the shaping `implicit_prm`, whose model learns beside the policy; here they are only compared. The
defaults are the paper's for tasks that are won or lost; conf/algo/oprl_official.yaml sets what the authors' trainer computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from algorithms.base import Advantages, Algorithm, Scored
from algorithms.grpo import GRPO
from algorithms.outcome import OutcomeMethod
from algorithms.reinforce import ReinforceBaseline
from algorithms.rloo import RLOO
from algorithms.stats import Lone, Normalize
from envs.common.structured import NonNegative


@dataclass
class OPRL(Algorithm):
    """A(i,t) = A_E(i) + alpha * A_S(i,t), given to every token of the action (Eq. 5)."""

    alpha: NonNegative = 1.0
    """Weight of the step advantage; 0 leaves the estimator alone."""
    estimator: Literal["rloo", "grpo", "dr_grpo", "reinforce_pp_baseline"] = "rloo"
    """How returns and step rewards are compared. rloo: with the mean of the others, for tasks that are won or lost (the paper's
    on WebShop and Sokoban); grpo: (x - mean) / std, for tasks with a score (Eq. 3 and 4; the paper's on SOTOPIA), which scales
    step rewards up where outcomes hardly differ; dr_grpo: without the std; reinforce_pp_baseline: x - mean, normalized over all
    tokens of the batch."""
    step_baseline: Literal["all", "first"] = "all"
    """A step reward is compared with all steps of its group's trajectories (Eq. 4), or with the first of each (official)."""
    singleton_group: Lone = "zero"
    """A value with nothing to compare with. zero: its advantage is 0; raw: the value itself (official)."""
    epsilon: NonNegative = 1e-6
    """Added to the standard deviation of grpo."""

    min_group_size: ClassVar[int] = 2
    reads_shaping: ClassVar[str | None] = "implicit_prm"

    def __post_init__(self) -> None:
        self.shaped_at = {"implicit_prm": "none", **self.shaped_at}
        if self.shaped_at["implicit_prm"] != "none":
            raise ValueError("shaped_at.implicit_prm must be none: its rewards are this method's step rewards, and enter once")
        super().__post_init__()

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]. Raises ValueError if no step has an implicit reward."""
        if "implicit_prm" not in batch.shaped:
            raise ValueError("the batch has no rewards by shaping implicit_prm, which this method compares steps by")
        first = batch.position == 0
        baseline = batch.included if self.step_baseline == "all" else first
        method = self._estimator()
        episode = method.compared(batch, batch.scores(), first)  # A_E, Eq. 3
        step = method.compared(batch, batch.shaped["implicit_prm"], baseline)  # A_S, Eq. 4
        return Advantages(episode + self.alpha * step, parts={"episode": episode, "step": step})  # Eq. 5

    def _estimator(self) -> OutcomeMethod:
        if self.estimator == "rloo":
            return RLOO(singleton_group=self.singleton_group)
        if self.estimator == "reinforce_pp_baseline":
            return ReinforceBaseline(singleton_group=self.singleton_group)
        norm: Normalize = "std" if self.estimator == "grpo" else "mean"
        return GRPO(singleton_group=self.singleton_group, normalize=norm, epsilon=self.epsilon)
