"""A penalty for steps whose action the environment did not accept (Step.valid)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.base import Batch, Floats
from algorithms.shaping import Shaping
from envs.common.structured import NonNegative


@dataclass
class InvalidAction(Shaping):
    """-coefficient at every invalid step; other steps have no entry.

    By default a method adds it to the advantage after normalization: there, `coefficient` is in units of advantage.
    """

    coefficient: NonNegative = 0.1
    """What an invalid step costs; it is subtracted."""

    async def shape(self, batch: Batch) -> Floats:
        """[S] the penalty at invalid steps."""
        return np.where(batch.valid, np.nan, -self.coefficient)
