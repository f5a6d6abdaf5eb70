"""How a run that was disturbed differs from one that was not: in weights, optimizer, numbers, episodes; but not in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.runs import checkpoint
from agents.runs.metrics import read_metrics
from envs.trajectory_file import read

CLOCKS = ("time/", "tokens_per_s", "warmstart/")
"""Beginnings of the names of numbers that differ between equal runs."""
OWN = ("spent", "random")
"""Of a checkpoint's state: seconds, and the process's own generators, of which nothing is drawn."""


def differences(whole: Path, run: Path) -> list[str]:
    """What is not to the last bit the same in two runs that have finished; empty where all is."""
    parts = {"final weights": _weights, "newest checkpoints": _newest, "numbers": numbers, "episodes": _episodes}
    return [f"the {name} differ" for name, of in parts.items() if not same(of(whole), of(run))]


def numbers(run: Path) -> list[dict[str, Any]]:
    """The rows of its metrics without times."""
    rows = read_metrics(run / "metrics.jsonl")
    return [{name: value for name, value in row.items() if not name.startswith(CLOCKS)} for row in rows]


def same(one: Any, other: Any) -> bool:
    """Whether two trees of plain values, arrays and tensors are equal, types and NaN included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


def _weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def _newest(run: Path) -> tuple[int, Any, Any]:
    found = checkpoint.of_run(run, None)
    return found.iteration, found.tensors, {name: part for name, part in found.state.items() if name not in OWN}


def _episodes(run: Path) -> dict[str, Any]:
    return {file.name: [*read(file)] for file in sorted((run / "trajectories").glob("*.gz"))}
