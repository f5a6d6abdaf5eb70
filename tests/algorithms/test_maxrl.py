"""MaxRL: its ratio, what it refuses, and what holds for any batch of returns that are at least 0."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.maxrl import MaxRL
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import episode

quick = settings(max_examples=40, deadline=None)
made = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 0.0, 1.0, 0.25, 10.0])), min_size=1, max_size=9)


def credit(tasks: list[tuple[str, float]], method: MaxRL | None = None, **fields: object) -> list[float]:
    """The advantage of each episode, which its steps share."""
    trajectories = [episode([0.0, reward], group=group, **fields) for group, reward in tasks]  # type: ignore[arg-type]
    found = (method or MaxRL()).advantages(as_batch(trajectories)).values
    np.testing.assert_array_equal(found[::2], found[1::2])
    return [float(value) for value in found[::2]]


@given(made)
@quick
def test_it_is_the_lead_over_the_mean_by_the_mean(tasks: list[tuple[str, float]]) -> None:
    for (group, reward), found in zip(tasks, credit(tasks, MaxRL(epsilon=0.0))):
        mean = np.mean([r for g, r in tasks if g == group])
        assert found == pytest.approx((reward - mean) / mean if mean else 0.0, abs=1e-9)


@given(made, st.randoms(use_true_random=False))
@quick
def test_order_other_tasks_and_faulted_episodes_change_nothing(tasks: list[tuple[str, float]], rng: random.Random) -> None:
    before, order = credit(tasks), list(range(len(tasks)))
    rng.shuffle(order)
    np.testing.assert_allclose(credit([tasks[i] for i in order]), [before[i] for i in order], atol=1e-9)
    np.testing.assert_allclose(credit([*tasks, ("d", 3.0), ("d", 0.0)])[: len(tasks)], before, atol=1e-9)
    cut = [episode([5.0], group=group, error="timeout") for group in "abc"]
    played = [episode([0.0, reward], group=group) for group, reward in tasks]
    found = MaxRL().advantages(as_batch([*played, *cut]))
    np.testing.assert_allclose(found.values[: 2 * len(tasks) : 2], before, atol=1e-9)
    assert not found.defined[2 * len(tasks) :].any()


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3])
def test_equal_returns_give_exact_zeros(reward: float) -> None:
    for epsilon in (1e-6, 0.0):
        assert credit([("a", reward)] * 7, MaxRL(epsilon=epsilon)) == [0.0] * 7


def test_a_lone_episode_gets_nothing_or_its_own_return_and_never_a_million_times_that() -> None:
    assert credit([("a", 1.0)]) == [0.0]
    assert credit([("a", 1.0)], MaxRL(singleton_group="raw")) == [1.0]


def test_the_rarer_a_success_the_more_it_counts() -> None:
    one_in = {n: credit([("a", 1.0)] + [("a", 0.0)] * (n - 1))[0] for n in (2, 4, 8)}
    assert one_in == {n: pytest.approx(n - 1, rel=1e-5) for n in one_in}


def test_a_return_below_0_is_refused_in_words() -> None:
    with pytest.raises(
        ValueError, match=r"MaxRL divides by a task's mean return, and an episode returns -0\.5 \(trajectory 1\)"
    ):
        credit([("a", 1.0), ("a", -0.5)])
    credit([("a", 1.0), ("a", 0.0)])
    with pytest.raises(ValueError, match=r"shaped_at\.invalid_action is 'return'.*allowed: advantage, none"):
        MaxRL(shaped_at={"invalid_action": "return"}).check(["invalid_action"])
    MaxRL(shaped_at={"invalid_action": "return"}).check([])
    MaxRL().check(["invalid_action"])
