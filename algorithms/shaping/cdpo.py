"""cDPO (arXiv 2411.19943): DPO in whose worse episodes critical tokens weigh most, those that only a bad model would say.

Which they are two models tell, one that imitates good episodes and one that imitates bad ones. The authors train both before;
here they learn beside the policy, from each iteration's episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Batch, Floats
from algorithms.shaping.outcome_model import OutcomeModel
from algorithms.shaping.pairs import Pair, PairObjective, positionwise_dpo, weighted_dpo
from algorithms.shaping.preference import Fit
from envs.common.structured import NonNegative


@dataclass
class CDPO(PairObjective, OutcomeModel):
    """Tokens of a worse episode weigh beta (1 - s), with s = softmax(z_good + contrast (z_good - z_bad)) of the token."""

    contrast: NonNegative = 1.0
    """How far s goes beyond the good model, away from the bad one."""
    weighs: Literal["worse", "both"] = "worse"
    """both: tokens of a better episode weigh beta s instead of beta."""
    sigmoid_of: Literal["sums", "positions"] = "sums"
    """What the loss is made of: weighted sums over both episodes (paper), or differences place by place (official)."""

    name: ClassVar[str] = "cdpo"
    needs_other: ClassVar[bool] = True

    def read(self, batch: Batch, reference: Floats) -> tuple[Floats, dict[str, float]]:
        """[T] s, after both models took their steps."""
        metrics: dict[str, float] = {}
        for named, model, good in (("good", self.model, True), ("bad", self.of_trainer(self.other), False)):
            learned = self.learned(batch, np.zeros(len(reference)), model, _imitating(good), after=False)
            metrics |= {f"{named}_{key}": value for key, value in learned.metrics.items() if key in ("loss", "grad_norm")}
        critical = np.exp(self.model.contrasted(batch, self.other, self.contrast))
        counted = np.repeat(batch.included, batch.tokens)
        return critical, {**metrics, "s": float(critical[counted].mean()) if counted.any() else 0.0}

    def loss(self, pairs: Sequence[Pair], policy: Floats, reference: Floats, read: Floats) -> Fit:
        """`read`: s."""
        of_loss = weighted_dpo if self.sigmoid_of == "sums" else positionwise_dpo
        better = read if self.weighs == "both" else np.ones(len(read))
        return of_loss(pairs, policy - reference, self.beta * better, self.beta * (1 - read))


def _imitating(good: bool) -> Callable[[Batch, Floats, Floats], tuple[Fit, Floats]]:
    """Fits to the good or to the bad episodes: the mean of -log pi over their tokens."""

    def fit(batch: Batch, label: Floats, logprobs: Floats) -> tuple[Fit, Floats]:
        chosen = np.repeat(((label > 0) == good)[batch.episode], batch.tokens)
        count = int(chosen.sum())
        gradient = np.where(chosen, -1 / max(1, count), 0.0)
        return Fit(float(gradient @ logprobs), gradient, count, 0.0), gradient

    return fit
