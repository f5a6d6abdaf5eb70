"""HAPO's entropy score of tokens (arXiv 2509.16591), by which its loss clips and redistributes advantages.

The score is above 0 where the policy was uncertain and below where it was sure. What follows depends on the ratio, so it is a
part of the loss (`loss.surrogate=hapo`). HAPO's advantages are algorithms/hapo.py; its temperature, which follows the entropy
while tokens are sampled, is agents/models/temperature.py (`rollout.temperature_tau`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.batch import Batch, Bools, Floats, Need
from algorithms.stats import around
from algorithms.transforms import Changed, Transform, column
from envs.common.structured import Fraction

SURE = 1e-8
"""Lowest entropy whose logarithm is taken; a token that had no alternative has 0."""


@dataclass
class HAPO(Transform):
    """h = (log H - log H of the pivot) over its largest value above 0, and over its largest distance below: from -1 to 1."""

    pivot: Fraction = 0.8
    """Quantile of the iteration's entropies that is neither high nor low (the authors' script)."""
    below: Literal["negative", "positive"] = "negative"
    """Sign of the scores of low entropy. positive: those of the authors' code, where a division by a negative number makes all
    scores positive, so that its treatment of low entropy is never used."""

    needs: ClassVar[frozenset[Need]] = frozenset({"entropy"})
    gives: ClassVar[frozenset[str]] = frozenset({"entropy_score"})

    def apply(self, batch: Batch, values: Floats, defined: Bools, done: float) -> Changed:
        """The advantages as they are. Raises ValueError without batch.entropy."""
        return Changed(values, defined, {"entropy_score": self.score(column(batch, "entropy", self))})

    def score(self, entropy: Floats) -> Floats:
        """[T] h of tokens with entropies [T]."""
        if not len(entropy):
            return np.zeros(0)
        logs = np.log(np.maximum(entropy, SURE))
        pivot, above, below = around(logs, self.pivot)
        from_pivot = logs - pivot
        sign = -1.0 if self.below == "negative" else 1.0
        high = np.divide(from_pivot, above, out=np.zeros(len(logs)), where=from_pivot > 0)
        return high + sign * np.divide(-from_pivot, below, out=np.zeros(len(logs)), where=from_pivot < 0)
