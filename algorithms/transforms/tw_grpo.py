"""TW-GRPO's token weights (arXiv 2505.24718): a place counts more if a task's episodes would say different things there.

How much the next-token distributions differ at a place is the trainer's to compute: `batch.divergence`. Places are compared by
their number, not by what stands there; here it counts an episode's sampled tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from algorithms.batch import Batch, Bools, Floats, Need
from algorithms.transforms import Changed, Transform, column, of_token
from envs.common.structured import AtLeast

EPSILON = 1e-8
"""Added to the range of divergences."""


@dataclass
class TWGRPO(Transform):
    """Advantages times a weight from 1 to alpha, by the divergence of the task's distributions at the token's place."""

    alpha: Annotated[float, AtLeast(1)] = 1.4
    """Weight of the place where they differ most (paper); that of where they differ least is 1."""

    lowest: Literal["places", "padding"] = "places"
    """Divergence of weight 1. places: the lowest of the task's places; padding: 0 in tasks whose episodes all have fewer tokens
    than the iteration's longest one: their padding, where nothing differs, counts too (official)."""

    needs: ClassVar[frozenset[Need]] = frozenset({"divergence"})

    def apply(self, batch: Batch, values: Floats, defined: Bools, done: float) -> Changed:
        """Raises ValueError without batch.divergence."""
        divergence, group = column(batch, "divergence", self), of_token(batch, batch.group)
        groups = int(group.max(initial=-1)) + 1
        lowest, highest = np.full(groups, np.inf), np.full(groups, -np.inf)
        np.minimum.at(lowest, group, divergence)
        np.maximum.at(highest, group, divergence)
        if self.lowest == "padding":
            longest = np.zeros(groups)
            np.maximum.at(longest, group, np.bincount(of_token(batch, batch.episode))[of_token(batch, batch.episode)])
            lowest[longest < longest.max(initial=0)] = 0.0
        within = (divergence - lowest[group]) / ((highest - lowest)[group] + EPSILON)
        return Changed(values * (1 + (self.alpha - 1) * within), defined)
