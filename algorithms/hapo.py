"""HAPO's advantages (arXiv 2509.16591): GRPO with statistics over the tokens of a task, so that long episodes weigh more.

What HAPO does by the entropy of tokens is a transform and a loss: `algo.transforms=[hapo] loss.surrogate=hapo`
(algorithms/transforms/hapo.py), which conf/algo/hapo.yaml sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.base import Bools, Floats, Scored
from algorithms.grpo import GRPO
from algorithms.stats import deviations
from envs.common.structured import AboveZero


@dataclass
class HAPO(GRPO):
    """A(i) = (R_i - mean) / (std + epsilon), both over all tokens of the task's episodes; std with ddof 0."""

    bound: AboveZero = 5.0
    """A task in which an |A| reaches this has GRPO's advantages (the authors' code)."""

    def compared(self, batch: Scored, score: Floats, counted: Bools) -> Floats:
        """[S] by token; `counted` is for GRPO's."""
        groups = int(batch.group.max(initial=-1)) + 1
        everywhere, tokens = np.ones(len(score), dtype=bool), batch.tokens.astype(np.float64)
        found = deviations(score, batch.group, everywhere, self.singleton_group, tokens)
        if self.normalize == "std":
            squares = np.bincount(batch.group, tokens * found**2, groups)
            std = np.sqrt(squares / np.maximum(np.bincount(batch.group, tokens, groups), 1))
            found = found * np.divide(1.0, std + self.epsilon, out=np.zeros(groups), where=std > 0)[batch.group]
        large = np.bincount(batch.group, np.abs(found) >= self.bound, groups) > 0
        return np.where(large[batch.group], super().compared(batch, score, counted), found)
