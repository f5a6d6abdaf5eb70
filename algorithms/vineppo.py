"""VinePPO (arXiv 2410.01679): a step by how much it changed what continuations reach on average, from before it and after it.

It is PPO without a critic: a state's value is the mean return of K episodes that are played on from it. The defaults are the
paper's formulas (Sec. 4); conf/algo/vineppo_official.yaml sets what the authors' trainer computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from algorithms.base import Advantages, Batch, Floats, Ints, Need, Scored
from algorithms.branching import MonteCarloMethod, difference, first_tokens
from algorithms.stats import normalize_tokens, share
from envs.common.structured import Positive


@dataclass
class VinePPO(MonteCarloMethod):
    """A(i,t) = r + gamma V(t+1) - V(t), given to every token of the action; after the last step V = 0."""

    max_states: Positive | None = None
    """Continuations begin before the first so many steps of an episode; null: before all. A state that was not sampled from has
    the value that the rest of its own episode gives it, so the step there gets 0."""

    needs: ClassVar[frozenset[Need]] = frozenset({"state_values"})

    def places(self, batch: Batch) -> Ints:
        """[B] the first tokens of the first `max_states` steps of each episode."""
        asked = batch.tokens > 0
        if self.max_states is not None:
            asked &= batch.position < self.max_states
        return first_tokens(batch)[asked]

    def most_places(self, steps: int, tokens: int) -> int:
        return min(steps, self.max_states or steps)

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]. Raises ValueError without batch.state_values."""
        if batch.state_values is None:
            raise ValueError("VinePPO needs batch.state_values, the mean return of continuations from before each step")
        value, after = backed_up(batch, batch.state_values, self.gamma)
        target = batch.backed_up + self.gamma * after
        credit = difference(target, value) + batch.own
        if self.normalize:
            credit = normalize_tokens(credit, batch.tokens, 1e-8)
        sampled = share(~np.isnan(batch.state_values), batch.included)
        return Advantages(credit, parts={"next": target, "value": value}, metrics={"sampled_states": sampled})


def backed_up(batch: Scored, values: Floats, gamma: float) -> tuple[Floats, Floats]:
    """Value before [S] and after [S] each step: nan filled from behind by r + gamma V of the next state, at last 0."""
    value, after = values.copy(), np.zeros_like(values)
    first = np.cumsum(batch.length) - batch.length  # [N]
    for t in range(int(batch.length.max(initial=0)) - 1, -1, -1):  # a round for each time, for all trajectories at once
        here = first[batch.length > t] + t
        inner = first[batch.length > t + 1] + t
        after[inner] = value[inner + 1]
        value[here] = np.where(np.isnan(value[here]), batch.backed_up[here] + gamma * after[here], value[here])
    return value, after
