"""SALT (arXiv 2510.20022): steps that several rollouts of a task share get the mean of their advantages.

So a good step of a failed episode is not blamed for what came after it. The authors' code is not published; the formula is
that of descriptions of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Algorithm, Ints, Scored
from algorithms.graph import combined, of_states
from algorithms.grouping import sizes
from algorithms.grpo import GRPO
from algorithms.outcome import OutcomeMethod
from algorithms.rloo import RLOO
from algorithms.stats import compared_steps, means
from envs.common.structured import Natural, NonNegative


@dataclass
class SALT(Algorithm):
    """A(i,t) = mean of A_E over the steps of the task that took the same edge: state, action and next state.

    A_E is the episode's advantage among its task's episodes. A step that shares its edge with none keeps it.
    """

    estimator: Literal["grpo", "rloo"] = "grpo"
    """A_E. grpo: (R - mean) / std; rloo: R less the mean of the others."""
    history: Natural = 0
    """How many steps before must have taken equal edges too."""
    epsilon: NonNegative = 1e-6
    """Added to the standard deviation of grpo."""

    min_group_size: ClassVar[int] = 2
    credits_steps: ClassVar[bool] = False  # what is shared is the credit of whole episodes

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]. A last state that is not known is no other step's."""
        method: OutcomeMethod = GRPO(epsilon=self.epsilon) if self.estimator == "grpo" else RLOO()
        episode = method.compared(batch, batch.scores(), compared_steps(batch, "trajectories"))  # A_E
        edge = self.edges(batch)
        shared = means(episode, edge)
        return Advantages(shared, parts={"episode": episode, "edge": shared - episode}, step_group=edge, metrics=sizes(edge))

    def edges(self, batch: Scored) -> Ints:
        """[S] number of each step's edge, and of those before it. Raises ValueError without batch.action."""
        if batch.action is None:
            raise ValueError("SALT needs batch.action, the action of each step; this batch has none")
        graph = of_states(batch)
        beyond = graph.target.max(initial=0) + 1
        target = np.where(graph.target < 0, beyond + np.arange(len(graph.target)), graph.target)
        edge = combined(graph.source, batch.action, target)
        past = edge
        for back in range(1, self.history + 1):
            earlier = np.where(batch.position >= back, np.roll(edge, back), -1)
            past = combined(past, earlier)
        return past
