"""G2PO (arXiv 2606.22995): states are valued over all rollouts of a task, and a step is credited by the state it leads to.

The defaults are the paper's formulas; conf/algo/g2po_official.yaml sets what the authors' trainer computes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from algorithms.base import Advantages, Floats, Ints, Scored
from algorithms.graph import last_steps
from algorithms.grouping import same_state, sizes
from algorithms.grpo import GRPO
from algorithms.stats import discounted_returns, episode_returns, means, normalize
from envs.common.structured import Fraction, NonNegative


@dataclass
class G2PO(GRPO):
    """A(i,t) = A_E(i) + omega (A_node(i,t) + A_edge(i,t)), given to every token of the action.

    A_E is GRPO's, and the others are normalized like it; `episode_stats` and `singleton_group` are for A_E alone. V(s) is the
    mean of gamma^(T-t) R over all visits of the state by the task's episodes, t from 0 to T - 1. A_node compares the value
    behind a step among the steps taken in the same state; A_edge compares its gain over the value before it among all steps of
    the task. R is what the environment paid. What shapings pay is the reward of a step: it is added to the value behind the
    step, and discounted to those before it.
    """

    gamma: Fraction = 0.95
    """Discount of values."""
    omega: NonNegative = 1.0
    """Weight of node and edge; 0 is GRPO. The paper's sweep peaks at 0.8."""
    success_value: NonNegative | None = None
    """Value behind the last step of a success; behind that of any other episode it is 0. null: what the environment paid in the
    episode; official: 10."""
    node_penalty: NonNegative | None = None
    """Taken off the value behind an invalid action, in A_node alone. null: what shaping invalid_action says, if it enters at
    the return; official: 0.1, whatever that says."""

    credits_steps: ClassVar[bool] = True

    @property
    def reads_success(self) -> bool:
        return True

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]."""
        episode = super().credit(batch).values  # A_E

        state = same_state(batch)
        before, behind = self.values(batch, state)
        at_node = behind + self.penalties(batch)
        node = normalize(at_node, state, batch.included, self.normalize, self.epsilon)  # alone in its state: 0
        edge = normalize(behind - before, batch.group, batch.included, self.normalize, self.epsilon)  # alone in its task: 0

        return Advantages(
            episode + self.omega * (node + edge),
            parts={"episode": episode, "node": node, "edge": edge},
            step_group=state,
            metrics=sizes(state),
        )

    def values(self, batch: Scored, state: Ints) -> tuple[Floats, Floats]:
        """[S] V(s), and what stands behind the step: V(s'), or behind an episode's last step the value of its outcome."""
        shaped = batch.backed_up - batch.environment
        paid, left = episode_returns(batch, batch.environment), batch.length[batch.episode] - batch.position  # R, T - t
        visit = self.gamma**left * paid + discounted_returns(batch, shaped, self.gamma)
        value = means(visit, state)
        outcome = np.where(batch.success[batch.episode], paid if self.success_value is None else self.success_value, 0.0)
        return value, np.where(last_steps(batch), outcome, np.roll(value, -1)) + shaped

    def penalties(self, batch: Scored) -> Floats:
        """[S] what enters at the step's return, with `node_penalty` in the place of shaping invalid_action."""
        if self.node_penalty is None:
            return batch.own
        others = replace(self, shaped_at={**self.shaped_at, "invalid_action": "none"})
        return others.shaped_rewards(batch, "return") - self.node_penalty * ~batch.valid
