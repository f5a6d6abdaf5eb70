"""What must hold for every method and any batch: order, faults, other tasks, tokens, equal returns, shapings, missing columns.

Critics, and MaxRL, which takes no return below 0, are held to the same in files of their own.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import base
from algorithms.base import Algorithm
from algorithms.branching import MonteCarloMethod, TreeMethod
from algorithms.empg import EMPG
from algorithms.gdpo import GDPO
from algorithms.gigpo import GiGPO
from algorithms.gpg import GPG
from algorithms.graphgpo import GraphGPO
from algorithms.otb import OTB
from algorithms.proxmo import ProxMO
from algorithms.reinforce import ReinforceBaseline, ReinforcePP
from algorithms.salt import SALT
from algorithms.spo_chain import SPOChain
from algorithms.spo_tree import SPOTree
from envs.trajectory import Trajectory
from tests.algorithms.batches import batch_of, credit, numbers, same
from tests.algorithms.examples import episode, trajectories, walks
from tests.algorithms.methods import METHODS

BATCH_WIDE = {
    name for name, method in METHODS.items() if isinstance(method, ReinforcePP | ReinforceBaseline | GPG | GDPO | EMPG | ProxMO)
} | {"oprl normalized", "grounded_prm normalized", "vineppo normalized", "spo_chain, every token"}
"""A scale, or the weights of words, are those of the whole batch."""
MASKING = SPOChain, SPOTree
"""Some tokens are not trained on."""
UNEQUAL = {
    "reinforce_pp discounted": "a discounted return differs with a token's distance from the reward",
    "reinforce_pp by response": "and so does that of a response which is not the last",
    "remax": "returns are compared with that of the greedy episode",
    "g2po": "values of different states are compared, and discounted ones differ",
    "g2po official": "the same",
    "proxmo": "returns at different states are compared, and discounted ones differ",
    "proxmo official": "the same",
    "oprl": "step rewards differ; test_oprl.py has equal ones, as for the others",
    "oprl official": "the same",
    "oprl scaled": "the same",
    "oprl mean": "the same",
    "oprl normalized": "the same",
    "igpo": "turns differ by what they found out",
    "igpo apart, discounted": "the same",
    "empg": "a bonus is paid whatever an episode returns",
    "grounded_prm": "step rewards differ",
    "grounded_prm normalized": "the same",
    "brpo": "what earlier budgets brought is part of the baseline",
    "brpo linear": "the same",
    "brpo at the end": "the same",
    "hcapo": "the steps of a success differ in hindsight",
    "hcapo smoothed": "the same",
    "vineppo": "values differ; test_branching.py has equal ones, as for the others",
    "vineppo discounted": "the same",
    "vineppo normalized": "the same",
    "spo_chain": "the same",
    "spo_chain, every token": "the same",
}
"""Why equal returns do not mean an advantage of 0."""
NOT_ADDED = {"distance", "uncertainty", "ratio", "environment", "subgoal", "invalid_action"}
"""Parts that say what a value comes from; where one is called normalized, all the others do but what shapings add."""

quick = settings(max_examples=20, deadline=None)


def methods(*without: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", [pytest.param(m, id=name) for name, m in METHODS.items() if name not in without])


def episodes(faults: bool = True) -> st.SearchStrategy[list[Trajectory]]:
    return trajectories(faults) | walks(faults)


def test_every_registered_method_is_held_to_these_properties_but_critics_and_maxrl() -> None:
    names = {name for name in base.names() if "values" not in base.get(name).needs}
    here = {type(method) for method in METHODS.values()}
    assert {base.get(name) for name in names - {"maxrl"}} == here
    on_branches = {one for one in here if one.needs & {"state_values", "prefix_values", "tree", "segment"}}
    assert all(issubclass(one, (MonteCarloMethod, TreeMethod)) for one in on_branches)


@methods("spo_tree", "spo_tree by std")  # a shared segment is trained on in its first leaf, see test_branching.py
@given(episodes(), st.randoms(use_true_random=False))
@quick
def test_the_order_of_episodes_does_not_matter(method: Algorithm, played: list[Trajectory], rng: random.Random) -> None:
    order = list(range(len(played)))
    rng.shuffle(order)
    before = credit(method, played)
    same(credit(method, [played[i] for i in order]), [before[i] for i in order])


@methods()
@given(episodes(faults=False), episodes(faults=False))
@quick
def test_failed_episodes_get_no_advantage_and_change_no_others(
    method: Algorithm, played: list[Trajectory], cut: list[Trajectory]
) -> None:
    for trajectory in cut:
        trajectory.error = "timeout after 30 s"
    found = credit(method, played + cut)
    same(found[: len(played)], credit(method, played))
    assert np.isnan(numbers(found[len(played) :])).all()


@methods(*BATCH_WIDE)
@given(episodes(), episodes())
@quick
def test_other_tasks_change_nothing(method: Algorithm, played: list[Trajectory], others: list[Trajectory]) -> None:
    for other in others:
        other.group_id = f"other {other.group_id}"
    same(credit(method, others + played)[len(others) :], credit(method, played))


@methods()
@given(episodes())
@quick
def test_every_sampled_token_has_exactly_one_advantage(method: Algorithm, played: list[Trajectory]) -> None:
    # Batches are flat: what a trainer pads or copies to fill its tensors is never part of one.
    batch = batch_of(played, method)
    values, defined = method.advantages(batch).per_token(batch)
    steps = [step for t in played for step in t.steps]
    of_steps = [one for row in credit(method, played) for one in row]
    of_tokens = [one if isinstance(one, list) else [one] * len(step.response_ids) for one, step in zip(of_steps, steps)]
    expected = numbers([of_tokens])
    assert values.dtype == torch.float32
    assert len(values) == len(defined) == sum(len(step.response_ids) for step in steps)
    np.testing.assert_allclose(values, np.nan_to_num(expected), rtol=1e-6, atol=1e-30)
    assert defined.tolist() == (~np.isnan(expected)).tolist()
    finished = np.repeat(batch.included, batch.tokens)
    if isinstance(method, MASKING):
        assert not defined[~finished].any()
    else:
        assert defined.tolist() == finished.tolist()


@pytest.mark.parametrize("reward", [10.0, 0.1, 1 / 3, 8.573749542236328])
@pytest.mark.parametrize("n", [2, 3, 7, 64])
@pytest.mark.parametrize("paid", [(0, 0, 0, 1), (0, 1, 1, 1)], ids=["at the end", "on the way"])
def test_equal_returns_give_exact_zeros(reward: float, n: int, paid: tuple[int, ...]) -> None:
    # Three times 0.1 summed is not 0.3: the deviations are rounding, and must not be divided by their own rounding.
    played = [episode([one * reward for one in paid], states="abcd") for _ in range(n)]
    on_the_way = {"reinforce_pp", "proxmo not discounted"} if sum(paid) > 1 else set()  # returns differ between steps
    for name in METHODS.keys() - UNEQUAL.keys() - on_the_way:
        assert not np.nan_to_num(numbers(credit(METHODS[name], played))).any(), name


@methods()
def test_no_steps_give_no_advantages(method: Algorithm) -> None:
    batch = batch_of([], method)
    assert method.advantages(batch).values.shape == (0,)


@methods(
    *(name for name in METHODS if name.startswith(("igpo", "vineppo", "spo"))),  # their values are differences
    "tree_grpo nested",  # normalized once more
)
@given(episodes())
@quick
def test_the_parts_of_an_advantage_add_up_to_it(method: Algorithm, played: list[Trajectory]) -> None:
    found = method.advantages(batch_of(played, method))
    names = {"normalized", "shaped"} if "normalized" in found.parts else found.parts.keys() - NOT_ADDED
    total = np.sum([found.parts[name] for name in names], axis=0)
    np.testing.assert_allclose(found.values[found.defined], total[found.defined], atol=1e-9)


@methods()
def test_a_shaped_reward_that_enters_after_is_just_added(method: Algorithm) -> None:
    played = [episode([0, 10], states="ab"), episode([0, 0], states="ab")]
    before = numbers(credit(method, played))
    for t in played:
        t.steps[0].shaped_rewards["subgoal"] = 0.5
    after = numbers(credit(replace(method, shaped_at={**method.shaped_at, "subgoal": "advantage"}), played))
    there = ~np.isnan(before) & ~np.isnan(after)
    assert there.any()
    expected = np.tile(np.repeat([0.5, 0.0], len(before) // 4), 2)  # numbers a step: its tokens', or one
    np.testing.assert_allclose((after - before)[there], expected[there], atol=1e-9)


@pytest.mark.parametrize(
    ("method", "column"),
    [
        *((method, need) for method in METHODS.values() for need in method.needs),
        (OTB(), "logprobs"),
        (SPOChain(), "logprobs"),
        (GraphGPO(), "next_state"),
        (GraphGPO(nodes="similarity"), "final_text"),
        (SALT(), "next_state"),
        (SALT(), "action"),
        (ProxMO(), "state_text"),
        (GiGPO(grouping="similarity"), "state_text"),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_a_column_that_is_missing_is_named(method: Algorithm, column: str) -> None:
    batch: Any = batch_of([episode([0, 1], states="ab"), episode([1, 0], states="ab")], method)
    setattr(batch, column, None)
    with pytest.raises(ValueError, match=rf"batch\.{column}"):
        method.advantages(batch)
