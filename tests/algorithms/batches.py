"""Episodes as a batch, for tests of what reads one."""

from __future__ import annotations

from collections.abc import Sequence

from agents.training.columns import columns
from algorithms.base import Batch
from envs.trajectory import Trajectory


def as_batch(trajectories: Sequence[Trajectory]) -> Batch:
    return Batch(**columns(trajectories))
