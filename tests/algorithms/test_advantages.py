"""GiGPO, GRPO and RLOO by hand, what every method returns, and where shaped rewards enter."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.base import Advantages, Algorithm, Batch, Scored
from algorithms.gigpo import GiGPO
from algorithms.grouping import similar_text
from algorithms.grpo import GRPO
from algorithms.reinforce import ReinforceBaseline
from algorithms.rloo import RLOO
from algorithms.shaping.invalid_action import InvalidAction
from algorithms.stats import discounted_returns, normalize
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch, credit, same
from tests.algorithms.examples import episode, official, shape, trajectories

quick = settings(max_examples=25, deadline=None)


# -- GiGPO and GRPO by hand -------------------------------------------------------------------------------------------------


def test_gigpo_adds_the_episodes_advantage_and_the_steps_advantage_among_visits_of_its_state() -> None:
    won, lost = episode([0, 10], states="ab"), episode([0, 0], states="ac")
    # A_E = (10 - 5) / std and (0 - 5) / std with std = sqrt(50); in state a the returns 9.5 and 0 are compared.
    e, s = 5 / (math.sqrt(50) + 1e-6), 4.75 / (math.sqrt(2 * 4.75**2) + 1e-6)
    same(credit(GiGPO(), [won, lost]), [[e + s, e], [-e - s, -e]])
    same(credit(GiGPO(normalize="mean", omega=0.8), [won, lost]), [[5 + 0.8 * 4.75, 5], [-5 - 0.8 * 4.75, -5]])


def test_rloo_compares_an_episode_with_the_others_of_its_task() -> None:
    played = [episode([0, 6]), episode([3.0]), episode([0.0])]
    same(credit(RLOO(), played), [[4.5, 4.5], [0], [-4.5]])


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=9))
@quick
def test_rloo_is_the_mean_of_the_others_subtracted_or_n_of_n_minus_1_of_the_groups(returns: list[float]) -> None:
    played = [episode([one]) for one in returns]
    n, found = len(returns), credit(RLOO(), played)
    others = [[one - (math.fsum(returns) - one) / (n - 1)] for one in returns]
    scaled = [[n / (n - 1) * (value or 0.0) for value in row] for row in credit(GRPO(normalize="mean"), played)]
    tolerance = 1e-7  # deviations of less than 1e-10 of the mean count as none
    np.testing.assert_allclose(np.array(found, float), others, rtol=1e-9, atol=tolerance)
    np.testing.assert_allclose(np.array(found, float), scaled, rtol=1e-12)


def test_reinforce_with_a_baseline_has_the_scale_of_all_tokens_of_the_batch() -> None:
    easy = [episode([4.0], group="easy", tokens=3), episode([2.0], group="easy", tokens=1)]
    hard = [episode([0.0, 10.0], group="hard", tokens=1), episode([0.0], group="hard", tokens=4)]
    deviations = [1.0] * 3 + [-1.0] + [5.0] * 2 + [-5.0] * 4
    mean, std = np.mean(deviations), np.std(deviations, ddof=1)
    expected = [[(d - mean) / std] * n for d, n in ((1, 1), (-1, 1), (5, 2), (-5, 1))]
    np.testing.assert_allclose(
        [one for row in credit(ReinforceBaseline(), easy + hard) for one in row if one is not None],
        [one for row in expected for one in row],
        rtol=1e-8,
    )


def test_a_long_episode_weighs_more_only_if_statistics_are_over_rows() -> None:
    played = [episode([10.0]), episode([0.0, 0.0, 0.0])]
    same(credit(GRPO(normalize="mean"), played), [[5], [-5, -5, -5]])
    same(credit(GRPO(normalize="mean", episode_stats="rows"), played), [[7.5], [-2.5, -2.5, -2.5]])


def test_an_episode_without_others_of_its_task_gets_no_credit_unless_raw_scores_are_asked_for() -> None:
    assert credit(GRPO(), [episode([0, 10])]) == [[0, 0]]
    assert credit(GRPO(normalize="mean", singleton_group="raw"), [episode([0, 10])]) == [[10, 10]]


def test_a_state_visited_once_gives_no_step_advantage() -> None:
    played = [episode([0, 10], states="ab"), episode([0, 0], states="cd")]
    assert credit(GiGPO(), played) == credit(GRPO(), played)


def test_equal_states_of_different_tasks_are_not_compared() -> None:
    played = [episode([0, 10], group="one", states="ab"), episode([0, 0], group="two", states="ab")]
    assert credit(GiGPO(), played) == [[0, 0], [0, 0]]


def test_similar_observations_form_a_step_group() -> None:
    first, second = episode([10.0], states="a"), episode([0.0], states="b")
    first.steps[0].observation, second.steps[0].observation = "results for red shoes, page 1", "results for red shoes, page 2"
    exact, similar = GiGPO(normalize="mean"), GiGPO(normalize="mean", grouping="similarity", similarity=0.9)
    same(credit(exact, [first, second]), [[5], [-5]])
    same(credit(similar, [first, second]), [[10], [-10]])


@given(st.lists(st.text("abc ", min_size=1, max_size=12), max_size=10), st.floats(0.3, 1.0))
@quick
def test_similarity_groups_are_those_of_the_greedy_definition(texts: list[str], threshold: float) -> None:
    steps = [Step(text, "go", state_key="-") for text in texts]
    batch = as_batch([Trajectory("env", "task", "task", 0, "train", steps=steps)])
    firsts: list[str] = []
    expected = []
    for text in texts:
        alike = [n for n, first in enumerate(firsts) if SequenceMatcher(None, text, first).ratio() >= threshold]
        expected.append(alike[0] if alike else len(firsts))
        firsts += [] if alike else [text]
    assert similar_text(batch, threshold).tolist() == expected


def test_a_step_without_state_key_is_an_error_that_says_where() -> None:
    played = [episode([0, 1], states="ab"), episode([0, 1], states="ab")]
    played[1].steps[1].state_key = ""
    with pytest.raises(ValueError, match=r"1 steps have no state_key \(the first: trajectory 1, step 1\)"):
        credit(GiGPO(), played)


@given(trajectories(), st.floats(0, 1))
@quick
def test_returns_are_those_of_the_formula(played: list[Trajectory], gamma: float) -> None:
    batch = as_batch(played)
    expected = [
        sum(gamma**k * later.reward for k, later in enumerate(t.steps[place:])) for t in played for place in range(len(t.steps))
    ]
    np.testing.assert_allclose(discounted_returns(batch, batch.reward, gamma), expected, rtol=1e-12, atol=1e-12)


# -- numbers ----------------------------------------------------------------------------------------------------------------


@given(st.floats(-1e6, 1e6), st.integers(1, 400), st.sampled_from(["std", "mean"]))
@quick
def test_equal_values_give_exactly_0(value: float, n: int, norm: Any) -> None:
    group, counted = np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool)
    assert not normalize(np.full(n, value), group, counted, norm, 1e-6).any()
    assert not normalize(np.full(n, value), group, counted, norm, 0.0).any()


# -- every token once -------------------------------------------------------------------------------------------------------


def test_credit_of_each_step_with_its_parts_as_json_can_hold_it() -> None:
    batch = as_batch([episode([0, 1])])
    flags = np.array([True, False])
    of_steps = Advantages(np.array([1.5, 0.0]), flags, parts={"episode": np.array([1.0, 2.0])})
    assert of_steps.per_step(batch) == [{"advantage": 1.5, "episode": 1.0}, {"advantage": None, "episode": 2.0}]
    lengths = batch.tokens.tolist()
    of_tokens = Advantages(np.arange(sum(lengths), dtype=float), np.ones(sum(lengths), dtype=bool), level="token")
    first, second = (credited["advantage"] for credited in of_tokens.per_step(batch))
    assert [len(first), len(second)] == lengths
    assert first + second == list(range(sum(lengths)))


def test_advantages_of_the_wrong_size_or_not_finite_are_refused() -> None:
    batch = as_batch([episode([0, 1])])
    with pytest.raises(ValueError, match="3 values and 3 flags for a batch of 2 steps"):
        Advantages(np.zeros(3), np.ones(3, dtype=bool)).per_token(batch)
    with pytest.raises(ValueError, match="not finite"):
        Advantages(np.array([0.0, np.nan]), np.ones(2, dtype=bool)).per_token(batch)


# -- failed episodes, copies ------------------------------------------------------------------------------------------------


def test_a_failed_episode_is_never_a_success() -> None:
    played = [episode([10.0]), episode([10.0], error="worker died")]
    assert [t.success for t in played] == [True, True]
    assert as_batch(played).success.tolist() == [True, False]


def test_copied_episodes_and_rows_cannot_enter_statistics() -> None:
    first, second = episode([0, 10], states="ab"), episode([0, 0], states="ab")
    with pytest.raises(ValueError, match="in the list twice"):
        as_batch([first, second, first])
    batch = as_batch([first, second])
    rows = [0, 1, 2, 3, 3]
    arrays = {
        name: getattr(batch, name)[rows] for name in ("group", "episode", "position", "state", "reward", "valid", "tokens")
    }
    with pytest.raises(ValueError, match="each of them once"):
        Batch(**arrays, success=batch.success, faulted=batch.faulted)


# -- shaping ----------------------------------------------------------------------------------------------------------------


@given(trajectories())
@quick
def test_shaping_never_changes_the_environments_reward(played: list[Trajectory]) -> None:
    before = copy.deepcopy(played)
    shape(InvalidAction(0.3), played, "invalid_action")
    for one, other in zip(played, before):
        assert [step.reward for step in one.steps] == [step.reward for step in other.steps]
        for step, old in zip(one.steps, other.steps):
            added = {} if step.valid else {"invalid_action": -0.3}
            assert step.shaped_rewards == {**old.shaped_rewards, **added}
    assert as_batch(played).reward.tolist() == [step.reward for t in before for step in t.steps]


def test_the_penalty_is_given_after_normalisation_so_that_all_failed_groups_do_not_amplify_it() -> None:
    played = [episode([0.0, 0.0], states="ab", valid=[True, False]), episode([0.0, 0.0], states="ab")]
    shape(InvalidAction(0.1), played, "invalid_action")
    same(credit(GiGPO(), played), [[0, -0.1], [0, 0]])
    same(credit(GRPO(), played), [[0, -0.1], [0, 0]])
    inside = credit(GiGPO(**official("gigpo")), played)
    assert inside[0][1] is not None
    assert inside[0][1] < -1


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("none", [[5.0, 5.0], [-5.0, -5.0]]),
        ("advantage", [[5.0, 5.0], [-5.0, -3.0]]),
        ("return", [[5.0, 5.0], [-5.0, -3.0]]),
        ("reward", [[4.0, 4.0], [-4.0, -4.0]]),
    ],
)
def test_a_shaped_reward_enters_where_the_setting_says(entry: Any, expected: list[list[float | None]]) -> None:
    played = [episode([0.0, 10.0]), episode([0.0, 0.0])]
    played[1].steps[1].shaped_rewards["subgoal"] = 2.0
    same(credit(GRPO(normalize="mean", shaped_at={"subgoal": entry}), played), expected)


def test_a_shaped_reward_that_enters_as_reward_is_discounted_to_earlier_steps() -> None:
    played = [episode([0.0, 0.0], states="ab"), episode([0.0, 0.0], states="ab")]
    played[0].steps[1].shaped_rewards["subgoal"] = 2.0
    method = GiGPO(normalize="mean", gamma=0.5, shaped_at={"subgoal": "reward"})
    same(credit(method, played), [[1 + 0.5, 1 + 1], [-1 - 0.5, -1 - 1]])


@dataclass
class LastStep(Algorithm):
    """Three lines of a method, which says nothing of shapings and faults."""

    def credit(self, batch: Scored) -> Advantages:
        last = np.append(np.diff(batch.episode) != 0, True)
        return Advantages(np.where(last, batch.reward - batch.reward.mean(), 0.0))


def test_a_method_cannot_forget_shaped_rewards_and_faulted_episodes() -> None:
    def played() -> list[Trajectory]:
        good = [episode([0.0, 1.0], valid=[True, False]), episode([0.0, 0.0])]
        shape(InvalidAction(0.1), good, "invalid_action")
        good[1].steps[1].shaped_rewards["calm"] = 1.0
        return good

    expected = [0.0, 0.5 - 0.1, 0.0, 0.5]
    found = LastStep().advantages(as_batch(played()))
    assert found.values.tolist() == pytest.approx(expected)
    assert found.parts["shaped"].tolist() == [0.0, -0.1, 0.0, 0.0]
    assert found.metrics == {"zero_episodes": 0.0}
    assert LastStep(shaped_at={"calm": "return"}).advantages(as_batch(played())).values.tolist() == expected
    good, cut = played(), episode([7.0, 9.0], error="timeout")
    with_fault = LastStep().advantages(as_batch([good[0], cut, good[1]]))
    assert with_fault.values.tolist() == pytest.approx([*expected[:2], 0.0, 0.0, *expected[2:]])
    assert with_fault.defined.tolist() == [True, True, False, False, True, True]
    assert with_fault.metrics == found.metrics


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Advantages(np.zeros(3)), "3 values and 3 flags for a batch of 2 steps"),
        (Advantages(np.zeros(2), parts={"baseline": np.zeros(3)}), "part 'baseline' has 3 entries where the batch has 2"),
        (Advantages(np.zeros(2), returns=np.zeros(2)), "returns has 2 entries where the batch has 4"),
        (Advantages(np.array([0.0, np.inf])), "not finite"),
    ],
)
def test_a_method_that_says_too_much_or_too_little_is_refused(wrong: Advantages, message: str) -> None:
    class Wrong(Algorithm):
        def credit(self, batch: Scored) -> Advantages:
            return wrong

    with pytest.raises(ValueError, match=message):
        Wrong().advantages(as_batch([episode([0.0, 1.0])]))
