"""From rows of official trainers to trajectories, batches and flat tensors, and back: what the golden checks share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from algorithms.base import Algorithm, Batch
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch

FOLDER = Path(os.environ.get("GOLDEN_DIR") or Path(__file__).resolve().parents[1] / "golden")
Case = dict[str, Any]
Check = Callable[[Case, float], None]
NORMS = {"mean_norm": "mean", "mean_std_norm": "std"}


# -- from rows of the official trainer to trajectories and back -------------------------------------------------------------


class Rows:
    """Trajectories made of rows in any order (those of one trajectory in time order), and their batch."""

    def __init__(self, group: Sequence[str], episode: Sequence[str], steps: Sequence[Step]) -> None:
        members: dict[str, list[int]] = {}
        for row, name in enumerate(episode):
            members.setdefault(name, []).append(row)
        self.trajectories = [
            Trajectory("golden", group[rows[0]], group[rows[0]], 0, "train", steps=[steps[row] for row in rows])
            for rows in members.values()
        ]
        self.place = np.argsort([row for rows in members.values() for row in rows])
        """[S] where each row stands in the batch."""

    @property
    def batch(self) -> Batch:
        return as_batch(self.trajectories)


def scored(group: Sequence[str], episode: Sequence[str], score: Sequence[float], lengths: Sequence[int]) -> Rows:
    """Rows with a score each: the first row's is the episode's return, what others differ by enters at their own step."""
    first: dict[str, float] = {}
    steps = []
    for name, value, length in zip(episode, score, lengths, strict=True):
        new = name not in first
        total = first.setdefault(name, value)
        shaped = {"row": value - total}
        steps.append(Step("", "", value if new else 0.0, shaped, state_key="-", response_ids=[0] * length))
    return Rows(group, episode, steps)


def per_token(method: Algorithm, rows: Rows, lengths: Sequence[int], width: int) -> np.ndarray:
    """[rows, width] advantages of the response tokens, 0 after a response's end, in the rows' order."""
    batch = rows.batch
    values, defined = method.advantages(batch).per_token(batch)
    assert bool(defined.all())
    flat, ends = values.numpy(), np.cumsum(batch.tokens)
    table = np.zeros((len(lengths), width))
    for row, place in enumerate(rows.place):
        table[row, : lengths[row]] = flat[ends[place] - batch.tokens[place] : ends[place]]
    return table


def close(found: Any, expected: Any, tolerance: float) -> None:
    # The recorded figures are float32: beyond the file's absolute tolerance they carry a relative one.
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=1e-6, atol=tolerance)


def canonical(numbers: Sequence[int]) -> list[int]:
    """Groups numbered in the order of their first row."""
    seen: dict[int, int] = {}
    return [seen.setdefault(number, len(seen)) for number in numbers]


class Padded:
    """Tensors [rows, width] of a case as flat tensors of the tokens under its mask, and back."""

    def __init__(self, given: Case) -> None:
        self.given = given
        self.mask = torch.tensor(given["response_mask"]) > 0
        self.sequence = torch.arange(len(self.mask))[:, None].expand_as(self.mask)[self.mask]

    def flat(self, name: str) -> Tensor:
        return torch.tensor(self.given[name], dtype=torch.float64)[self.mask]

    def table(self, flat: Tensor) -> Tensor:
        return torch.zeros(self.mask.shape, dtype=torch.float64).masked_scatter(self.mask, flat.detach().double())
