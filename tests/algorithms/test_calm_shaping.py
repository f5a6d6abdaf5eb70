"""CALM as a shaping: a judge's verdicts become rewards beside the environment's, in any method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from algorithms import base
from algorithms.base import Batch
from algorithms.shaping.calm import Calm
from envs.trajectory import Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import episode, shape

Verdicts = list[list[tuple[str, ...]]]


class Told:
    """A judge who says what it was told to: isolates the rewards from any way of judging."""

    def __init__(self, verdicts: Verdicts) -> None:
        self.verdicts, self.metrics = verdicts, {"questions": 7.0}

    async def judge(self, trajectories: Sequence[Trajectory]) -> Verdicts:
        return self.verdicts


def shaped(calm: Calm, verdicts: Verdicts, rewards: list[float]) -> tuple[list[Trajectory], list[list[float]]]:
    played = [episode(rewards, states="abc") for _ in verdicts]
    calm.judge = Told(verdicts)
    shape(calm, played, "calm")
    return played, [[step.shaped_rewards["calm"] for step in t.steps] for t in played]


TWICE: Verdicts = [[("key",), ("key", "door"), ()], [(), (), ()]]


def test_a_subgoal_pays_where_it_was_judged_achieved_and_once_an_episode() -> None:
    played, rewards = shaped(Calm(coefficient=2.0), TWICE, [0.0, 0.0, 1.0])
    assert rewards == [[2.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
    assert [step.judged for step in played[0].steps] == [["key"], ["key", "door"], []]
    assert shaped(Calm(coefficient=2.0, once=False), TWICE, [0.0, 0.0, 1.0])[1] == [[2.0, 4.0, 0.0], [0.0, 0.0, 0.0]]


def test_the_environments_own_reward_stays_what_it_was() -> None:
    played, _ = shaped(Calm(), TWICE, [0.0, -0.01, 1.0])
    assert [[step.reward for step in t.steps] for t in played] == [[0.0, -0.01, 1.0]] * 2


def test_only_the_named_subgoals_pay() -> None:
    played, rewards = shaped(Calm(subgoals=["door", "window"]), TWICE, [0.0, 0.0, 1.0])
    assert rewards[0] == [0.0, 1.0, 0.0]
    assert [step.judged for step in played[0].steps] == [[], ["door"], []]


def test_the_judges_account_is_among_the_metrics() -> None:
    calm = Calm()
    shaped(calm, TWICE, [0.0, 0.0, 1.0])
    assert calm.metrics == {"subgoals": 1.0, "questions": 7.0}


def test_the_potential_form_takes_the_methods_discount_unless_it_has_its_own() -> None:
    calm = Calm("potential")
    calm.discount = 0.5
    assert shaped(calm, TWICE, [0.0, 0.0, 1.0])[1][0] == [0.5, 0.0, -2.0]
    calm = Calm("potential", gamma=1.0)
    calm.discount = 0.5
    assert shaped(calm, TWICE, [0.0, 0.0, 1.0])[1][0] == [1.0, 1.0, -2.0]


@pytest.mark.parametrize("name", base.names())
def test_the_discount_is_that_of_the_return_which_a_method_makes_larger(name: str) -> None:
    method = base.get(name)()
    assert method.discount == (getattr(method, "gamma", 1.0) if "values" in method.needs else 1.0)


def test_methods_that_credit_episodes_as_a_whole_are_refused_the_potential_form_which_they_would_not_feel() -> None:
    """The reason for the refusal, shown: without it the advantages would be the same as without any shaping."""
    for name in base.names():
        method = base.get(name)()
        if method.credits_steps:
            Calm("potential").check(method)
            continue
        Calm("additive").check(method)
        with pytest.raises(ValueError, match="form is 'potential'"):
            Calm("potential").check(method)
        played, _ = shaped(Calm("potential"), [*TWICE, [("key",), (), ()]], [0.0, 0.0, 1.0])
        played[1].steps[2].reward = 0.0
        with_shaping = method.advantages(grown_alone(played))
        for step in (step for t in played for step in t.steps):
            step.shaped_rewards.clear()
        np.testing.assert_allclose(with_shaping.values, method.advantages(grown_alone(played)).values, atol=1e-12)


def grown_alone(played: list[Trajectory]) -> Batch:
    """A batch in which every episode is a tree of its own, for methods that ask for trees."""
    batch = as_batch(played)
    batch.tree = np.arange(len(played))
    return batch


def test_the_additive_form_reaches_every_method_that_needs_nothing_beyond_the_episodes() -> None:
    for name in base.names():
        method = base.get(name)()
        if method.needs or method.reads_shaping or name == "shaped":  # which has no credit of its own
            continue
        played, _ = shaped(Calm(), [[("key",), (), ()], [(), (), ()]], [0.0, 0.0, 0.0])
        found = method.advantages(as_batch(played)).values
        first, second = np.split(found, 2)
        assert first.sum() > second.sum(), name
