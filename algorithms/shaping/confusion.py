"""A judge's verdicts against labels: accuracy, precision, recall, F1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.base import Bools


@dataclass(frozen=True)
class Confusion:
    """Verdicts against labels; a ratio of nothing is 0."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def accuracy(self) -> float:
        return (self.tp + self.tn) / max(1, self.tp + self.fp + self.fn + self.tn)

    @property
    def precision(self) -> float:
        return self.tp / max(1, self.tp + self.fp)

    @property
    def recall(self) -> float:
        return self.tp / max(1, self.tp + self.fn)

    @property
    def f1(self) -> float:
        return 2 * self.tp / max(1, 2 * self.tp + self.fp + self.fn)


def confusion(verdict: Bools, label: Bools) -> Confusion:
    """Count of each combination of two arrays of one shape."""
    verdict, label = np.asarray(verdict, bool), np.asarray(label, bool)
    if verdict.shape != label.shape:
        raise ValueError(f"verdicts of shape {verdict.shape} for labels of shape {label.shape}; give one verdict a label")
    counts = [int((v & w).sum()) for v, w in ((verdict, label), (verdict, ~label), (~verdict, label), (~verdict, ~label))]
    return Confusion(*counts)
