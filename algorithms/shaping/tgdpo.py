"""TGDPO (arXiv 2506.14574): DPO whose tokens weigh by what a model that learned the preference before finds of each.

The authors take a finished model of DPO or SimPO; here it learns beside the policy, as that of `token_reward`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from algorithms.base import Batch, Floats
from algorithms.shaping.outcome_model import OutcomeModel, everywhere
from algorithms.shaping.pairs import Pair, PairObjective, weighted_dpo
from algorithms.shaping.preference import Fit
from envs.common.structured import NonNegative


@dataclass
class TGDPO(PairObjective, OutcomeModel):
    """-log sigmoid(sum beta (1 + guidance r) ratio over the better - sum beta (1 - guidance r) ratio over the worse).

    r = beta (log pi_model - log pi_ref) of the token, not clipped: a weight may turn negative.
    """

    guidance: NonNegative = 0.5
    """alpha of the paper: how much r changes a token's weight; 0 is DPO."""

    name: ClassVar[str] = "tgdpo"

    def read(self, batch: Batch, reference: Floats) -> tuple[Floats, dict[str, float]]:
        """[T] log-ratios of the model to the reference; nan in faulted episodes."""
        learned = self.learned(batch, reference)
        return everywhere(learned.after, np.repeat(batch.included, batch.tokens)), {
            f"model_{key}": value for key, value in learned.metrics.items()
        }

    def loss(self, pairs: Sequence[Pair], policy: Floats, reference: Floats, read: Floats) -> Fit:
        """`read`: log-ratios of the model."""
        guided = self.guidance * self.beta * read
        return weighted_dpo(pairs, policy - reference, self.beta * (1 + guided), self.beta * (1 - guided))
