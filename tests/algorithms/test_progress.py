"""Progress attribution: the loss of its estimator, and what becomes of an episode's reward."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.base import Batch, Floats
from algorithms.gigpo import GiGPO
from algorithms.grpo import GRPO
from algorithms.ppo import PPO
from algorithms.shaping.progress import Progress, others
from algorithms.stats import episode_returns
from envs.trajectory import Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import episode, shape, trajectories

quick = settings(max_examples=25, deadline=None)


Fitted = tuple[Floats, Floats, dict[str, float]]


class Table:
    """A model of steps that can say anything: a number for each, moved along the gradient."""

    def __init__(self, lr: float = 0.1) -> None:
        self.lr = lr

    def fit(self, batch: Batch, gradient: Callable[[Floats], Floats], epochs: int) -> Fitted:
        before = np.sin(np.arange(len(batch.reward), dtype=np.float64))
        after = before.copy()
        for _ in range(epochs):
            after -= self.lr * gradient(after)
        return before, after, {}


def fitted(played: list[Trajectory], **settings: Any) -> tuple[Batch, Floats, dict[str, float]]:
    shaping, batch = Progress(**settings), as_batch(played)
    shaping.model = Table()
    return batch, asyncio.run(shaping.shape(batch)), shaping.metrics


@given(trajectories())
@quick
def test_the_gradient_is_that_of_the_mean_squared_error_of_episodes(played: list[Trajectory]) -> None:
    batch = as_batch(played)
    returns = episode_returns(batch, batch.reward)
    seen: list[tuple[Floats, Floats]] = []

    class Spy(Table):
        def fit(self, batch: Batch, gradient: Callable[[Floats], Floats], epochs: int) -> Fitted:
            numbers = np.linspace(-1, 1, len(batch.reward))
            seen.append((numbers, gradient(numbers)))
            return numbers, numbers, {}

    shaping = Progress()
    shaping.model = Spy()
    asyncio.run(shaping.shape(batch))
    ((numbers, gradient),) = seen

    def loss(numbers: Floats) -> float:
        missing = (episode_returns(batch, numbers) - returns)[batch.included & (batch.position == 0)]
        return float((missing**2).mean()) if len(missing) else 0.0

    for step in range(len(numbers)):
        away = np.zeros(len(numbers))
        away[step] = 1e-4
        assert gradient[step] == pytest.approx((loss(numbers + away) - loss(numbers - away)) / 2e-4, abs=1e-6)
    assert not gradient[~batch.included].any()
    assert shaping.metrics["loss"] == pytest.approx(loss(numbers))


@given(trajectories(), st.sampled_from([0.0, 0.5]))
@quick
def test_the_same_return_is_divided_among_the_steps_and_grounding_comes_on_top(
    played: list[Trajectory], grounding: float
) -> None:
    batch, found, _ = fitted(played, grounding=grounding, epochs=200)
    assert np.isnan(found[~batch.included]).all()
    left = batch.finished()
    total = batch.reward + np.nan_to_num(found)  # what a method reads
    for number, trajectory in enumerate(batch.trajectories):
        mine = batch.episode == number
        if trajectory.error is None and mine.any():
            expected = trajectory.total_reward + grounding * batch.valid[mine].sum()
            assert total[mine].sum() == pytest.approx(expected, abs=0.05)
    assert len(left["reward"]) == batch.included.sum()


def test_without_replacing_the_environments_reward_counts_beside_it() -> None:
    played = [episode([0.0, 4.0], valid=[True, False])]
    batch, apart, _ = fitted(played, grounding=0.0)
    _, beside, _ = fitted(played, grounding=0.0, replaces=False)
    np.testing.assert_allclose(beside - apart, batch.reward)
    _, grounded, _ = fitted(played, grounding=0.5)
    np.testing.assert_allclose(grounded - apart, [0.5, 0.0])


@pytest.mark.parametrize("method", [GRPO(), GiGPO(), PPO()], ids=str)
def test_the_environments_own_reward_stays_as_it_is(method: Any) -> None:
    played = [episode([0.0, 4.0], states="ab"), episode([0.0, 0.0], states="ab")]
    shaping = Progress()
    shaping.model = Table()
    shape(shaping, played, "progress")
    assert [step.reward for one in played for step in one.steps] == [0, 4, 0, 0]
    batch = as_batch(played)
    scored = method.score(batch)
    np.testing.assert_allclose(scored.reward, batch.reward + batch.shaped["progress"])


@pytest.mark.parametrize("value", [10.0, 0.1, 1 / 3, 8.573749542236328])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_in_the_official_place_of_the_estimator_equal_returns_contribute_exactly_0(value: float, n: int) -> None:
    _, found, metrics = fitted([episode([0.0, value]) for _ in range(n)], source="others", replaces=False, grounding=0.0)
    assert not found.any()
    assert metrics == {"contribution": 0.0}


@given(trajectories(faults=False))
@quick
def test_it_is_the_return_less_the_mean_of_the_others(played: list[Trajectory]) -> None:
    batch = as_batch(played)
    found = others(batch, episode_returns(batch, batch.reward))
    for number, one in enumerate(played):
        rest = [other.total_reward for other in played if other.group_id == one.group_id and other is not one]
        expected = one.total_reward - np.mean(rest) if rest else 0.0
        np.testing.assert_allclose(found[batch.episode == number], expected, atol=1e-9)


def test_by_steps_left_the_last_step_gets_nothing() -> None:
    batch = as_batch([episode([0.0] * 3), episode([0.0])])
    found = Progress(grounding=0.0, weight="steps_left").rewards(batch, np.ones(4))
    assert found.tolist() == [2, 1, 0, 0]


def test_a_place_where_it_would_take_off_another_reward_is_refused() -> None:
    Progress().check(GRPO())
    Progress(replaces=False).check(GRPO(shaped_at={"progress": "advantage"}))
    with pytest.raises(ValueError, match=r"replaces is true.*shaped_at\.progress is 'advantage'; allowed with it: reward"):
        Progress().check(GRPO(shaped_at={"progress": "advantage"}))


def test_without_a_model_it_says_so() -> None:
    with pytest.raises(ValueError, match="progress has no model"):
        asyncio.run(Progress().shape(as_batch([episode([1.0])])))
