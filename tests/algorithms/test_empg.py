"""EMPG: its scale, its bonus, and that advantages have mean 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.base import Batch
from algorithms.empg import EMPG
from algorithms.grpo import GRPO
from envs.trajectory import Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import episode, trajectories

quick = settings(max_examples=40, deadline=None)


def batch_of(played: list[Trajectory], seed: int = 0) -> Batch:
    batch = as_batch(played)
    batch.entropy = np.random.default_rng(seed).uniform(0, 3, int(batch.tokens.sum()))
    return batch


@given(trajectories(), st.integers(0, 99), st.floats(0, 3), st.floats(0, 1))
@quick
def test_advantages_have_mean_0_over_the_steps_of_the_batch(played: list[Trajectory], seed: int, k: float, zeta: float) -> None:
    found = EMPG(k=k, zeta=zeta).advantages(batch_of(played, seed))
    own = found.values[found.defined] - found.parts["shaped"][found.defined]
    assert own.sum() == pytest.approx(0, abs=1e-9)


@given(trajectories(faults=False), st.integers(0, 99))
@quick
def test_without_scale_and_bonus_it_is_grpo_less_its_mean(played: list[Trajectory], seed: int) -> None:
    batch = batch_of(played, seed)
    grpo = GRPO(shaped_at={"invalid_action": "none"}).advantages(batch).values
    found = EMPG(k=0.0, zeta=0.0, shaped_at={"invalid_action": "none"}).advantages(batch).values
    np.testing.assert_allclose(found, grpo - grpo.mean(), atol=1e-7)  # the mean scale is 1 + 1e-8


@given(trajectories(faults=False), st.integers(0, 99), st.sampled_from([10.0, 0.1, 1 / 3]))
@quick
def test_equal_returns_leave_the_bonus_alone(played: list[Trajectory], seed: int, reward: float) -> None:
    for t in played:
        for step in t.steps:
            step.reward, step.shaped_rewards = 0.0, {}
        t.steps[-1].reward = reward
    batch = batch_of(played, seed)
    assert not EMPG(zeta=0.0).advantages(batch).values.any()
    found = EMPG().advantages(batch)
    np.testing.assert_allclose(found.values, found.parts["bonus"] - found.parts["bonus"].mean(), atol=1e-12)


def test_a_confident_step_counts_more_and_one_that_leads_to_a_confident_step_is_paid() -> None:
    batch = as_batch([episode([0, 0, 10], tokens=1), episode([0, 0, 0], tokens=1)])
    batch.entropy = np.array([0.0, 2.0, 1.0, 0.0, 2.0, 1.0])
    found = EMPG(zeta=0.05).advantages(batch).parts
    sure, unsure, between = found["modulated"][:3]
    assert sure > between > unsure > 0
    np.testing.assert_allclose(found["modulated"][3:], -found["modulated"][:3])
    assert found["bonus"][:3].tolist() == pytest.approx([0.05 * np.exp(-1), 0.05 * np.exp(-0.5), 0.0])
    assert found["uncertainty"][:3].tolist() == pytest.approx([0, 1, 0.5])


def test_one_step_alone_and_equal_entropies_are_no_division_by_0() -> None:
    alone = batch_of([episode([3.0])])
    assert EMPG().advantages(alone).values.tolist() == [0.0]
    batch = as_batch([episode([0, 10]), episode([0, 0])])
    batch.entropy = np.full(8, 0.7)
    found = EMPG(zeta=0.0).advantages(batch).values
    np.testing.assert_allclose(found, GRPO().advantages(batch).values, atol=1e-7)
