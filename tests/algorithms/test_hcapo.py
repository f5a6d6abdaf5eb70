"""HCAPO: what hindsight adds to GRPO, and what it never takes away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.base import Batch
from algorithms.grpo import GRPO
from algorithms.hcapo import HCAPO
from envs.trajectory import Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import episode, trajectories

quick = settings(max_examples=40, deadline=None)
PLAIN = {"invalid_action": "none", "subgoal": "none"}


def batch_of(played: list[Trajectory], seed: int = 0) -> Batch:
    batch = as_batch(played)
    batch.hindsight = -np.random.default_rng(seed).exponential(2.0, len(batch.group))
    return batch


@given(trajectories(faults=False), st.integers(0, 99))
@quick
def test_where_nobody_succeeds_it_is_grpo(played: list[Trajectory], seed: int) -> None:
    for t in played:
        t.success = False
    batch = batch_of(played, seed)
    np.testing.assert_array_equal(HCAPO().advantages(batch).values, GRPO().advantages(batch).values)


@given(trajectories(faults=False), st.integers(0, 99))
@quick
def test_a_step_of_a_success_never_loses_by_its_step_part(played: list[Trajectory], seed: int) -> None:
    batch = batch_of(played, seed)
    found = HCAPO().advantages(batch).parts
    assert (found["step"][batch.success[batch.episode]] >= 0).all()
    assert ((found["ratio"] >= 0.8) & (found["ratio"] <= 1.2)).all()


@given(trajectories(faults=False), st.integers(0, 99), st.floats(-2, 2))
@quick
def test_only_how_likely_an_action_is_beside_the_others_of_its_episode_matters(
    played: list[Trajectory], seed: int, shift: float
) -> None:
    batch, other = batch_of(played, seed), batch_of(played, seed)
    assert other.hindsight is not None
    other.hindsight = other.hindsight + shift * np.arange(len(played))[other.episode]
    np.testing.assert_allclose(HCAPO().advantages(other).values, HCAPO().advantages(batch).values, atol=1e-9)


@given(trajectories(faults=False), st.integers(0, 99))
@quick
def test_what_nobody_asked_of_failed_episodes_is_not_missed(played: list[Trajectory], seed: int) -> None:
    batch, without = batch_of(played, seed), batch_of(played, seed)
    assert without.hindsight is not None
    without.hindsight[~without.success[without.episode]] = np.nan
    np.testing.assert_array_equal(HCAPO().advantages(without).values, HCAPO().advantages(batch).values)


def test_a_success_whose_rows_did_not_fit_keeps_the_discount_alone() -> None:
    batch = as_batch([episode([0, 10]), episode([0, 0])])
    batch.hindsight = np.full(4, np.nan)
    assert HCAPO().advantages(batch).parts["ratio"].tolist() == [1.0] * 4
    batch.hindsight = np.array([-1.0, np.nan, np.nan, np.nan])
    assert HCAPO().advantages(batch).parts["ratio"].tolist() == [1.0] * 4


def test_smoothing_mixes_a_steps_value_with_the_next() -> None:
    batch = as_batch([episode([0, 0, 10]), episode([0, 0, 0])])
    batch.hindsight = np.zeros(6)
    value = [0.95**2 * 10, 0.95 * 10, 10.0]
    smooth = [(value[0] + value[1]) / 2, (value[1] + value[2]) / 2, value[2]]
    found = HCAPO(alpha=0.5, normalize="mean").advantages(batch).parts["step"]
    np.testing.assert_allclose(found, np.maximum([*smooth, 0, 0, 0] - np.mean([*smooth, 0, 0, 0]), [0, 0, 0, -9, -9, -9]))


def test_a_note_is_for_successes_and_says_what_was_seen_last() -> None:
    won, lost = episode([0, 10], final_observation="A door is open."), episode([0, 0])
    method = HCAPO(sentence="It works: {observation}")
    assert method.note(won) == "It works: A door is open."
    assert method.note(lost) is None
    assert method.note(episode([1.0])) == "It works: "


def test_one_step_alone_gives_no_nan() -> None:
    batch = batch_of([episode([3.0])])
    assert HCAPO().advantages(batch).values.tolist() == [0.0]
    assert HCAPO(singleton_group="raw").advantages(batch).values.tolist() == pytest.approx([3.0])
