"""GraphGPO (arXiv 2605.26684): a step is credited by how far from success it leads, in the graph of all rollouts of its task.

The defaults are the paper's formulas; conf/algo/graphgpo_official.yaml sets what the authors' trainer computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from algorithms.base import Advantages, Floats, Scored
from algorithms.graph import distances, last_steps, of_similar_texts, of_states
from algorithms.grouping import same_state, sizes
from algorithms.grpo import GRPO
from algorithms.stats import discounted_returns, normalize, share
from envs.common.structured import Fraction, NonNegative


@dataclass
class GraphGPO(GRPO):
    """A(i,t) = beta_G A_G(i,t) + beta_E A_E(i), given to every token of the action.

    A_G compares G = r gamma^(d(s') + 1) among the steps taken in the same state, where d(s') is the fewest edges to success
    from the state that the step led to; of a step that is alone in its state it is 0, whatever `singleton_group` says of
    episodes. A_E is GRPO's, and both are normalized alike. Success is all that the graph knows of rewards. What shapings pay is
    added to G as to a return: at its step, and discounted at earlier ones.
    """

    gamma: Fraction = 0.1
    """Discount of each edge on the way to success, omega in the paper."""
    exponent: Literal["cost", "distance", "progress"] = "cost"
    """Power of gamma. cost: d(s') + 1, edges from the step on; distance: d(s') (official); progress: d(s') - d(s) + 1, edges
    lost against the shortest way (official, normalize_distance)."""
    success_reward: NonNegative = 10.0
    """r, whatever the environment pays; cancels with normalize=std."""
    graph_weight: NonNegative = 1.0
    """beta_G, weight of the graph's advantage; 0 is GRPO."""
    episode_weight: NonNegative = 1.0
    """beta_E, weight of the episode's advantage."""
    nodes: Literal["exact", "similarity"] = "exact"
    """What is one node of the graph. exact: equal state keys of the environment; similarity: similar observations. Steps are
    compared in equal states either way."""
    similarity: Fraction = 0.95
    """nodes=similarity: smallest difflib ratio of two observations that count as similar."""

    credits_steps: ClassVar[bool] = True

    @property
    def reads_success(self) -> bool:
        return True

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]. A last state that is not known counts as one that nobody succeeded from."""
        episode = super().credit(batch).values  # A_E
        won = last_steps(batch) & batch.success[batch.episode]
        graph = of_states(batch) if self.nodes == "exact" else of_similar_texts(batch, self.similarity, won)
        here, there = distances(graph, batch.group, won)  # d(s), d(s')
        state, step_return = same_state(batch), self.returns(batch, here, there)
        step = normalize(step_return, state, batch.included, self.normalize, self.epsilon)  # A_G

        return Advantages(
            self.graph_weight * step + self.episode_weight * episode,
            parts={"episode": episode, "graph": step, "distance": there},
            step_group=state,
            metrics={**sizes(state), "unknown_states": share((graph.target < 0) & ~won, batch.included)},
        )

    def returns(self, batch: Scored, here: Floats, there: Floats) -> Floats:
        """[S] G, with what shapings pay; here, there [S]: d(s) and d(s')."""
        power = {"cost": there + 1, "distance": there, "progress": there - here + 1}[self.exponent]
        shaped = discounted_returns(batch, batch.backed_up - batch.environment, self.gamma) + batch.own
        return self.success_reward * self.gamma**power + shaped
