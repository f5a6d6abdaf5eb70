"""The further estimators: small cases worked out by hand, and what they become in special cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import base
from algorithms.gdpo import GDPO
from algorithms.gpg import GPG
from algorithms.grpo import GRPO
from algorithms.hgpo import HGPO, contexts
from algorithms.opo import OPO
from algorithms.otb import OTB
from algorithms.passk import PassKGRPO
from algorithms.reinforce import ReinforcePP
from algorithms.remax import ReMax
from algorithms.rloo import RLOO
from algorithms.stats import deviations, normalize_tokens
from envs.trajectory import Trajectory
from tests.algorithms.batches import batch_of, credit, numbers, same
from tests.algorithms.examples import episode, trajectories

quick = settings(max_examples=12, deadline=None)
# -- all of them ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({"name": "reinforce_pp", "gamma": 1.1}, ["gamma is 1.1", "at most 1"]),
        ({"name": "reinforce_pp", "span": "turn"}, ["span is 'turn'", "episode, response"]),
        ({"name": "reinforce_pp_baseline", "epsilon": -1.0}, ["epsilon is -1.0"]),
        ({"name": "hgpo", "history": -1}, ["history is -1", "at least 0"]),
        ({"name": "hgpo", "history": 1.5}, ["history is 1.5", "whole number"]),
        ({"name": "hgpo", "alpha": math.nan}, ["alpha is nan"]),
        ({"name": "hgpo", "zeros": "lost"}, ["zeros is 'lost'", "kept, dropped"]),
        ({"name": "gpg", "informative": "all"}, ["informative is 'all'", "group, return"]),
        ({"name": "gdpo", "weights": {"subgoal": "much"}}, ["weights.subgoal is 'much'", "a number"]),
        ({"name": "gdpo", "epsilon": -1.0}, ["epsilon is -1.0"]),
        ({"name": "passk_grpo", "epsilon": -1.0}, ["epsilon is -1.0"]),
        ({"name": "igpo", "gamma": 1.5}, ["gamma is 1.5", "at most 1"]),
        ({"name": "igpo", "gain": "bits"}, ["gain is 'bits'", "probability, log_probability"]),
        ({"name": "otb", "lone_token": "one"}, ["lone_token is 'one'", "zero, raw"]),
        ({"name": "tempo", "normalize": "var"}, ["normalize is 'var'", "std, mean"]),
        ({"name": "empg", "zeta": -0.1}, ["zeta is -0.1", "at least 0"]),
        ({"name": "hcapo", "temperature": 0.0}, ["temperature is 0.0", "more than 0"]),
        ({"name": "hcapo", "ratio_min": 1.5}, ["ratio_min is 1.5", "at most ratio_max=1.2"]),
        ({"name": "hcapo", "sentence": " "}, ["sentence is empty", "how the episode ended"]),
        ({"name": "maxrl", "epsilon": -1.0}, ["epsilon is -1.0"]),
        ({"name": "bi_level_gae", "turns": "actions"}, ["turns is 'actions'", "steps, rewards"]),
    ],
)
def test_a_setting_that_is_not_allowed_is_named(config: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValueError, match=r" is .*; ") as caught:
        base.build(config)
    for part in parts:
        assert part in str(caught.value)


# -- HGPO -------------------------------------------------------------------------------------------------------------------


def test_contexts_are_the_last_states_within_a_trajectory_and_task() -> None:
    batch = batch_of(
        [episode([0.0] * 3, states="aba"), episode([0.0] * 3, states="bba"), episode([0.0] * 2, states="ba", group="other")]
    )
    one, two, three = (found.tolist() for found in contexts(batch, 3))
    assert one[0] == one[2] == one[5]
    assert one[7] not in (one[0], one[1])
    assert two[0] == two[3] == two[6] == -1
    assert two[2] == two[5] != two[7]
    assert [place for place, number in enumerate(three) if number >= 0] == [2, 5]
    assert three[2] != three[5]


def test_hgpo_without_history_is_the_step_advantage_among_visits_of_the_same_state() -> None:
    played = [episode([0, 10], states="ab"), episode([0, 0], states="ac"), episode([4.0], states="a")]
    mean = (9.5 + 0 + 4) / 3
    same(credit(HGPO(history=0, normalize="mean"), played), [[9.5 - mean, 0], [-mean, 0], [4 - mean]])
    std = np.std([9.5, 0, 4])  # biased
    same(
        credit(HGPO(history=0), played),
        [[(9.5 - mean) / (std + 1e-6), 0], [-mean / (std + 1e-6), 0], [(4 - mean) / (std + 1e-6)]],
    )


def test_hgpo_weighs_contexts_by_their_length_and_leaves_out_those_where_a_step_is_alone() -> None:
    # State b is reached from a twice and from c once; gamma = 0, so that returns are the rewards.
    played = [episode([0, 6], states="ab"), episode([0, 2], states="ab"), episode([0, 1], states="cb")]
    alike = HGPO(normalize="mean", gamma=0.0, alpha=0.0)
    same(credit(alike, played), [[0, (3 + 2) / 2], [0, (-1 - 2) / 2], [0, -2]])
    longer = HGPO(normalize="mean", gamma=0.0, alpha=1.0)
    same(credit(longer, played), [[0, (2 * 3 + 3 * 2) / 5], [0, (2 * -1 + 3 * -2) / 5], [0, -2]])


def test_hgpo_can_add_the_episode_as_the_shortest_context() -> None:
    played = [episode([0, 6], states="ab"), episode([0, 2], states="cb")]
    found = credit(HGPO(normalize="mean", gamma=0.0, episode=True), played)
    same(found, [[2, (1 * 2 + 2 * 2) / 3], [-2, (1 * -2 + 2 * -2) / 3]])


def test_an_advantage_of_0_takes_its_share_of_the_weights_unless_dropped() -> None:
    # From a to b always the same return; only the way over c differs, so in the longer context there is nothing to tell.
    played = [episode([0, 6], states="ab"), episode([0, 6], states="ab"), episode([0, 0], states="cb")]
    settings: Any = {"normalize": "mean", "gamma": 0.0}
    same(credit(HGPO(**settings), played), [[0, 2 * 2 / 5], [0, 2 * 2 / 5], [0, -4]])
    same(credit(HGPO(**settings, zeros="dropped"), played), [[0, 2], [0, 2], [0, -4]])


def test_the_step_group_that_the_viewer_shows_is_that_of_the_current_state() -> None:
    batch = batch_of([episode([0, 1], states="ab"), episode([0, 0], states="bb")])
    group = HGPO().advantages(batch).step_group
    assert group is not None
    assert group.tolist() == batch.state.tolist()


# -- outcomes ---------------------------------------------------------------------------------------------------------------


def test_opo_weighs_returns_by_the_tokens_of_an_episode() -> None:
    played = [episode([0, 6], tokens=3), episode([2.0], tokens=2)]  # 6 and 2 tokens
    baseline = (6 * 6 + 2 * 2) / 8
    same(credit(OPO(), played), [[6 - baseline] * 2, [2 - baseline]])


@given(trajectories())
@quick
def test_opo_of_episodes_of_equal_length_is_grpo_without_std(played: list[Trajectory]) -> None:
    for t in played:
        t.steps = t.steps[:1]
        t.steps[0].response_ids = [0, 0]
    same(credit(OPO(), played), credit(GRPO(normalize="mean"), played))


def test_gpg_makes_up_for_the_groups_that_have_nothing_to_tell() -> None:
    telling = [episode([0.0], group="one"), episode([5.0], group="one"), episode([10.0], group="one")]
    silent = [episode([3.0], group="two"), episode([3.0], group="two"), episode([3.0], group="two")]
    same(credit(GPG(), telling + silent), [[-10], [0], [10], [0], [0], [0]])  # 6 / 3
    same(credit(GPG(informative="return"), telling + silent), [[-6], [0], [6], [0], [0], [0]])  # 6 / 5 have a return


def test_gdpo_lets_no_source_drown_another() -> None:
    played = [episode([one]) for one in (1000.0, 0.0)]
    for t, value in zip(played, (0.0, 0.25)):
        t.steps[0].shaped_rewards["format"] = value
    # Each is (+, -) or (-, +) of the same size: they cancel, where the sum of rewards would follow the large one.
    np.testing.assert_allclose(numbers(credit(GDPO(epsilon=0.0), played)), 0.0, atol=1e-9)
    assert credit(GRPO(), played)[0][0] > 0.7
    assert credit(GDPO(weights={"format": 0.1}), played)[0][0] > 0.7
    assert credit(GDPO(shaped_at={"format": "none"}), played)[0][0] > 0.7


def test_gdpo_has_the_scale_of_all_tokens_of_the_batch_and_shows_each_source() -> None:
    played = [episode([4.0], tokens=3), episode([2.0], tokens=1)]
    played[0].steps[0].shaped_rewards["subgoal"] = 1.0
    found = GDPO(normalize="mean", weights={"environment": 2.0}).advantages(batch_of(played))
    assert found.parts["environment"].tolist() == [2.0, -2.0]
    assert found.parts["subgoal"].tolist() == [0.5, -0.5]
    expected = normalize_tokens(np.array([2.5, 2.5, 2.5, -2.5]), np.ones(4, dtype=np.int64), 1e-8)
    assert found.values == pytest.approx([expected[0], expected[3]])


def test_passk_credits_the_best_episode_by_its_lead_and_nobody_where_two_are_best() -> None:
    played = [episode([0, 3]), episode([0, 7]), episode([5.0])]
    same(credit(PassKGRPO(normalize="mean"), played), [[0, 0], [2, 2], [0]])
    same(credit(PassKGRPO(), played), [[0, 0], [2 / (2 + 1e-6)] * 2, [0]])
    same(credit(PassKGRPO(normalize="mean", credited="row"), played), [[0, 0], [2, 0], [0]])
    same(credit(PassKGRPO(), [*played, episode([7.0])]), [[0, 0], [0, 0], [0], [0]])


def test_in_a_group_of_one_there_is_no_lead_unless_raw_scores_are_asked_for() -> None:
    same(credit(PassKGRPO(), [episode([0, 3])]), [[0, 0]])
    same(
        credit(PassKGRPO(normalize="mean", singleton_group="raw"), [episode([0, 3]), episode([1.0], group="other")]),
        [[3, 3], [1]],
    )


# -- tokens and steps -------------------------------------------------------------------------------------------------------


def test_reinforce_pp_discounts_from_token_to_token_across_the_steps_of_an_episode() -> None:
    batch = batch_of([episode([1.0, 8.0], tokens=2)])
    g = 0.5
    found = ReinforcePP(gamma=g).advantages(batch)
    returns = [g * (1 + 8 * g**2), 1 + 8 * g**2, 8 * g, 8]
    assert found.parts["return"].tolist() == returns
    assert found.values == pytest.approx((np.array(returns) - np.mean(returns)) / np.std(returns, ddof=1))
    by_response = ReinforcePP(gamma=g, span="response").advantages(batch)
    assert by_response.parts["return"].tolist() == [g, 1, 8 * g, 8]


@given(trajectories(), st.floats(0, 1))
@quick
def test_returns_of_tokens_are_those_of_the_formula(played: list[Trajectory], gamma: float) -> None:
    found = ReinforcePP(gamma=gamma, shaped_at={"subgoal": "none"}).advantages(batch_of(played))
    expected = []
    for t in [t for t in played if t.error is None]:
        steps = [step for step in t.steps if step.response_ids or step.reward]
        ends = np.cumsum([len(step.response_ids) for step in steps])
        for token in range(int(ends[-1]) if steps else 0):
            later = [(int(end) - 1 - token, step.reward) for end, step in zip(ends, steps) if end > token]
            expected.append(sum(gamma**distance * reward for distance, reward in later))
    np.testing.assert_allclose(found.parts["return"][found.defined], expected, rtol=1e-9, atol=1e-9)


def test_reinforce_pp_has_mean_0_and_variance_1_over_the_tokens_that_count() -> None:
    played = [episode([0, 3], tokens=3), episode([1.0], group="other"), episode([50.0], error="timeout")]
    found = ReinforcePP(gamma=0.9).advantages(batch_of(played))
    values = found.values[found.defined]
    assert len(values) == 8
    assert values.mean() == pytest.approx(0.0, abs=1e-12)
    assert values.std(ddof=1) == pytest.approx(1.0)


def test_remax_compares_the_rest_of_an_episode_with_the_greedy_one() -> None:
    batch = batch_of([episode([1.0, 4.0]), episode([0.0], group="other")])
    batch.greedy = np.array([3.0, 3.0, 2.0])
    assert ReMax().advantages(batch).values.tolist() == [2.0, 1.0, -2.0]


def test_otb_weighs_returns_at_each_token_by_the_gradient_up_to_it() -> None:
    batch = batch_of([episode([0.0, 6.0], tokens=1), episode([3.0], tokens=1)])
    p, c = np.array([0.5, 0.25, 0.8]), np.array([0.3, 0.2, 0.7])
    batch.logprobs, batch.sum_pi_squared = np.log(p), c
    w = 1 - 2 * p + c
    first = (6 * w[0] + 3 * w[2]) / (w[0] + w[2])
    assert OTB().advantages(batch).values == pytest.approx([6 - first, 0.0, 3 - first])
    assert OTB(lone_token="raw").advantages(batch).values == pytest.approx([6 - first, 6.0, 3 - first])


def test_otb_counts_places_over_sampled_tokens_so_turns_may_be_cut_differently() -> None:
    one, other = episode([0.0, 6.0], tokens=2), episode([3.0], tokens=4)
    batch = batch_of([one, other])
    batch.logprobs, batch.sum_pi_squared = np.log(np.full(8, 0.5)), np.full(8, 0.4)
    assert OTB().advantages(batch).values == pytest.approx([1.5] * 4 + [-1.5] * 4)  # equal weights: the mean


def test_places_where_the_policy_had_no_choice_are_compared_with_the_plain_mean() -> None:
    batch = batch_of([episode([6.0], tokens=2), episode([2.0], tokens=2)])
    batch.logprobs, batch.sum_pi_squared = np.log([1.0, 0.5, 1.0, 0.9]), np.array([1.0, 0.5, 1.0, 0.9])
    w = 0.5, 1 - 1.8 + 0.9
    second = (6 * w[0] + 2 * w[1]) / sum(w)
    assert OTB().advantages(batch).values == pytest.approx([2.0, 6 - second, -2.0, 2 - second])


@given(st.floats(-1e6, 1e6), st.lists(st.floats(0, 1e3), min_size=1, max_size=50))
@quick
def test_equal_values_have_no_weighted_deviation(value: float, weights: list[float]) -> None:
    n = len(weights)
    group, counted = np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool)
    assert not deviations(np.full(n, value), group, counted, weight=np.array(weights)).any()


@given(trajectories(faults=False))
@quick
def test_rloo_opo_and_gpg_agree_where_two_episodes_of_equal_length_are_compared(played: list[Trajectory]) -> None:
    pair = [episode([t.steps[0].reward], group="pair") for t in (played[0], played[-1])]
    half = numbers(credit(RLOO(), pair)) / 2
    np.testing.assert_allclose(numbers(credit(OPO(), pair)), half, atol=1e-12)
    np.testing.assert_allclose(numbers(credit(GPG(), pair)), half, atol=1e-12)
