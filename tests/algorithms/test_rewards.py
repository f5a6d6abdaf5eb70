"""Critiques, sums in min form, budgets of turns and rewards for length, by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from algorithms.brpo import BRPO
from algorithms.grounded import GroundedPRM as GroundedMethod
from algorithms.pure import PURE, min_form
from algorithms.shaping.critique import Critique, voted
from algorithms.shaping.grounded_prm import GroundedPRM
from algorithms.shaping.length import Length
from envs.common.structured import ConfigError
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import episode


class Said:
    """A judge that says the same of every episode."""

    def __init__(self, critiques: list[tuple[int, ...] | None]) -> None:
        self.critiques_of_each, self.metrics = critiques, {"calls": 4.0}

    async def critiques(self, trajectories: Any, count: int) -> Any:
        return [self.critiques_of_each] * len(trajectories)


def test_a_critique_that_cannot_be_read_has_no_vote() -> None:
    said: list[tuple[int, ...] | None] = [(0, 2), None, (2,), None]
    assert np.flatnonzero(voted(said, 3, "intersection")).tolist() == [2]
    assert np.flatnonzero(voted(said, 3, "majority")).tolist() == [0, 2]
    assert np.flatnonzero(voted(said, 3, "union")).tolist() == [0, 2]
    for vote in ("intersection", "majority", "union"):
        assert not voted([None, None], 3, vote).any()  # type: ignore[arg-type]
        assert not voted([(), ()], 3, vote).any()  # type: ignore[arg-type]


def test_a_wrong_step_pays_and_a_faulted_episode_is_not_judged() -> None:
    shaping = Critique(critiques=4, vote="intersection", weight=0.5)
    shaping.judge = Said([(1,), None, (0, 1), (1,)])  # type: ignore[assignment]
    rewards = asyncio.run(shaping.shape(as_batch([episode([0, 0, 1]), episode([0, 0], error="timeout"), episode([0, 1])])))
    np.testing.assert_equal(rewards, [0, -0.5, 0, np.nan, np.nan, 0, -0.5])
    assert shaping.metrics == {"wrong": 0.4, "unread": 0.25, "calls": 4.0}


def test_min_form_nears_the_smallest_reward_as_it_gets_colder() -> None:
    reward, of = np.array([0.3, -0.2, 0.9, 0.5]), np.array([0, 0, 0, 1])
    assert np.bincount(of, min_form(reward, of, 1e-3)) == pytest.approx([-0.2, 0.5])
    assert np.bincount(of, min_form(reward, of, None)) == pytest.approx([1 / 3, 0.5])
    assert np.isfinite(min_form(reward * 1e6, of, 1e-3)).all()


def test_a_bad_step_takes_from_itself_and_those_before_it() -> None:
    played = [episode([0, 0, 1], tokens=1), episode([0, 0, 1], tokens=1)]
    for step, process in zip(played[0].steps, (0.5, -1.0, 0.5)):
        step.shaped_rewards["process"] = process
    values = PURE(temperature=0.01).advantages(as_batch(played)).values
    assert values == pytest.approx([-1.0, -1.0, 0.0, 1.0, 2 / 3, 1 / 3], abs=1e-6)


def test_an_early_success_is_worth_more_where_it_may_be_stopped_early() -> None:
    """Both win; one within the first budget. With only the whole episode counted, neither is better."""
    played = [episode([0, 10]), episode([0, 0, 0, 10])]
    found = BRPO(budgets=[2]).advantages(as_batch(played)).values
    assert found == pytest.approx([2.5, 2.5, -2.5, -2.5, 2.5, 2.5])
    last = BRPO(budgets=[2], prior="last").advantages(as_batch(played))
    assert last.values[:4] == pytest.approx([0, 0, 0, 0])


@pytest.mark.parametrize("budgets", [[], [5, 5], [9, 3]])
def test_budgets_must_rise(budgets: list[int]) -> None:
    with pytest.raises((ConfigError, ValueError), match="budgets is"):
        BRPO(budgets=budgets)


@pytest.mark.parametrize(("form", "expected"), [("triangle", [0.5, 1.0, 0.5, 0.0, 0.0]), ("band", [1.0, 1.0, 0.5, 0.0, 0.0])])
def test_a_length_is_rewarded_by_its_budget(form: Any, expected: list[float]) -> None:
    played = [episode([0.0] * steps, turn_budget=4) for steps in (2, 4, 6, 8, 12)]
    played += [episode([0.0] * 3), episode([0.0] * 2, turn_budget=4, error="timeout")]
    shaping = Length(weight=2.0, form=form)
    batch = as_batch(played)
    rewards = asyncio.run(shaping.shape(batch))
    last = np.cumsum(batch.length) - 1
    np.testing.assert_equal(rewards[last], [*(2 * np.array(expected)), np.nan, np.nan])
    assert np.isnan(np.delete(rewards, last)).all()
    assert shaping.metrics == {"spent": pytest.approx(1.6), "within": 0.4}


def test_tokens_are_those_of_an_answer() -> None:
    played = [episode([0.0] * 3, tokens=5, token_budget=10)]
    assert asyncio.run(Length().shape(as_batch(played)))[-1] == 0.5


class Table:
    """A model of steps that can say anything: a number for each, moved along the gradient."""

    def fit(self, batch: Any, gradient: Any, epochs: int) -> Any:
        found = np.zeros(len(batch.reward))
        before = found.copy()
        for _ in range(epochs):
            found -= gradient(found)
        return before, found, {}


def test_a_step_model_learns_what_branches_measured_and_the_rules_checked() -> None:
    played = [episode([0, 0, 1], states="abc"), episode([0, 0], states="ab", error="timeout"), episode([0, 0, 0], states="aba")]
    played[2].steps[2].valid = False
    batch = as_batch(played)
    batch.state_values = np.array([0.5, 0.75, np.nan, 0.1, 0.2, 0.5, 0.25, 0.0])
    shaping = GroundedPRM(penalty=2.0, epochs=200)
    shaping.model, shaping.discount = Table(), 1.0
    # Before the first episode's last step nothing was measured; in the third b led back to a, where the action was refused.
    np.testing.assert_equal(shaping.labels(batch), [0.25, np.nan, np.nan, np.nan, np.nan, -0.25, -2.25, -2.0])
    found = asyncio.run(shaping.shape(batch))
    np.testing.assert_allclose(found[[0, 5, 6, 7]], [0.25, -0.25, -2.25, -2.0], atol=1e-6)
    np.testing.assert_equal(found[[1, 2, 3, 4]], [0, 0, np.nan, np.nan])
    assert shaping.metrics["measured"] == 4 / 6
    assert shaping.metrics["loss"] == pytest.approx(np.mean(np.square([0.25, 0.25, 2.25, 2.0])))


def test_branches_begin_before_and_after_every_measured_step() -> None:
    batch = as_batch([episode([0.0] * 7, tokens=2), episode([0.0] * 2, tokens=1)])
    method = GroundedMethod(every=3)
    assert method.places(batch).tolist() == [0, 2, 6, 8, 12, 14, 15]
    assert method.most_places(7, 0) == 5
