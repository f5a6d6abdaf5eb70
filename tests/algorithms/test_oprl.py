"""OPRL's advantages: worked out by hand, and what its settings do for any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import base
from algorithms.base import Algorithm
from algorithms.grpo import GRPO
from algorithms.oprl import OPRL
from algorithms.rloo import RLOO
from envs.trajectory import Trajectory
from tests.algorithms.batches import as_batch, credit, same
from tests.algorithms.examples import episode, official, trajectories
from tests.algorithms.methods import METHODS

quick = settings(max_examples=25, deadline=None)


def implicit(rewards: list[float], steps: list[float], **fields: Any) -> Trajectory:
    """A trajectory with implicit rewards of its steps."""
    made = episode(rewards, **fields)
    for step, reward in zip(made.steps, steps, strict=True):
        step.shaped_rewards["implicit_prm"] = reward
    return made


@st.composite
def rewarded(draw: st.DrawFn, faults: bool = True) -> list[Trajectory]:
    """Random trajectories with random implicit rewards, some of them equal."""
    played = draw(trajectories(faults))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    for one in played:
        for step in one.steps:
            step.shaped_rewards["implicit_prm"] = float(np.round(rng.normal(), 1))
    return played


# -- by hand ----------------------------------------------------------------------------------------------------------------

PAIR = ([[0.0, 10.0], [0.0]], [[0.1, 0.3], [-0.1]])
"""Returns 10 and 0; step rewards of mean 0.1 and standard deviation 0.2."""


def pair() -> list[Trajectory]:
    return [implicit(rewards, steps) for rewards, steps in zip(*PAIR)]


def test_returns_and_step_rewards_are_compared_with_the_mean_of_the_others_unless_a_setting_says_otherwise() -> None:
    same(credit(OPRL(), pair()), [[10 + 0.0, 10 + 0.2 * 1.5], [-10 - 0.2 * 1.5]])
    # First steps 0.1 and -0.1: their mean is 0, and n / (n - 1) is 2.
    same(credit(OPRL(step_baseline="first"), pair()), [[10 + 0.2, 10 + 0.6], [-10 - 0.2]])


def test_grpo_is_a_normalised_return_and_a_normalised_step_reward() -> None:
    episodes = [5 / 50**0.5, -5 / 50**0.5]
    expected = [[episodes[0] + 0.0, episodes[0] + 1.0], [episodes[1] - 1.0]]
    scaled: dict[str, Any] = {"estimator": "grpo", "epsilon": 0.0}
    same(credit(OPRL(**scaled), pair()), expected)
    same(credit(OPRL(**scaled, alpha=0.5), pair()), [[episodes[0], episodes[0] + 0.5], [episodes[1] - 0.5]])


def test_where_all_episodes_won_step_rewards_are_not_scaled_up() -> None:
    played = [implicit([0.0, 10.0], steps) for steps in ([0.01, 0.03], [0.02, 0.02])]
    assert max(abs(value) for row in credit(OPRL(), played) for value in row) < 0.02
    assert max(abs(value) for row in credit(OPRL(estimator="grpo"), played) for value in row) > 1


def test_each_part_can_be_looked_at() -> None:
    found = OPRL(estimator="dr_grpo").advantages(as_batch(pair()))
    assert found.parts["episode"].tolist() == [5.0, 5.0, -5.0]
    assert found.parts["step"] == pytest.approx([0.0, 0.2, -0.2])
    assert found.parts["shaped"].tolist() == [0.0, 0.0, 0.0]


def test_an_invalid_action_costs_its_own_step_only_and_never_a_step_reward() -> None:
    played = pair()
    played[0].steps[1].shaped_rewards["invalid_action"] = -0.1
    found = OPRL(**official("oprl")).advantages(as_batch(played))
    assert found.parts["episode"] == pytest.approx([10.0, 9.8, -10.0])
    clean = OPRL(**official("oprl")).advantages(as_batch(pair()))
    assert found.parts["step"].tolist() == clean.parts["step"].tolist()


def test_implicit_rewards_enter_once() -> None:
    plain = [episode(rewards) for rewards in PAIR[0]]
    method = OPRL(alpha=0.0)
    same(credit(method, pair()), credit(RLOO(), plain))
    with pytest.raises(ValueError, match=r"shaped_at\.implicit_prm must be none"):
        OPRL(shaped_at={"implicit_prm": "reward"})


def test_other_shapings_enter_where_the_setting_says() -> None:
    played = pair()
    played[1].steps[0].shaped_rewards["subgoal"] = 4.0
    same(credit(OPRL(alpha=0.0), played), [[6.0, 6.0], [-6.0]])
    same(credit(OPRL(alpha=0.0, shaped_at={"subgoal": "advantage"}), played), [[10.0, 10.0], [-6.0]])


# -- for any batch ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [method for method in METHODS.values() if isinstance(method, OPRL)], ids=str)
@pytest.mark.parametrize("reward", [10.0, 0.1, 1 / 3])
@pytest.mark.parametrize("n", [2, 3, 7, 64])
def test_equal_returns_and_equal_step_rewards_give_exact_zeros(method: OPRL, reward: float, n: int) -> None:
    played = [implicit([0.0, reward, reward, reward], [reward] * 4) for _ in range(n)]
    assert credit(method, played) == [[0.0] * 4] * n


@pytest.mark.parametrize(("estimator", "other"), [("grpo", GRPO()), ("dr_grpo", GRPO(normalize="mean")), ("rloo", RLOO())])
@given(rewarded())
@quick
def test_without_step_rewards_it_is_its_estimator(estimator: Any, other: Algorithm, played: list[Trajectory]) -> None:
    other.shaped_at["implicit_prm"] = "none"
    same(credit(OPRL(alpha=0.0, estimator=estimator), played), credit(other, played))


@given(rewarded(), st.floats(0.01, 100.0), st.floats(-5.0, 5.0))
@quick
def test_scale_and_offset_of_step_rewards_do_not_matter_to_grpo(played: list[Trajectory], scale: float, offset: float) -> None:
    method = OPRL(estimator="grpo", epsilon=0.0)
    before = method.advantages(as_batch(played)).parts["step"]
    for one in played:
        for step in one.steps:
            step.shaped_rewards["implicit_prm"] = scale * step.shaped_rewards["implicit_prm"] + offset
    after = method.advantages(as_batch(played)).parts["step"]
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_a_batch_without_implicit_rewards_is_refused() -> None:
    with pytest.raises(ValueError, match="no rewards by shaping implicit_prm"):
        OPRL().advantages(as_batch([episode([1.0]), episode([0.0])]))


def test_it_is_found_by_name_and_its_settings_are_checked() -> None:
    assert base.build({"name": "oprl", "alpha": 0.5}) == OPRL(alpha=0.5)
    # What a run has stored can be read again.
    assert base.build({"name": "oprl", "shaped_at": OPRL().shaped_at}) == OPRL()
    for mistake, message in (({"alpha": -1.0}, "alpha is -1.0"), ({"estimator": "ppo"}, "allowed: rloo, grpo, dr_grpo")):
        with pytest.raises(ValueError, match=message):
            base.build({"name": "oprl", **mistake})
