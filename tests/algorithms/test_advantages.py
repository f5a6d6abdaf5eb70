"""Properties of the methods: what must hold for any batch, and small cases worked out by hand."""

from __future__ import annotations

import copy
import math
import random
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import pytest
import torch
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
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import episode, official, shape, trajectories

METHODS: dict[str, Algorithm] = {
    "gigpo": GiGPO(),
    "gigpo mean": GiGPO(normalize="mean"),
    "gigpo official": GiGPO(**official("gigpo")),
    "gigpo shaped": GiGPO(shaped_at={"invalid_action": "return", "subgoal": "reward"}),
    "grpo": GRPO(),
    "grpo mean": GRPO(normalize="mean"),
    "rloo": RLOO(),
    "rloo official": RLOO(episode_stats="rows", singleton_group="raw"),
    "reinforce_pp_baseline": ReinforceBaseline(),
    "reinforce_pp_baseline official": ReinforceBaseline(episode_stats="rows", singleton_group="raw"),
}
WITHIN_TASKS = {name: method for name, method in METHODS.items() if not isinstance(method, ReinforceBaseline)}
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
quick = settings(max_examples=25, deadline=None)


def credit(method: Algorithm, played: list[Trajectory]) -> list[list[float | None]]:
    """The method's advantage of each step of each trajectory; None where it has no opinion."""
    found = method.advantages(batch := as_batch(played))
    table: list[list[float | None]] = [[] for _ in played]
    for number, value, defined in zip(batch.episode, found.values, found.defined, strict=True):
        table[number].append(float(value) if defined else None)
    return table


def approx(expected: list[list[float | None]]) -> list[Any]:
    return [[None if one is None else pytest.approx(one, abs=1e-9) for one in row] for row in expected]


# -- GiGPO and GRPO by hand -------------------------------------------------------------------------------------------------


def test_gigpo_adds_the_episodes_advantage_and_the_steps_advantage_among_visits_of_its_state() -> None:
    won, lost = episode([0, 10], states="ab"), episode([0, 0], states="ac")
    # A_E = (10 - 5) / std and (0 - 5) / std with std = sqrt(50); in state a the returns 9.5 and 0 are compared.
    e, s = 5 / (math.sqrt(50) + 1e-6), 4.75 / (math.sqrt(2 * 4.75**2) + 1e-6)
    assert credit(GiGPO(), [won, lost]) == approx([[e + s, e], [-e - s, -e]])
    assert credit(GiGPO(normalize="mean", omega=0.8), [won, lost]) == approx([[5 + 0.8 * 4.75, 5], [-5 - 0.8 * 4.75, -5]])


def test_rloo_compares_an_episode_with_the_others_of_its_task() -> None:
    played = [episode([0, 6]), episode([3.0]), episode([0.0])]
    assert credit(RLOO(), played) == approx([[4.5, 4.5], [0], [-4.5]])


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
    assert credit(GRPO(normalize="mean"), played) == approx([[5], [-5, -5, -5]])
    assert credit(GRPO(normalize="mean", episode_stats="rows"), played) == approx([[7.5], [-2.5, -2.5, -2.5]])


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
    assert credit(exact, [first, second]) == approx([[5], [-5]])
    assert credit(similar, [first, second]) == approx([[10], [-10]])


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


@pytest.mark.parametrize("reward", [10.0, 0.1, 1 / 3, 8.573749542236328])
@pytest.mark.parametrize("n", [2, 3, 7, 64])
def test_a_group_of_equal_returns_gives_exactly_0(reward: float, n: int) -> None:
    # Three times 0.1 summed is not 0.3: the deviations are rounding, and must not be divided by their own rounding.
    played = [episode([0.0, reward, reward, reward], states="abcd") for _ in range(n)]
    for method in METHODS.values():
        assert credit(method, played) == [[0.0] * 4] * n


@methods
@given(trajectories(faults=False), st.randoms(use_true_random=False))
@quick
def test_the_order_of_episodes_does_not_matter(method: Algorithm, played: list[Trajectory], rng: random.Random) -> None:
    order = list(range(len(played)))
    rng.shuffle(order)
    before, after = credit(method, played), credit(method, [played[i] for i in order])
    assert after == approx([before[i] for i in order])


@pytest.mark.parametrize("method", WITHIN_TASKS.values(), ids=WITHIN_TASKS)
@given(trajectories(), trajectories())
@quick
def test_other_tasks_change_nothing(method: Algorithm, played: list[Trajectory], others: list[Trajectory]) -> None:
    for other in others:
        other.group_id = f"other {other.group_id}"
    assert credit(method, others + played)[len(others) :] == approx(credit(method, played))


# -- every token once -------------------------------------------------------------------------------------------------------


@methods
@given(trajectories())
@quick
def test_every_sampled_token_has_exactly_one_advantage(method: Algorithm, played: list[Trajectory]) -> None:
    batch = as_batch(played)
    values, defined = method.advantages(batch).per_token(batch)
    expected = [
        (value, t.error is None)
        for t, row in zip(played, credit(method, played))
        for step, value in zip(t.steps, row)
        for _ in step.response_ids
    ]
    assert len(values) == len(defined) == sum(len(step.response_ids) for t in played for step in t.steps)
    assert values.dtype == torch.float32
    assert values.tolist() == [pytest.approx(value or 0.0, rel=1e-6) for value, _ in expected]
    assert defined.tolist() == [flag for _, flag in expected]


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


@methods
@given(trajectories(faults=False), trajectories(faults=False))
@quick
def test_failed_episodes_get_no_advantage_and_change_no_others(
    method: Algorithm, played: list[Trajectory], cut: list[Trajectory]
) -> None:
    for trajectory in cut:
        trajectory.error = "timeout after 30 s"
    found = credit(method, played + cut)
    assert found[: len(played)] == approx(credit(method, played))
    assert found[len(played) :] == [[None] * len(t.steps) for t in cut]


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
    assert credit(GiGPO(), played) == approx([[0, -0.1], [0, 0]])
    assert credit(GRPO(), played) == approx([[0, -0.1], [0, 0]])
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
    assert credit(GRPO(normalize="mean", shaped_at={"subgoal": entry}), played) == approx(expected)


def test_a_shaped_reward_that_enters_as_reward_is_discounted_to_earlier_steps() -> None:
    played = [episode([0.0, 0.0], states="ab"), episode([0.0, 0.0], states="ab")]
    played[0].steps[1].shaped_rewards["subgoal"] = 2.0
    method = GiGPO(normalize="mean", gamma=0.5, shaped_at={"subgoal": "reward"})
    assert credit(method, played) == approx([[1 + 0.5, 1 + 1], [-1 - 0.5, -1 - 1]])


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
