"""Methods on branches: against the truth where it is known, against methods that they become, and by hand."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.branching import MonteCarloMethod, TreeMethod
from algorithms.grpo import GRPO
from algorithms.spo_chain import SPOChain
from algorithms.spo_tree import SPOTree
from algorithms.tree_grpo import TreeGRPO
from algorithms.vineppo import VinePPO
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch, batch_of
from tests.algorithms.examples import episode, trajectories
from tests.algorithms.methods import METHODS

quick = settings(max_examples=20, deadline=None)


def unshaped(played: list[Trajectory]) -> list[Trajectory]:
    """Without shaped rewards, some of which would be added after all that is compared."""
    for t in played:
        for step in t.steps:
            step.shaped_rewards.clear()
    return played


# -- all of them ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reward", [10.0, 0.1, 1 / 3, 8.573749542236328])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_equal_returns_of_episodes_and_continuations_give_exact_zeros(reward: float, n: int) -> None:
    played = [episode([0.0, 0.0, reward], states="abc") for _ in range(n)]
    batch = batch_of(played)
    batch.state_values = np.full(3 * n, np.mean([reward] * 9))
    batch.prefix_values = np.full(6 * n, np.mean([reward] * 9))
    batch.prefix_values[1::2] = np.nan
    for name, method in METHODS.items():
        if isinstance(method, MonteCarloMethod | TreeMethod) and "discounted" not in name and "every token" not in name:
            batch.shaped = {method.reads_shaping: np.full(3 * n, reward)} if method.reads_shaping else {}
            assert not method.advantages(batch).values.any(), name


def test_a_shaping_that_would_enter_rewards_is_refused_where_values_are_of_the_environments_alone() -> None:
    for method in (VinePPO(), SPOChain()):
        method.check(["invalid_action"])  # enters after normalization
        with pytest.raises(ValueError, match=r"shaped_at\.calm is reward.*allowed with this method: return, advantage, none"):
            method.check(["calm"])
    VinePPO(shaped_at={"calm": "return"}).check(["calm"])


# -- VinePPO ----------------------------------------------------------------------------------------------------------------


class Maze:
    """A small deterministic world: 3 actions lead from each of 5 places to another, every step pays, and 4 steps end it."""

    horizon, gamma = 4, 0.9

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.leads = draw.integers(5, size=(5, 3))
        self.pays = draw.normal(size=(5, 3))
        self.policy = draw.dirichlet(np.ones(3), size=5)
        self.value = np.zeros((self.horizon + 1, 5))
        """V at each time and place."""
        self.worth = np.zeros((self.horizon, 5, 3))
        """Q at each time, place and action."""
        for t in range(self.horizon - 1, -1, -1):
            self.worth[t] = self.pays + self.gamma * self.value[t + 1][self.leads]
            self.value[t] = (self.policy * self.worth[t]).sum(1)

    def play(self, draw: np.random.Generator, place: int = 0, t: int = 0) -> list[tuple[int, int, float]]:
        """(place, action, reward) from a place and time to the end."""
        taken = []
        for _ in range(t, self.horizon):
            action = int(draw.choice(3, p=self.policy[place]))
            taken.append((place, action, float(self.pays[place, action])))
            place = int(self.leads[place, action])
        return taken


def of_maze(taken: list[tuple[int, int, float]]) -> Trajectory:
    steps = [Step(str(place), str(action), reward, state_key=str(place), response_ids=[0]) for place, action, reward in taken]
    return Trajectory("maze", "task", "task", 0, "train", steps=steps)


@given(st.integers(0, 1000))
@quick
def test_with_true_values_vineppo_gives_the_true_advantages(seed: int) -> None:
    maze, draw = Maze(seed), np.random.default_rng(seed)
    played = [maze.play(draw) for _ in range(5)]
    batch = as_batch([of_maze(one) for one in played])
    batch.state_values = np.array([maze.value[t, place] for one in played for t, (place, _, _) in enumerate(one)])
    true = [maze.worth[t, place, action] - maze.value[t, place] for one in played for t, (place, action, _) in enumerate(one)]
    np.testing.assert_allclose(VinePPO(gamma=maze.gamma).advantages(batch).values, true, atol=1e-12)


def test_with_more_continuations_vineppo_comes_ever_closer_to_the_true_advantages() -> None:
    maze, draw = Maze(3), np.random.default_rng(3)
    played = [maze.play(draw) for _ in range(4)]
    batch = as_batch([of_maze(one) for one in played])
    true = np.array(
        [maze.worth[t, place, action] - maze.value[t, place] for one in played for t, (place, action, _) in enumerate(one)]
    )
    errors = []
    for k in (4, 64, 1024):
        batch.state_values = np.array(
            [
                np.mean([sum(0.9**n * r for n, (*_, r) in enumerate(maze.play(draw, place, t))) for _ in range(k)])
                for one in played
                for t, (place, *_) in enumerate(one)
            ]
        )
        errors.append(np.sqrt(np.mean((VinePPO(gamma=maze.gamma).advantages(batch).values - true) ** 2)))
    assert errors[2] < errors[1] / 2 < errors[0] / 4  # in the mean by 1 / sqrt(k): a fourth each time
    assert errors[2] < 0.1


def test_a_state_that_was_not_sampled_from_is_worth_what_its_own_episode_got() -> None:
    batch = as_batch([episode([1, 2, 3, 4]), episode([5, 6])])
    batch.state_values = np.array([7, np.nan, 2, np.nan, np.nan, np.nan])
    found = VinePPO(gamma=0.5).advantages(batch)
    # Behind: 4; 2; before the second step 2 + 1 = 3; the second episode all by itself.
    assert found.parts["value"].tolist() == [7, 3, 2, 4, 8, 6]
    assert found.values.tolist() == [1 + 1.5 - 7, 0, 3 + 2 - 2, 0, 0, 0]
    assert found.metrics["sampled_states"] == 2 / 6


def test_vineppo_asks_for_the_first_states_of_each_episode() -> None:
    batch = as_batch([episode([0, 0, 1], tokens=2), episode([0], tokens=3)])
    assert VinePPO().places(batch).tolist() == [0, 2, 4, 6]
    assert VinePPO(max_states=1).places(batch).tolist() == [0, 6]


# -- SPO-chain --------------------------------------------------------------------------------------------------------------


@given(trajectories(faults=False), st.sampled_from([1.0, 0.8]))
@quick
def test_with_a_cut_before_every_action_spo_chain_is_vineppo(played: list[Trajectory], gamma: float) -> None:
    batch = batch_of(unshaped(played))
    batch.state_values = np.round(batch.state_values, 3)
    batch.state_values[np.isnan(batch.state_values)] = 0.25
    if not (batch.tokens > 0).all():
        return
    batch.prefix_values = np.full(int(batch.tokens.sum()), np.nan)
    batch.prefix_values[np.cumsum(batch.tokens) - batch.tokens] = batch.state_values
    chain = SPOChain(certain="credited", gamma=gamma).advantages(batch)
    vine = VinePPO(gamma=gamma).advantages(batch)
    np.testing.assert_allclose(chain.values, np.repeat(vine.values, batch.tokens), atol=1e-9)


@given(trajectories(faults=False))
@quick
def test_the_segments_of_a_chain_add_up_to_the_return_less_the_first_value(played: list[Trajectory]) -> None:
    batch = batch_of(unshaped(played))
    found = SPOChain(certain="credited").advantages(batch)
    episode_of = np.repeat(batch.episode, batch.tokens)
    step_of = np.repeat(np.arange(len(batch.tokens)), batch.tokens)
    for number in range(len(played)):
        cuts = np.flatnonzero((episode_of == number) & ~np.isnan(batch.prefix_values))
        if len(cuts):
            rest = batch.reward[(batch.episode == number) & (np.arange(len(batch.reward)) >= step_of[cuts[0]])].sum()
            assert found.values[cuts].sum() == pytest.approx(rest - batch.prefix_values[cuts[0]], abs=1e-9)
            before = (episode_of == number) & (np.arange(len(episode_of)) < cuts[0])
            assert not found.values[before].any()


def test_spo_chain_cuts_before_every_nth_uncertain_token_of_an_episode_and_masks_the_others() -> None:
    batch = as_batch([episode([0, 1], tokens=3), episode([0], tokens=4)])
    batch.logprobs = np.log([0.95, 0.5, 0.5, 0.92, 0.5, 0.5, 1.0, 0.3, 0.3, 0.3])
    method = SPOChain(interval=2)
    assert method.places(batch).tolist() == [1, 4, 7, 9]
    batch.prefix_values = np.full(10, np.nan)
    batch.prefix_values[[1, 4, 7, 9]] = [0.25, 0.75, 0.5, 0.0]
    found = method.advantages(batch)
    assert found.values.tolist() == [0, 0.5, 0.5, 0, 0.25, 0.25, 0, -0.5, -0.5, 0]
    assert found.defined.tolist() == [False, True, True, False, True, True, False, True, True, True]
    assert replace(method, certain="credited").advantages(batch).values.tolist()[3] == 0.5
    assert replace(method, certain="zero").advantages(batch).defined.all()


# -- trees ------------------------------------------------------------------------------------------------------------------


@given(trajectories(faults=False))
@quick
def test_with_a_tree_for_every_episode_tree_grpo_is_grpo(played: list[Trajectory]) -> None:
    batch = batch_of(unshaped(played))
    batch.tree = np.arange(len(played))
    np.testing.assert_allclose(TreeGRPO().advantages(batch).values, GRPO().advantages(batch).values, atol=1e-12)


@given(trajectories(faults=False))
@quick
def test_with_a_tree_for_every_task_tree_grpo_is_grpo_twice(played: list[Trajectory]) -> None:
    batch = batch_of(unshaped(played))
    batch.tree = batch.group[np.cumsum(batch.length) - 1]
    once = GRPO().advantages(batch).values
    np.testing.assert_allclose(TreeGRPO().advantages(batch).values, 2 * once, atol=1e-12)
    mean = TreeGRPO(combine="nested", normalize="mean").advantages(batch).values
    np.testing.assert_allclose(mean, GRPO(normalize="mean").advantages(batch).values, atol=1e-9)


@given(trajectories(faults=False))
@quick
def test_with_no_shared_segment_spo_tree_is_grpo_without_std(played: list[Trajectory]) -> None:
    batch = batch_of(unshaped(played))
    batch.segment = np.repeat(batch.episode, batch.tokens)
    if (np.bincount(batch.episode, batch.tokens) == 0).any():
        return  # an episode without a token has no segment
    found = SPOTree(certain="credited").advantages(batch)
    grpo = np.repeat(GRPO(normalize="mean").advantages(batch).values, batch.tokens)
    np.testing.assert_allclose(found.values, grpo, atol=1e-9)


Nested = Any
"""A return, or the list of what follows a segment."""
nested = st.recursive(st.integers(0, 4), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=12)


def grown(tree: Nested, lengths: Callable[[], int]) -> tuple[list[list[int]], list[float], list[int]]:
    """Of each leaf the segment of each token, and its return; and of each segment the one before it (-1: the task)."""
    leaves: list[list[int]] = []
    returns: list[float] = []
    parents: list[int] = []

    def walk(node: Nested, before: list[int], parent: int) -> None:
        if not isinstance(node, list):
            leaves.append(before)
            returns.append(float(node))
            return
        for child in node:
            parents.append(parent)
            number = len(parents) - 1
            walk(child, before + [number] * lengths(), number)

    walk(tree if isinstance(tree, list) else [tree], [], -1)
    return leaves, returns, parents


@given(nested, st.randoms(use_true_random=False), st.booleans())
@quick
def test_in_any_tree_siblings_balance_and_a_leafs_segments_add_up_to_its_return(
    tree: Nested, rng: random.Random, shuffled: bool
) -> None:
    leaves, returns, parents = grown(tree, lambda: rng.randint(1, 3))
    if shuffled:
        order = list(range(len(leaves)))
        rng.shuffle(order)
        leaves, returns = [leaves[i] for i in order], [returns[i] for i in order]
    played = [
        Trajectory("e", "t", "t", 0, "train", steps=[Step("", "", reward, state_key="-", response_ids=[0] * len(leaf))])
        for leaf, reward in zip(leaves, returns, strict=True)
    ]
    batch = as_batch(played)
    batch.segment = np.concatenate(leaves)
    found = SPOTree(certain="credited").advantages(batch)
    # The value of a segment, as it is defined.
    value = [0.0] * len(parents)
    for number in reversed(range(len(parents))):
        below = [value[child] for child, parent in enumerate(parents) if parent == number]
        own = [r for leaf, r in zip(leaves, returns, strict=True) if leaf[-1] == number]
        value[number] = float(np.mean(below or own))
    root = float(np.mean([value[number] for number, parent in enumerate(parents) if parent == -1]))
    advantage = np.zeros(len(parents))
    advantage[batch.segment] = found.parts["segment"]
    for number, parent in enumerate(parents):
        assert advantage[number] == pytest.approx(value[number] - (root if parent < 0 else value[parent]), abs=1e-9)
    for leaf, reward in zip(leaves, returns, strict=True):
        assert sum(advantage[number] for number in dict.fromkeys(leaf)) == pytest.approx(reward - root, abs=1e-9)
    # Every segment's tokens are trained on once, whichever order the leaves have.
    trained = batch.segment[found.defined]
    for leaf in leaves:
        for number in set(leaf):
            assert (trained == number).sum() == leaf.count(number)


def test_a_segment_that_is_worth_what_its_siblings_are_may_be_left_out() -> None:
    batch = as_batch([episode([1], tokens=1), episode([1], tokens=1), episode([0], tokens=1, group="other")])
    batch.segment = np.arange(3)
    assert SPOTree(certain="credited").advantages(batch).defined.all()
    assert not SPOTree(certain="credited", zeros="dropped").advantages(batch).defined.any()


def test_by_std_siblings_are_scaled_by_their_spread() -> None:
    batch = as_batch([episode([1], tokens=1), episode([0], tokens=1), episode([0], tokens=1)])
    batch.segment = np.arange(3)
    found = SPOTree(certain="credited", normalize="std", epsilon=0).advantages(batch)
    np.testing.assert_allclose(found.values, np.array([2, -1, -1]) / 3 / np.std([1, 0, 0]))


# -- where trees grow -------------------------------------------------------------------------------------------------------


def test_an_spo_tree_branches_behind_every_segment_of_every_leaf_that_goes_on() -> None:
    tree = as_batch([episode([0, 0], tokens=3), episode([0], tokens=4), episode([0], tokens=3)])
    method, draw = SPOTree(branching=[3, 2], segment=3), np.random.default_rng(0)
    assert method.rounds == 2
    assert method.places(tree, 0, draw).tolist() == [3, 3, 9, 9]  # the third leaf ends with its first segment
    assert method.places(tree, 1, draw).tolist() == []  # and all end before a third one
    by_steps = replace(method, segment=1, unit="steps")
    assert by_steps.places(tree, 0, draw).tolist() == [3, 3]


def test_tree_grpo_draws_states_of_the_whole_tree_shared_ones_once_and_none_behind_a_last_step() -> None:
    # Two leaves that share their first two steps: 2 tokens each, branched before the third.
    tree = as_batch([episode([0, 0, 0, 1], tokens=2), episode([0, 0, 0], tokens=2)])
    tree.segment = np.array([0] * 4 + [1] * 4 + [0] * 4 + [2] * 2)
    method, draw = TreeGRPO(nodes=4000), np.random.default_rng(0)
    places, counts = np.unique(method.places(tree, 0, draw), return_counts=True)
    assert places.tolist() == [0, 2, 4, 6]
    assert (np.abs(counts - 1000) < 150).all()  # five standard deviations
    assert len(TreeGRPO().places(tree, 0, draw)) == 2


def test_tree_grpo_keeps_as_many_leaves_as_asked_each_as_often_as_the_others() -> None:
    tree, draw = as_batch([episode([one]) for one in range(5)]), np.random.default_rng(0)
    assert TreeGRPO(leaves=None).kept(tree, draw).tolist() == [0, 1, 2, 3, 4]
    assert TreeGRPO(leaves=7).kept(tree, draw).tolist() == [0, 1, 2, 3, 4]
    drawn = [TreeGRPO(leaves=3).kept(tree, draw).tolist() for _ in range(1000)]
    assert all(len(set(one)) == 3 and one == sorted(one) for one in drawn)
    counts = np.bincount(np.concatenate(drawn))
    assert (np.abs(counts - 600) < 80).all()
