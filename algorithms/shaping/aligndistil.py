"""AlignDistil (arXiv 2503.02832): the policy is distilled token by token towards logits that two models extrapolate.

One model learns by DPO which episodes were better, the other by DPO with both exchanged. The target lies beyond the first,
away from the second, the farther the more the two disagree at a token. No reward comes of it: the distillation is part of the
update. The authors train both models before; here they learn beside the policy, from each iteration's pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from algorithms.base import Batch, Floats
from algorithms.shaping.outcome_model import OutcomeModel
from algorithms.shaping.preference import Fit
from envs.common.structured import AboveZero, NonNegative

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class AlignDistil(OutcomeModel):
    """weight (beta / w) KL(pi || softmax(z_dpo + w (z_dpo - z_reverse))), w = extrapolation sum |p_dpo - p_reverse| + 0.001."""

    extrapolation: NonNegative = 10.0
    """beta_2: how far the target goes for each unit of |p_dpo - p_reverse|."""
    weight: AboveZero = 1.0
    """Of the distillation beside the method's own loss."""

    needs_other: ClassVar[bool] = True
    distills: ClassVar[bool] = True

    @property
    def reads_reference(self) -> bool:
        return True

    async def shape(self, batch: Batch) -> Floats:
        """[S] nan: nothing is paid. Both models take their steps. Faulted episodes take no part.

        metrics: loss, number and accuracy of pairs of both.
        """
        against = self.of_trainer(self.model).reference_logprobs(batch)
        learned = self.learned(batch, against, after=False)
        reverse = self.learned(batch, against, self.of_trainer(self.other), self._reversed, after=False)
        self.metrics = {**learned.metrics, **{f"reverse_{key}": value for key, value in reverse.metrics.items()}}
        return np.full(len(batch.reward), np.nan)

    def distill(self, student: Tensor, toward: Tensor, away: Tensor) -> Tensor:
        """[D] the loss at each place."""
        from algorithms.losses import contrast  # a configuration is checked without torch

        strength = self.strength(toward, away)
        target = contrast(toward, away, strength[:, None])
        gap = (student - target).masked_fill(student == -math.inf, 0.0)  # first of what may not be said, or its gradient is nan
        return self.weight * self.beta / strength * (student.exp() * gap).sum(-1)

    def strength(self, toward: Tensor, away: Tensor) -> Tensor:
        """[D] w."""
        return self.extrapolation * (toward.exp() - away.exp()).abs().sum(-1) + 0.001

    def _reversed(self, batch: Batch, label: Floats, ratio: Floats) -> tuple[Fit, Floats]:
        return self.fit(batch, (label <= 0).astype(np.float64), ratio)
