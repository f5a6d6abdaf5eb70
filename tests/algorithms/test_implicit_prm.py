"""Implicit process rewards: what they sum to, what they leave optimal, how large they get, and how their model is fitted.

The model is a softmax table over states, so that everything can be computed exactly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.base import Batch, Floats, Ints
from algorithms.shaping.implicit_prm import ImplicitPRM
from algorithms.shaping.preference import cross_entropy, detached_dpo
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import shape

quick = settings(max_examples=25, deadline=None)


def log_softmax(table: Floats) -> Floats:
    shifted = table - table.max(-1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


class Table:
    """Softmax policies over states (numbers, as state keys) and actions (response ids): one that learns, one that sampled."""

    def __init__(self, logits: Floats, old: Floats, lr: float = 1.0) -> None:
        self.logits, self.old, self.lr = logits.copy(), old, lr
        self.steps = 0

    def logprobs(self, batch: Batch) -> Floats:
        return log_softmax(self.logits)[self._places(batch.trajectories)]

    def rollout_logprobs(self, batch: Batch) -> Floats:
        return log_softmax(self.old)[self._places(batch.trajectories)]

    def descend(self, batch: Batch, gradient: Floats) -> dict[str, float]:
        states, actions = self._places(batch.trajectories)
        slope = np.zeros_like(self.logits)
        np.add.at(slope, (states, actions), gradient)
        probability = np.exp(log_softmax(self.logits))
        self.logits -= self.lr * (slope - probability * slope.sum(-1, keepdims=True))
        self.steps += 1
        return {"grad_norm": float(np.linalg.norm(slope))}

    def _places(self, trajectories: Sequence[Trajectory]) -> tuple[Ints, Ints]:
        pairs = [(int(s.state_key), token) for t in trajectories for s in t.steps for token in s.response_ids]
        states, actions = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        return states, actions


def played(steps: Sequence[tuple[int, list[int]]], success: bool, group: str = "task", **fields: Any) -> Trajectory:
    """A trajectory of (state, tokens of the action)."""
    made = [Step("", "", state_key=str(state), response_ids=tokens) for state, tokens in steps]
    return Trajectory("env", group, group, 0, "train", steps=made, success=success, **fields)


def random_group(
    rng: np.random.Generator, states: int, actions: int, episodes: int = 6, group: str = "task"
) -> list[Trajectory]:
    def steps() -> list[tuple[int, list[int]]]:
        return [
            (int(rng.integers(states)), rng.integers(actions, size=rng.integers(1, 4)).tolist())
            for _ in range(rng.integers(1, 5))
        ]

    scores = rng.choice([0.0, 0.25, 0.25, 0.9, 1.0], size=episodes).tolist()
    return [played(steps(), success=number % 2 == 0, group=group, score=scores[number]) for number in range(episodes)]


def rewards(trajectories: Sequence[Trajectory]) -> list[list[float]]:
    return [[step.shaped_rewards["implicit_prm"] for step in one.steps] for one in trajectories]


def shaped(model: Table, trajectories: Sequence[Trajectory], **settings: Any) -> ImplicitPRM:
    prm = ImplicitPRM(**settings)
    prm.model = model
    shape(prm, trajectories, "implicit_prm")
    return prm


def tables(rng: np.random.Generator, states: int = 5, actions: int = 4) -> tuple[Floats, Floats]:
    return rng.normal(size=(states, actions)), rng.normal(size=(states, actions))


# -- what the rewards are ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.floats(0.01, 2.0), st.sampled_from(["before", "updated"]))
@quick
def test_the_rewards_of_a_trajectory_sum_to_beta_times_its_log_ratio(seed: int, beta: float, when: str) -> None:
    rng = np.random.default_rng(seed)
    model = Table(*tables(rng))
    before, group = model.logits.copy(), random_group(rng, 5, 4)
    shaped(model, group, beta=beta, reward=when)
    now = Table(before if when == "before" else model.logits, model.old)
    for one, given_ in zip(group, rewards(group)):
        alone = as_batch([one])
        log_ratio = (now.logprobs(alone) - now.rollout_logprobs(alone)).sum()
        assert sum(given_) == pytest.approx(beta * log_ratio, abs=1e-9)


class World:
    """A random deterministic task of `depth` layers of states: rewards r [S, A], next states [S, A], and an end."""

    def __init__(self, rng: np.random.Generator, depth: int = 4, width: int = 3, actions: int = 3) -> None:
        self.actions, self.end = actions, depth * width
        self.reward = rng.normal(size=(self.end, actions))
        layer = np.repeat(np.arange(depth), width)[:, None]
        self.next = (layer + 1) * width + rng.integers(width, size=(self.end, actions))
        self.next[layer[:, 0] == depth - 1] = self.end
        self.start = int(rng.integers(width))

    def optimal(self, reward: Floats) -> tuple[Floats, Floats]:
        """V [S + 1] and Q [S, A] of the best policy for `reward` [S, A] (value iteration, from the end)."""
        return self._backwards(reward, lambda state, q: q.max())

    def soft_optimal(self, old: Floats, beta: float) -> tuple[Floats, Floats]:
        """V [S + 1] of the problem with price beta KL(pi || old), and its best policy's log-probabilities [S, A]."""
        log_old = log_softmax(old)
        v, q = self._backwards(self.reward, lambda state, q: beta * np.logaddexp.reduce(log_old[state] + q / beta))
        return v, log_old + (q - v[:-1, None]) / beta

    def _backwards(self, reward: Floats, value: Any) -> tuple[Floats, Floats]:
        v, q = np.zeros(self.end + 1), np.zeros_like(reward)
        for state in range(self.end - 1, -1, -1):
            q[state] = reward[state] + v[self.next[state]]
            v[state] = value(state, q[state])
        return v, q

    def episodes(self, rng: np.random.Generator, n: int) -> list[Trajectory]:
        """Random ones, all successful: there is no pair, and the model stays as it is."""
        made = []
        for _ in range(n):
            state, steps = self.start, []
            while state != self.end:
                action = int(rng.integers(self.actions))
                steps.append((state, [action]))
                state = self.next[state, action]
            made.append(played(steps, success=True))
        return made

    def every_step(self) -> list[Trajectory]:
        return [played([(state, [action])], success=True) for state in range(self.end) for action in range(self.actions)]


@given(st.integers(0, 2**32), st.floats(0.05, 2.0))
@quick
def test_rewards_of_a_model_that_is_optimal_for_r_are_r_and_a_potential_difference(seed: int, beta: float) -> None:
    rng = np.random.default_rng(seed)
    world, old = World(rng), rng.normal(size=(12, 3))
    potential, best = world.soft_optimal(old, beta)
    group = world.episodes(rng, 5)
    prm = shaped(Table(best, old), group, beta=beta)
    assert prm.metrics["pairs"] == 0
    for one, given_ in zip(group, rewards(group)):
        places = [(int(step.state_key), step.response_ids[0]) for step in one.steps]
        expected = [world.reward[place] + potential[world.next[place]] - potential[place[0]] for place in places]
        np.testing.assert_allclose(given_, expected, rtol=1e-9, atol=1e-9)
        total = sum(world.reward[place] for place in places)
        assert sum(given_) == pytest.approx(total - potential[world.start], abs=1e-9)  # all of it telescopes


@given(st.integers(0, 2**32), st.floats(0.05, 2.0), st.sampled_from(["none", "batch"]), st.booleans())
@quick
def test_rewards_of_such_a_model_keep_the_optimal_policy(seed: int, beta: float, norm: str, added: bool) -> None:
    """Alone, divided by their largest, or added to r: the best action of every state stays the best."""
    rng = np.random.default_rng(seed)
    world, old = World(rng), rng.normal(size=(12, 3))
    group = world.every_step()
    shaped(Table(world.soft_optimal(old, beta)[1], old), group, beta=beta, normalize=norm)
    implicit = np.array(rewards(group)).reshape(world.reward.shape)
    _, q = world.optimal(world.reward)
    _, found = world.optimal(implicit + world.reward if added else implicit)
    assert found.argmax(-1).tolist() == q.argmax(-1).tolist()


@given(st.integers(0, 2**32))
@quick
def test_a_potential_keeps_the_optimal_policy_and_another_reward_does_not(seed: int) -> None:
    """The value iteration of these tests can tell the difference."""
    rng = np.random.default_rng(seed)
    world = World(rng)
    _, q = world.optimal(world.reward)
    potential = np.append(rng.normal(size=world.end), 0.0)
    _, shifted = world.optimal(world.reward + potential[world.next] - potential[:-1, None])
    np.testing.assert_allclose(shifted, q - potential[:-1, None], atol=1e-9)
    _, reversed_ = world.optimal(-world.reward)
    assert reversed_.argmax(-1).tolist() != q.argmax(-1).tolist()


@given(st.integers(0, 2**32), st.floats(0.01, 0.2), st.floats(0.01, 2.0))
@quick
def test_a_reward_is_at_most_beta_log_1_over_eps_where_no_action_is_rarer_than_eps(seed: int, eps: float, beta: float) -> None:
    rng = np.random.default_rng(seed)
    actions = 5
    own, old = (eps + (1 - actions * eps) * rng.dirichlet(np.full(actions, 0.05), size=6) for _ in range(2))
    group = [played([(int(s), [int(a)]) for s, a in zip(rng.integers(6, size=4), rng.integers(actions, size=4))], True)]
    shaped(Table(np.log(own), np.log(old)), group, beta=beta)
    assert max(abs(r) for r in rewards(group)[0]) <= beta * np.log(1 / eps) * (1 + 1e-12)


def test_the_bound_is_reached() -> None:
    own, old = np.log([[0.9, 0.1]]), np.log([[0.1, 0.9]])
    group = [played([(0, [0]), (0, [1])], True)]
    shaped(Table(own, old), group, beta=1.0)
    assert rewards(group)[0] == pytest.approx([np.log(9), -np.log(9)])


def test_where_both_models_are_the_same_every_reward_is_exactly_0() -> None:
    rng = np.random.default_rng(0)
    old, _ = tables(rng)
    group = [one for one in random_group(rng, 5, 4) if one.success]
    shaped(Table(old, old), group)
    assert rewards(group) == [[0.0] * len(one.steps) for one in group]


def test_batch_norm_makes_the_largest_reward_1_whatever_beta() -> None:
    def normed(beta: float) -> list[list[float]]:
        rng = np.random.default_rng(3)
        model, group = Table(*tables(rng)), random_group(rng, 5, 4)
        shaped(model, group, beta=beta, normalize="batch", reward="before")
        return rewards(group)

    found = np.concatenate(normed(1.0))
    assert np.abs(found).max() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(found, np.concatenate(normed(7.0)), atol=1e-5)


# -- how the model is fitted ------------------------------------------------------------------------------------------------

LOSSES: list[dict[str, Any]] = [
    {"loss": "dpo"},
    {"loss": "dpo", "score": "mean"},
    {"loss": "ce"},
    {"loss": "ce", "label": "score"},
]


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@given(st.integers(0, 2**32))
@quick
def test_the_gradient_is_the_derivative_of_the_loss(loss: dict[str, Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = random_group(rng, 5, 4) + random_group(rng, 5, 4, episodes=3, group="other")
    prm = ImplicitPRM(beta=0.7, **loss)
    batch = as_batch(group)
    label = prm.labels(batch)
    ratio = rng.normal(size=batch.tokens.sum())
    _, gradient = prm.fit(batch, label, ratio)
    for token in rng.choice(len(ratio), size=4, replace=False):
        nudge = np.zeros_like(ratio)
        nudge[token] = 1e-5
        up, down = (prm.fit(batch, label, ratio + sign * nudge)[0].loss for sign in (1, -1))
        assert gradient[token] == pytest.approx((up - down) / 2e-5, abs=1e-8)


def test_the_dpo_loss_is_the_mean_over_all_pairs_of_all_groups() -> None:
    group = [played([(0, [0])], s) for s in (True, True, False)] + [
        played([(0, [0])], s, "other") for s in (True, False, False)
    ]
    prm = ImplicitPRM(beta=1.0)
    scores = [1.0, 2.0, -1.0, 0.5, 1.5, 0.0]
    batch = as_batch(group)
    fit, _ = prm.fit(batch, prm.labels(batch), np.array(scores))
    margins = np.array([1.0 + 1.0, 2.0 + 1.0, 0.5 - 1.5, 0.5 - 0.0])
    assert fit.loss == pytest.approx(np.log1p(np.exp(-margins)).mean())
    assert (fit.compared, fit.accuracy) == (4, 0.75)


def test_a_detached_mean_is_that_of_the_other_outcome_in_the_own_group() -> None:
    score, label = np.array([1.0, -1.0, 3.0, 5.0]), np.array([1.0, 0.0, 0.0, 1.0])
    fit = detached_dpo(score, label, np.array([0, 0, 0, 1]))
    margins = np.array([1.0 - 1.0, 1.0 + 1.0, 1.0 - 3.0, 5.0 - 0.0])
    assert fit.loss == pytest.approx(np.log1p(np.exp(-margins)).mean())
    weighted = detached_dpo(score, label, np.array([0, 0, 0, 1]), "outcome")
    weights = np.array([3.0, 3 * (2 / 3) ** 2, 3 * (2 / 3) ** 2, 1.0])
    assert weighted.loss == pytest.approx((weights * np.log1p(np.exp(-margins))).sum())


units = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        *(
            st.lists(one, min_size=n, max_size=n)
            for one in (st.floats(-5, 5), st.sampled_from([0, 0.25, 0.5, 1]), st.integers(0, 2))
        )
    )
)
"""Scores, labels and groups of some units."""


@given(units)
@quick
def test_beside_graded_labels_stand_the_mean_of_lower_ones_or_of_higher_ones(drawn: tuple[list[float], ...]) -> None:
    score, label, group = (np.array(one, dtype=float) for one in drawn)
    expected = []
    for mine, grade, number in zip(score, label, group):
        others = score[(group == number) & ((label < grade) if grade > 0 else (label > grade))]
        expected.append((1 if grade > 0 else -1) * (mine - (others.mean() if len(others) else 0.0)))
    found = detached_dpo(score, label, group.astype(np.int64))
    assert found.loss == pytest.approx(np.log1p(np.exp(-np.array(expected))).mean())


@given(units)
@quick
def test_cross_entropy_is_least_where_the_probability_is_the_label(drawn: tuple[list[float], ...]) -> None:
    score, label, _ = (np.array(one, dtype=float) for one in drawn)
    probability = 1 / (1 + np.exp(-score))
    np.testing.assert_allclose(cross_entropy(score, label).gradient, (probability - label) / len(score), atol=1e-12)
    assert cross_entropy(score, probability).gradient == pytest.approx(0.0, abs=1e-12)
    assert cross_entropy(score, probability).loss <= cross_entropy(score + 1, probability).loss


@pytest.mark.parametrize("loss", [*LOSSES, {"loss": "detached_dpo"}, {"loss": "detached_dpo", "label": "score"}], ids=str)
def test_fitting_puts_pairs_in_order(loss: dict[str, Any]) -> None:
    """In state 0 action 0 is taken by those that succeed."""
    old = np.zeros((2, 3))
    model = Table(old, old, lr=20.0)

    def episodes() -> list[Trajectory]:
        return [played([(0, [0 if won else 1])], won, score=float(won)) for won in (True, False, False)]

    prm = shaped(model, episodes(), **loss)
    first = dict(prm.metrics)
    assert first["accuracy"] == 0.5
    for _ in range(30):
        group = episodes()
        shape(prm, group, "implicit_prm")
    assert prm.metrics["loss"] < first["loss"]
    assert prm.metrics["accuracy"] == 1.0
    good, bad = rewards(group)[0], rewards(group)[1]
    assert good[0] > 0 > bad[0]


def test_rewards_come_from_before_or_after_the_update() -> None:
    def first_reward(when: str) -> float:
        group = [played([(0, [0])], True), played([(0, [1])], False)]
        shaped(Table(np.zeros((1, 2)), np.zeros((1, 2))), group, reward=when)
        return rewards(group)[0][0]

    assert first_reward("before") == 0.0
    assert first_reward("updated") > 0


def test_epochs_are_steps_with_a_gradient_each() -> None:
    def moved(epochs: int, lr: float) -> tuple[int, float]:
        model = Table(np.zeros((1, 2)), np.zeros((1, 2)), lr)
        shaped(model, [played([(0, [0])], True), played([(0, [1])], False)], epochs=epochs, beta=5.0)
        return model.steps, float(model.logits[0, 0])

    assert moved(1, 1.0)[0] == 1
    assert moved(3, 1.0)[0] == 3
    assert moved(3, 1.0)[1] < 3 * moved(1, 1.0)[1]  # the gradient falls as the loss does


def test_without_a_pair_nothing_is_learned_and_rewards_are_given() -> None:
    model = Table(np.array([[1.0, 0.0]]), np.zeros((1, 2)))
    group = [played([(0, [0])], True), played([(0, [1])], True), played([(0, [1])], False, group="other")]
    prm = shaped(model, group)
    assert (prm.metrics["pairs"], model.steps) == (0.0, 0)
    assert "accuracy" not in prm.metrics
    assert rewards(group)[0][0] > 0 > rewards(group)[1][0]


def test_episodes_cut_off_by_a_fault_take_no_part() -> None:
    def fitted(cut: list[Trajectory]) -> tuple[Floats, list[Trajectory]]:
        rng = np.random.default_rng(5)
        model, group = Table(*tables(rng)), random_group(rng, 5, 4)
        shaped(model, [*group, *cut])
        return model.logits, group

    cut = played([(0, [0, 0, 0])], True, error="timeout")
    (logits, group), (other, same) = fitted([]), fitted([cut])
    assert logits.tolist() == other.tolist()
    assert rewards(group) == rewards(same)
    assert cut.steps[0].shaped_rewards == {}


def test_a_score_above_the_threshold_is_positive_where_there_is_no_success() -> None:
    group = [played([(0, [0])], False, score=score) for score in (5.0, 6.0, 7.5)]
    batch = as_batch(group)
    assert ImplicitPRM(score_threshold=6.0).labels(batch).tolist() == [0.0, 0.0, 1.0]
    assert ImplicitPRM().labels(batch).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("score", [-0.5, 1.5, float("nan")])
def test_a_score_beyond_0_and_1_is_no_label_and_its_task_is_named(score: float) -> None:
    with pytest.raises(ValueError, match=f"task 'room 3' was given the score {score}"):
        ImplicitPRM(loss="ce", label="score").labels(as_batch([played([(0, [0])], False, score=score, group="room 3")]))


@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
@quick
def test_the_order_of_episodes_does_not_matter(seed: int, rng: random.Random) -> None:
    def made() -> tuple[Table, list[Trajectory]]:
        numbers = np.random.default_rng(seed)
        return Table(*tables(numbers)), random_group(numbers, 5, 4) + random_group(numbers, 5, 4, group="other")

    (model, group), (other, same) = made(), made()
    shuffled = same.copy()
    rng.shuffle(shuffled)
    shaped(model, group)
    shaped(other, shuffled)
    np.testing.assert_allclose(model.logits, other.logits, atol=1e-12)
    np.testing.assert_allclose(np.concatenate(rewards(group)), np.concatenate(rewards(same)), atol=1e-12)


def test_an_episode_that_is_in_the_list_twice_is_refused() -> None:
    one = played([(0, [0])], True)
    with pytest.raises(ValueError, match="in the list twice"):
        shaped(Table(np.zeros((1, 2)), np.zeros((1, 2))), [one, one])


def test_the_environments_reward_stays_and_no_episode_is_no_error() -> None:
    group = [played([(0, [0])], True), played([(0, [1])], False)]
    group[0].steps[0].reward = 10.0
    shaped(Table(np.zeros((1, 2)), np.zeros((1, 2))), group)
    assert [one.total_reward for one in group] == [10.0, 0.0]
    assert shaped(Table(np.zeros((1, 2)), np.zeros((1, 2))), []).metrics["pairs"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0.0}, "beta is 0.0; it must be more than 0"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"kind": "lora"}, "kind is 'lora'; allowed: adapter, copy"),
        ({"targets": []}, "targets is empty"),
        ({"label": "graded"}, "label is 'graded'; allowed: outcome, score"),
        ({"label": "score"}, "label is 'score', but loss is 'dpo'"),
        ({"label": "score", "loss": "ce", "score_threshold": 6.0}, "label is 'score', but score_threshold is 6"),
    ],
)
def test_a_mistake_in_the_settings_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImplicitPRM(**settings)


def test_without_a_model_it_says_who_sets_it() -> None:
    with pytest.raises(ValueError, match="has no model; the trainer sets it"):
        shape(ImplicitPRM(), [], "implicit_prm")
