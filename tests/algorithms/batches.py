"""Episodes as a batch, for tests of what reads one, and the credit of a method as a table to compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.training.columns import columns
from algorithms.base import Algorithm, Batch
from envs.trajectory import Trajectory

Table = list[list[Any]]
"""Of each trajectory the number of each step, or the list of its tokens'; None where there is none."""


def as_batch(trajectories: Sequence[Trajectory]) -> Batch:
    return Batch(**columns(trajectories))


def batch_of(played: Sequence[Trajectory], method: Algorithm | None = None) -> Batch:
    """With all that methods may ask for, as a function of each episode alone, so that their order changes nothing.

    Of shaped rewards only those are added without which the `method` makes no sense; others would count as rewards.
    """
    batch = as_batch(played)
    steps = [step for t in played for step in t.steps]
    state = np.array([ord(step.state_key[0]) if step.state_key else 0 for step in steps], dtype=np.int64)
    mark = state + np.array([len(step.observation) + 3 * len(step.response_ids) for step in steps], dtype=np.int64)
    place = np.array([(m + 5 * token) % 11 for m, step in zip(mark, steps) for token in step.response_ids], dtype=np.int64)
    batch.logprobs = np.log(0.5 + place / 22)
    batch.entropy = -batch.logprobs
    batch.sum_pi_squared = np.exp(2 * batch.logprobs) + 0.05
    batch.hindsight = -0.3 * (state % 7)
    batch.greedy = np.array([float(len(t.group_id) % 3) for t in played for _ in t.steps])
    known = [np.nan if t.group_id.endswith("3") else 0.1 for t in played for _ in t.steps]  # no answer to task 3
    batch.answers = np.log(np.array(known, dtype=np.float64)) + 0.1 * (state % 3)
    batch.state_values = np.where(mark % 4 == 0, np.nan, (mark % 7) / 6)
    batch.prefix_values = np.where(place % 3 > 0, np.nan, place / 10)
    # Episodes whose tasks and outcomes agree are leaves of a tree, which share their first step.
    trees: dict[tuple[str, bool], int] = {}
    batch.tree = np.array([trees.setdefault((t.group_id, t.success), len(trees)) for t in played], dtype=np.int64)
    shared = np.where(batch.position == 0, batch.tree[batch.episode], len(played) + batch.episode)
    batch.segment = np.repeat(shared, batch.tokens)
    if method is not None and method.reads_shaping:
        batch.shaped.setdefault(method.reads_shaping, (mark % 5) / 10)
    return batch


def credit(method: Algorithm, played: Sequence[Trajectory], part: str = "advantage") -> Table:
    """The advantage, or a part of it, as of `batch_of`."""
    batch = batch_of(played, method)
    found = iter(method.advantages(batch).per_step(batch))
    return [[next(found)[part] for _ in t.steps] for t in played]


def numbers(table: Table) -> np.ndarray:
    """All of a table, trajectory by trajectory; nan for None."""
    flat = [one for row in table for step in row for one in (step if isinstance(step, list) else [step])]
    return np.array(flat, dtype=np.float64)


def same(found: Table, expected: Table) -> None:
    """Equal up to rounding, trajectory by trajectory."""
    assert [len(row) for row in found] == [len(row) for row in expected]
    np.testing.assert_allclose(numbers(found), numbers(expected), atol=1e-9, rtol=1e-9)
