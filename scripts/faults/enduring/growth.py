"""Whether processes grow: the slope of a line through what they held, with a height of its own for each process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .training import Sample

SETTLING = 200
"""First iterations of a process, which are left out: caches fill."""
FEWEST = 200
"""Samples below which a slope says nothing."""
MOST = {"kilobytes": 10.0, "files": 0.01}
"""That a process may hold more after an iteration."""


@dataclass(frozen=True)
class Growth:
    """Of all processes of one kind."""

    kind: str
    what: str
    """kilobytes or files."""
    slope: float | None
    """By iteration; None: too few samples."""
    highest: int
    """That a process ever held."""

    @property
    def too_much(self) -> bool:
        return self.slope is not None and self.slope > MOST[self.what]


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """Memory and open files of trainers and of workers."""
    found = []
    for kind in dict.fromkeys(sample.kind for sample in samples):
        of_kind = [sample for sample in samples if sample.kind == kind]
        for what in MOST:
            highest = max(getattr(sample, what) for sample in of_kind)
            found.append(Growth(kind, what, _slope(of_kind, kind, what), highest))
    return found


def _slope(samples: Iterable[Sample], kind: str, what: str) -> float | None:
    lines: dict[int, list[tuple[int, int]]] = {}
    for sample in samples:
        lines.setdefault(sample.process, []).append((sample.iteration, getattr(sample, what)))
    above = below = 0.0
    count = 0
    for line in lines.values():
        x, y = np.array([point for point in line if point[0] >= line[0][0] + SETTLING]).reshape(-1, 2).T
        if len(x) > 1:
            count += len(x)
            above += float(((x - x.mean()) * (y - y.mean())).sum())
            below += float(np.square(x - x.mean()).sum())
    return above / below if count >= FEWEST and below else None
