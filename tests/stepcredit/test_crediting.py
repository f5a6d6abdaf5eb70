"""`stepcredit.advantages`: the numbers of a training run, in the caller's order, and errors that say what is missing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepcredit
from algorithms import base
from algorithms.base import Batch
from algorithms.gigpo import GiGPO
from envs.common.registry import UnknownName
from envs.state_key import state_key
from envs.trajectory import Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import trajectories
from tests.algorithms.golden_rows import FOLDER, NORMS, close

OF_TOKENS = ("values", "logprobs", "sum_pi_squared", "parts", "token_ids", "entropy", "prefix_values", "segment")
GIVEN: dict[str, Any] = {"rewards": [0.0, 1.0, 0.0], "episodes": ["a", "a", "b"], "states": ["x", "y", "x"]}


def arrays(played: list[Trajectory], rng: np.random.Generator, several: bool = False) -> dict[str, Any]:
    """What a user would have kept of the episodes, episode by episode, with something for every method to read; several: values
    of a token."""
    steps = [(number, one, step) for number, one in enumerate(played) for step in one.steps]
    tokens = sum(len(step.response_ids) for _, _, step in steps)
    return {
        "rewards": [step.reward for _, _, step in steps],
        "episodes": [number for number, _, _ in steps],
        "states": [step.state_key for _, _, step in steps],
        "final_states": {number: one.final_state_key or None for number, one in enumerate(played)},
        "actions": [step.action for _, _, step in steps],
        "observations": [step.observation for _, _, step in steps],
        "groups": [one.group_id for _, one, _ in steps],
        "tokens": [len(step.response_ids) for _, _, step in steps],
        "valid": [step.valid for _, _, step in steps],
        "success": {number: one.success for number, one in enumerate(played)},
        "faulted": [one.error is not None for _, one, _ in steps],
        "shaped": {name: rng.normal(size=len(steps)) for name in ("bonus", "implicit_prm", "grounded_prm")},
        "greedy": rng.normal(size=len(steps)),
        "answers": -rng.random(len(steps)),
        "values": rng.normal(size=(tokens, 3)) if several else rng.normal(size=tokens),
        "parts": rng.integers(4, size=tokens),
        "switches": rng.random(len(steps)) < 0.4,
        "logprobs": -rng.random(tokens),
        "sum_pi_squared": rng.random(tokens),
        "token_ids": np.array([token for _, _, step in steps for token in step.response_ids], dtype=int),
        "entropy": rng.random(tokens),
        "hindsight": -rng.random(len(steps)),
        "state_values": np.where(rng.random(len(steps)) < 0.3, np.nan, rng.normal(size=len(steps))),
        "prefix_values": np.where(rng.random(tokens) < 0.3, np.nan, rng.normal(size=tokens)),
        "tree": [number % 3 if one.group_id == played[number % 3].group_id else number for number, one, _ in steps],
        # None is shared, as what is shared is trained on in the leaf that comes first.
        "segment": np.array([number * 10 + (place > 0) for number, _, step in steps for place in step.response_ids], dtype=int),
    }


def batch_of(played: list[Trajectory], given: dict[str, Any]) -> Batch:
    """The batch that training makes of the same episodes."""
    places = iter(range(len(given["rewards"])))
    for one in played:
        for step in one.steps:
            place = next(places)
            step.shaped_rewards = {name: float(values[place]) for name, values in given["shaped"].items()}
    batch = as_batch(played)
    for name in ("greedy", "hindsight", "answers", "switches", "state_values", *OF_TOKENS):
        setattr(batch, name, np.array(given[name]))
    batch.tree = np.array([given["tree"][place] for place in np.flatnonzero(batch.position == 0)])
    return batch


def mixed(given: dict[str, Any], rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The same with episodes interleaved, and where each step and token went: new order [S] and [T]."""
    turns = rng.random(len(given["rewards"]))
    episode = np.array(given["episodes"])
    for number in set(given["episodes"]):
        turns[episode == number] = np.sort(turns[episode == number])
    order = np.argsort(turns)
    ends = np.cumsum(given["tokens"])
    within = [np.arange(end - count, end) for end, count in zip(ends, given["tokens"])]
    of_tokens = np.concatenate([within[i] for i in order]) if len(order) else np.zeros(0, int)
    found = dict(given)
    for name, value in given.items():
        if name in OF_TOKENS:
            found[name] = value[of_tokens]
        elif name == "shaped":
            found[name] = {key: each[order] for key, each in value.items()}
        elif not isinstance(value, dict):
            found[name] = [value[i] for i in order]
    return found, order, of_tokens


@pytest.mark.parametrize("method", base.names())
@settings(max_examples=25)
@given(played=trajectories(), seed=st.integers(0, 99))
def test_it_equals_what_training_gets_from_the_same_episodes_in_any_order(
    method: str, played: list[Trajectory], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    for one in played:
        for step in one.steps:
            step.response_ids = step.response_ids or [0]  # a critic's method refuses a step without tokens
    given = arrays(played, rng, base.get(method).values_per_token > 1)
    if base.get(method).divides_by_rewards:
        for one in played:
            for step in one.steps:
                step.reward = abs(step.reward)
        given["rewards"] = np.abs(given["rewards"])
        given["shaped"] = {name: np.abs(values) for name, values in given["shaped"].items()}
    batch = batch_of(played, given)
    expected = base.get(method)().advantages(batch)
    plain = stepcredit.advantages(method, **given)
    np.testing.assert_array_equal(plain.values, expected.values)
    np.testing.assert_array_equal(plain.defined, expected.defined)
    assert plain.level == expected.level
    shuffled, steps, tokens = mixed(given, rng)
    found, place = stepcredit.advantages(method, **shuffled), steps if plain.level == "step" else tokens
    np.testing.assert_allclose(found.values, plain.values[place], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found.defined, plain.defined[place])
    for name, part in plain.parts.items():
        np.testing.assert_allclose(found.parts[name], part[place], rtol=1e-9, atol=1e-9)
    if plain.returns is not None and found.returns is not None:
        np.testing.assert_allclose(found.returns, plain.returns[tokens], rtol=1e-9, atol=1e-9)


RECORDED = json.loads((FOLDER / "gigpo_advantage.json").read_text())


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: str(case["name"]))
def test_gigpo_gives_the_figures_recorded_from_the_authors_code(case: dict[str, Any]) -> None:
    known, expected = case["inputs"], case["outputs"]
    penalty = known["invalid_action_penalty_coef"] * (np.array(known["is_action_valid"]) - 1.0)
    found = stepcredit.advantages(
        "gigpo",
        rewards=known["rewards"],
        episodes=known["traj_uid"],
        groups=known["index"],
        states=[state_key(one) for one in known["anchor_obs"]],
        tokens=known["response_lengths"],
        shaped={"invalid_action": penalty},
        shaped_at={"invalid_action": "return"},
        episode_stats="rows",  # what the authors' trainer computes, not their paper
        singleton_group="raw",
        gamma=known["gamma"],
        omega=known["step_advantage_w"],
        normalize=NORMS[known["mode"]],
        epsilon=known["epsilon"],
    )
    close(found.values, expected["row_adv"], RECORDED["abs_tolerance"])


def test_labels_may_be_anything_hashable() -> None:
    plain = stepcredit.advantages("gigpo", **GIVEN)
    named = stepcredit.advantages(
        "gigpo",
        rewards=np.array([0, 1, 0]),
        episodes=[("run", 1), ("run", 1), None],
        states=np.array([7, 8, 7]),
        groups=["t"] * 3,
    )
    np.testing.assert_array_equal(plain.values, named.values)


def test_a_state_of_another_group_is_another_state() -> None:
    apart = stepcredit.advantages("gigpo", **GIVEN, groups=["t", "t", "u"])
    assert apart.step_group is not None
    assert len(set(apart.step_group.tolist())) == 3


def test_a_faulted_episode_gets_no_advantage_and_changes_no_other() -> None:
    alone = stepcredit.advantages("grpo", rewards=[1.0, 0.0], episodes=[0, 1])
    with_fault = stepcredit.advantages("grpo", rewards=[1.0, 0.0, 9.0], episodes=[0, 1, 2], faulted={2: True})
    assert with_fault.defined.tolist() == [True, True, False]
    np.testing.assert_array_equal(with_fault.values[:2], alone.values)


def test_settings_entries_and_ready_made_methods_count() -> None:
    bonus = {"bonus": [0.0, 0.0, 5.0]}
    after = stepcredit.advantages("gigpo", **GIVEN, shaped=bonus, shaped_at={"bonus": "advantage"}, omega=0)
    ready = stepcredit.advantages(GiGPO(omega=0.0), **GIVEN, shaped=bonus, shaped_at={"bonus": "advantage"})
    without = stepcredit.advantages("gigpo", **GIVEN, omega=0)
    np.testing.assert_array_equal(after.values, ready.values)
    np.testing.assert_array_equal(after.values - without.values, [0, 0, 5])


def test_a_variant_has_the_settings_that_training_gives_it() -> None:
    given = {"rewards": [1.0, 0.0, 0.0], "episodes": [0, 1, 2]}
    dr_grpo = stepcredit.advantages("dr_grpo", **given)
    np.testing.assert_allclose(dr_grpo.values, np.array([1, 0, 0]) - 1 / 3)


def test_a_final_state_is_the_state_of_that_name_in_its_group() -> None:
    given = {**GIVEN, "success": {"a": True}, "gamma": 0.5, "normalize": "mean", "episode_weight": 0.0}
    # From x the one that won went on to y, a step from success; the other is back in x, two steps from it, or nowhere.
    back = stepcredit.advantages("graphgpo", **given, final_states={"b": "x"})
    lost = stepcredit.advantages("graphgpo", **given)
    np.testing.assert_allclose(back.values, np.array([1, 0, -1]) * 10 * (0.5**2 - 0.5**3) / 2)
    np.testing.assert_allclose(lost.values, np.array([1, 0, -1]) * 10 * (0.5**2 - 0.5**4) / 2)


def test_success_must_be_said_only_to_methods_that_ask_for_it() -> None:
    seen = ["a door", "a desk", "a door"]
    found = stepcredit.advantages("proxmo_official", **GIVEN, observations=seen)
    with pytest.raises(ValueError, match="proxmo needs success"):
        stepcredit.advantages("proxmo", **GIVEN, observations=seen)
    said = stepcredit.advantages("proxmo_official", **GIVEN, observations=seen, success={"a": True})
    np.testing.assert_array_equal(found.values, said.values)


def test_no_steps_give_no_advantages() -> None:
    assert stepcredit.advantages("gigpo", rewards=[], episodes=[], states=[]).values.shape == (0,)


@pytest.mark.parametrize(
    ("method", "changed", "said"),
    [
        ("gigpo", {"episodes": ["a"]}, r"episodes has 1 entries; there are 3 steps"),
        ("gigpo", {"states": ["x"] * 4}, r"states has 4 entries; there are 3 steps"),
        ("gigpo", {"states": None}, r"gigpo: 3 steps have no state_key.*states gives each step's"),
        ("gigpo", {"rewards": [0.0, float("nan"), 0.0]}, r"rewards\[1\] is nan"),
        ("gigpo", {"rewards": [[0.0, 1.0, 0.0]]}, r"rewards has shape \(1, 3\); it must be flat"),
        ("gigpo", {"rewards": ["a", "b", "c"]}, r"rewards must be a flat list of numbers"),
        ("gigpo", {"groups": ["t", "u", "t"]}, r"groups differs within episode 'a'"),
        ("gigpo", {"success": {"c": True}}, r"success names episode 'c', of which there is no step"),
        ("gigpo", {"states": [["x"], "y", "x"]}, r"states\[0\] is a list; a label must be hashable"),
        ("gigpo", {"tokens": [1, -1, 1]}, r"tokens\[1\] is -1"),
        ("gigpo", {"tokens": [1, 1.5, 1]}, r"tokens\[1\] is 1.5"),
        ("gigpo", {"shaped": {"bonus": [1.0]}}, r"shaped\['bonus'\] has 1 entries"),
        ("gigpo", {"gama": 0.9}, r"no setting 'gama'.*Did you mean 'gamma'"),
        ("gigpo", {"gamma": 2.0}, r"gamma is 2.0"),
        ("ppo", {}, r"ppo needs values: the critic's value"),
        ("ppo", {"tokens": [2, 2, 2], "values": [0.0] * 3}, r"values has 3 entries; there are 6 tokens"),
        ("otb", {"logprobs": [0.0] * 3}, r"otb needs sum_pi_squared"),
        ("otb", {"sum_pi_squared": [0.0] * 3}, r"otb needs logprobs"),
        ("remax", {}, r"remax needs greedy"),
        ("tempo", {}, r"tempo needs token_ids: the number of each token"),
        ("tempo", {"token_ids": [0, 1, 2.5]}, r"token_ids\[2\] is 2.5; it must be a whole number"),
        ("empg", {}, r"empg needs entropy: the entropy"),
        ("hcapo", {}, r"hcapo needs hindsight: the mean log-probability"),
        ("maxrl", {"rewards": [0.0, 1.0, -0.5]}, r"maxrl: MaxRL divides by a task's mean return.*returns -0.5"),
        ("graphgpo", {}, r"graphgpo needs success"),
        (
            "graphgpo",
            {"success": {"a": True}, "states": None},
            r"graphgpo: 3 steps have no state_key.*states gives each step's",
        ),
        (
            "graphgpo",
            {"success": {"a": True}, "final_states": {"c": "x"}},
            r"final_states names episode 'c', of which there is no step",
        ),
        ("proxmo", {"success": {"a": True}}, r"proxmo: grouping=soft needs batch.state_text.*observations"),
        ("salt", {}, r"salt: SALT needs batch.action.*actions"),
        ("vineppo", {}, r"vineppo needs state_values: the mean return of episodes that were played on from before each step"),
        ("spo_chain", {"prefix_values": [0.5, float("nan")]}, r"prefix_values has 2 entries; there are 3 tokens"),
        ("spo_chain", {"prefix_values": [0.5, float("inf"), 0.0]}, r"prefix_values\[1\] is inf"),
        ("spo_chain", {"prefix_values": [0.5, 0.5, 0.5]}, r"spo_chain: .*there is no batch\.logprobs"),
        ("tree_grpo", {"tree": ["a", "b", "a"]}, r"tree differs within episode 'a'"),
        ("spo_tree", {}, r"spo_tree needs segment: a label for the part of the tree"),
        ("hiper", {}, r"hiper needs parts: which part of its turn"),
        ("hiper", {"parts": ["action"] * 3, "values": [[0.0] * 3] * 3}, r"hiper needs switches"),
        ("hiper", {"parts": ["talk"] * 3}, r"parts\[0\] is 'talk'; allowed: none, switch, subgoal, action"),
        ("hiper", {"values": [0.0] * 3}, r"values has shape \(3,\); it must have 3 numbers for each of the 3 tokens"),
        ("igpo", {}, r"igpo needs answers: the mean log-probability"),
        ("oprl", {}, r"oprl needs the rewards by shaping implicit_prm: shaped="),
    ],
)
def test_what_does_not_fit_is_named(method: str, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s){said}"):
        stepcredit.advantages(method, **{**GIVEN, **changed})


def test_a_method_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'gigpo'"):
        stepcredit.advantages("gigpoo", **GIVEN)


def test_the_settings_of_a_ready_made_method_are_in_it() -> None:
    with pytest.raises(ValueError, match="gamma: the method is an object"):
        stepcredit.advantages(GiGPO(), **GIVEN, gamma=0.5)
