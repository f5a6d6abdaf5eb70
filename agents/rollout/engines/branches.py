"""How candidates are scored behind a prefix: the new part of the prefix and all candidates stand in one row, as branches of it.

A branch sees the prefix and itself. Its keys lie in the cache behind the prefix, one branch after another, while its positions
go on from the prefix: places and positions differ here alone. Nobody looks at those places later, so nothing is to be undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile

import numpy as np
import torch
from torch import Tensor

from agents.models.memory import Grid

WIDEST_ROW = 512
"""Tokens of branches in a row: what a pass may add to the places of the cache. More candidates take further passes."""
LARGEST_PASS = 1 << 25
"""Elements of a pass's mask (rows x width x places seen) and of its logits (predicted places x vocabulary)."""


@dataclass(slots=True)
class Branches:
    """A row of a scoring pass."""

    slot: int
    start: int
    """Tokens of the prefix that the cache holds."""
    pending: Sequence[int]
    """The rest of the prefix, at least its last token."""
    candidates: Sequence[Sequence[int]]
    spread: int = field(init=False)
    """Tokens of the branches: the last one of a candidate predicts nothing and is left out."""
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.spread = sum(max(0, len(ids) - 1) for ids in self.candidates)
        self.width = len(self.pending) + self.spread


def first_that_fit(candidates: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
    """As many candidates as one row takes, at least one."""
    total = accumulate(len(ids) for ids in candidates)
    return candidates[: max(1, sum(1 for _ in takewhile(lambda tokens: tokens <= WIDEST_ROW, total)))]


def fitting(rows: Sequence[Branches], vocabulary: int) -> list[Branches]:
    """Those that make one pass, at least one, and of like width, so that little is padded."""
    taken: list[Branches] = []
    length = outputs = 0
    for row in sorted(rows, key=lambda row: row.width, reverse=True):
        length, outputs = max(length, row.start + row.width), outputs + row.spread + 1
        widest = taken[0].width if taken else row.width
        if taken and max((len(taken) + 1) * widest * length, outputs * vocabulary) > LARGEST_PASS:
            break
        taken.append(row)
    return taken


@dataclass(slots=True)
class ScoringPass:
    """A pass in which K tokens are scored."""

    grid: Grid
    """Its outputs [M]: the prefix's last one, and the branches'."""
    predictor: Tensor
    """[K] which of those predicts each token of each candidate, row by row."""
    targets: Tensor
    """[K] these tokens."""


def lay_out(rows: Sequence[Branches]) -> ScoringPass:
    """The pass that scores all candidates of some rows."""
    width = max(row.width for row in rows)
    shape = len(rows), width
    ids, positions, places, upto, begin = (np.zeros(shape, dtype=np.int64) for _ in range(5))
    real = np.zeros(shape, dtype=bool)
    select: list[np.ndarray] = []
    predictor: list[int] = []
    targets: list[int] = []
    outputs = 0
    for number, row in enumerate(rows):
        new, end = len(row.pending), row.start + len(row.pending)
        sizes = np.array([max(0, len(candidate) - 1) for candidate in row.candidates], dtype=np.int64)
        first = np.cumsum(sizes) - sizes  # where each branch begins among the branches' tokens
        within = np.arange(row.spread) - np.repeat(first, sizes)
        ids[number, : row.width] = [*row.pending, *(token for candidate in row.candidates for token in candidate[:-1])]
        real[number, : row.width] = True
        places[number, : row.width] = row.start + np.arange(row.width)
        positions[number, :new] = upto[number, :new] = begin[number, :new] = places[number, :new]
        branches = slice(new, row.width)
        positions[number, branches] = end + within
        upto[number, branches] = end - 1
        begin[number, branches] = end + np.repeat(first, sizes)
        select.append(number * width + np.arange(new - 1, row.width))
        for candidate, at in zip(row.candidates, first.tolist(), strict=True):
            if candidate:
                predictor += [outputs, *range(outputs + 1 + at, outputs + at + len(candidate))]
                targets += candidate
        outputs += 1 + row.spread
    length = int(places.max()) + 1
    # A query sees the prefix up to `upto`, and its own branch from `begin` up to itself.
    seen, place = np.arange(length), places[:, :, None]
    mask = (seen <= upto[:, :, None]) | ((seen >= begin[:, :, None]) & (seen <= place))
    flat = np.flatnonzero(real.ravel())
    grid = Grid(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        mask=torch.from_numpy(mask[:, None]),
        real=torch.from_numpy(flat),
        rows=[row.slot for row in rows],
        slots=torch.from_numpy(np.repeat([row.slot for row in rows], [row.width for row in rows])),
        places=torch.from_numpy(places.ravel()[flat]),
        select=torch.from_numpy(np.concatenate(select)),
    )
    return ScoringPass(grid, torch.tensor(predictor, dtype=torch.long), torch.tensor(targets, dtype=torch.long))
