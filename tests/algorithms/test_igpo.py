"""IGPO: small cases worked out by hand, and what must hold for any. What holds of every method stands in test_properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.grpo import GRPO
from algorithms.igpo import IGPO
from envs.trajectory import Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import episode, trajectories

quick = settings(max_examples=25, deadline=None)


def credit(method: IGPO, played: list[Trajectory], probabilities: list[list[float]]) -> list[float]:
    """Advantages of steps, given the answer's probability before each."""
    batch = as_batch(played)
    batch.answers = np.log([p for row in probabilities for p in row])
    return method.advantages(batch).values.tolist()


def test_a_turn_is_credited_for_what_it_and_those_after_it_found_out() -> None:
    played = [episode([0, 0, 1.0]), episode([0, 0.0])]
    found = credit(IGPO(normalize="mean", gamma=0.5), played, [[0.1, 0.6, 0.5], [0.2, 0.3]])
    z = np.array([0.5, -0.1, 1.0, 0.1, 0.0]) - 1.5 / 5
    expected = [z[0] + 0.5 * z[1] + 0.25 * z[2], z[1] + 0.5 * z[2], z[2], z[3] + 0.5 * z[4], z[4]]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_apart_gains_are_compared_with_gains_and_returns_with_returns() -> None:
    played = [episode([0, 0, 1.0]), episode([0, 0.0])]
    found = credit(IGPO(statistics="separate", gamma=0.0, epsilon=0.0), played, [[0.1, 0.6, 0.5], [0.2, 0.3]])
    gains = np.array([0.5, -0.1, 0.1])
    z = (gains - gains.mean()) / gains.std()
    np.testing.assert_allclose(found, [z[0], z[1], 1.0, z[2], -1.0], atol=1e-9)


def test_log_probabilities_can_be_compared_instead() -> None:
    played = [episode([0, 0.0]), episode([0, 0.0])]
    settings = {"normalize": "mean", "statistics": "separate", "gamma": 0.0}
    found = credit(IGPO(gain="log_probability", **settings), played, [[0.1, 0.2], [0.4, 0.4]])  # type: ignore[arg-type]
    np.testing.assert_allclose(found, [np.log(2) / 2, 0, -np.log(2) / 2, 0], atol=1e-12)


@pytest.mark.parametrize("apart", [{"statistics": "separate"}, {"zero_gain": "joins_next"}])
@given(trajectories(faults=False))
@quick
def test_where_nothing_is_found_out_only_the_outcome_is_left(apart: dict[str, Any], played: list[Trajectory]) -> None:
    """GRPO with the population's standard deviation, which differs from the sample's by a factor a task."""
    batch = as_batch(played)
    batch.answers = np.full(len(batch.reward), -2.0)
    at: Any = {"shaped_at": {"invalid_action": "none"}}
    found = IGPO(**apart, **at, epsilon=0.0).advantages(batch).values
    size = np.bincount(batch.group[batch.position == 0])[batch.group]  # [S] episodes of the task
    outcome = GRPO(**at, epsilon=0.0).advantages(batch).values * np.sqrt(size / np.maximum(size - 1, 1))
    np.testing.assert_allclose(found, outcome, atol=1e-9)


@given(trajectories(faults=False), st.floats(-20, 0))
@quick
def test_of_a_task_without_an_answer_turns_are_credited_by_the_outcome(played: list[Trajectory], level: float) -> None:
    batch = as_batch(played)
    batch.answers = np.full(len(batch.reward), np.nan)
    unknown = IGPO().advantages(batch)
    batch.answers = np.full(len(batch.reward), level)
    np.testing.assert_array_equal(unknown.values, IGPO(zero_gain="joins_next").advantages(batch).values)
    assert np.isnan(unknown.parts["gain"]).all()


@pytest.mark.parametrize("method", [IGPO(), IGPO(statistics="separate"), IGPO(baseline="positions", cut=False)], ids=str)
@pytest.mark.parametrize("value", [0.1, 1 / 3, 8.573749542236328])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_equal_returns_and_nothing_found_out_give_exact_zeros(method: IGPO, value: float, n: int) -> None:
    found = credit(method, [episode([value]) for _ in range(n)], [[0.3]] * n)
    assert not np.any(found)
    if method.statistics == "separate" or method.baseline == "positions":
        found = credit(method, [episode([0, 0, value]) for _ in range(n)], [[0.1, 0.1, 0.1]] * n)
        assert not np.any(found)


def test_the_first_release_compares_tokens_at_the_same_place_and_sums_to_the_turns_end_or_on() -> None:
    played = [episode([0, 1.0], tokens=2), episode([0.0], tokens=3)]
    batch = as_batch(played)
    batch.answers = np.log([0.1, 0.6, 0.4])
    cut = IGPO(baseline="positions").advantages(batch).values
    np.testing.assert_allclose(cut, [0.25, 0.25, 0.5, 0.5, -0.25, -0.25, -0.5], atol=1e-12)
    summed = IGPO(baseline="positions", cut=False).advantages(batch).values
    np.testing.assert_allclose(summed, [0.75, 0.75, 0.5, 0.5, -0.75, -0.75, -0.5], atol=1e-12)
