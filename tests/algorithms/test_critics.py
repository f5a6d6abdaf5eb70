"""Credit by values: what GAE computes, and what distinguishes POAD's backup from its baselines'."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.base import Batch, Floats
from algorithms.bi_level import BiLevelGAE
from algorithms.critics import CriticMethod
from algorithms.macro import MacroPPO
from algorithms.poad import POAD
from algorithms.ppo import PPO
from algorithms.stats import gae
from algorithms.steppo import StepPO
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch

METHODS: dict[str, CriticMethod] = {
    "poad": POAD(),
    "ntpo": POAD(inner=None),
    "archer": POAD(inner=None, next_value="action"),
    "ppo": PPO(),
    "ppo action": PPO(level="action"),
    "steppo": StepPO(),
    "bi-level": BiLevelGAE(),
    "macro actions": MacroPPO(n=2),
}
BY_ACTION = METHODS["ppo action"], METHODS["steppo"]
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
quick = settings(max_examples=40, deadline=None)


def played(lengths: list[list[int]], rewards: list[list[float]], **fields: object) -> list[Trajectory]:
    """A trajectory for each list of action lengths."""
    return [
        Trajectory(
            "env", "task", "task", 0, "train", steps=[Step("", "", r, response_ids=[0] * n) for n, r in zip(ns, rs)], **fields
        )
        for ns, rs in zip(lengths, rewards)
    ]


def batch_of(trajectories: list[Trajectory], values: Floats) -> Batch:
    batch = as_batch(trajectories)
    batch.values = values
    return batch


lists_of_lengths = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=4)


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Trajectory], Floats]:
    lengths = draw(lists_of_lengths)
    numbers = np.random.default_rng(draw(st.integers(0, 10**6)))
    rewards = [numbers.choice([0.0, 0.0, 1.0, -0.5], len(row)).tolist() for row in lengths]
    return played(lengths, rewards), numbers.normal(size=sum(map(sum, lengths)))


# -- GAE --------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
@quick
def test_gae_is_the_discounted_sum_of_temporal_differences(lengths: list[int], seed: int, lam: float) -> None:
    numbers = np.random.default_rng(seed)
    places = sum(lengths)
    reward, values, discount = numbers.normal(size=places), numbers.normal(size=places), numbers.uniform(0.5, 1, places)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    found = gae(reward, values, discount, episode, lam)
    start = 0
    for n in lengths:
        seen = [*values[start : start + n], 0.0]
        for i in range(n):
            expected, weight = 0.0, 1.0
            for k in range(i, n):
                expected += weight * (reward[start + k] + discount[start + k] * seen[k + 1] - seen[k])
                weight *= discount[start + k] * lam
            assert found[start + i] == pytest.approx(expected, abs=1e-9)
        start += n


def test_a_trajectory_without_places_is_passed_over() -> None:
    found = gae(np.ones(2), np.zeros(2), np.ones(2), np.array([1, 1]), 1.0)
    assert found.tolist() == [2.0, 1.0]


# -- the backup and the action-level Q --------------------------------------------------------------------------------------


@dataclass
class Node:
    """A prefix of actions in a state: either more tokens follow, or the action is said and (reward, next state) comes of it."""

    tokens: dict[int, Node]
    reward: float = 0.0
    after: Node | None = None

    def value(self, gamma: float) -> float:
        """Optimal action-level value of whoever stands here: gamma counts actions, not tokens."""
        if self.tokens:
            return max(child.value(gamma) for child in self.tokens.values())
        return self.reward + (gamma * self.after.value(gamma) if self.after else 0.0)


def tree(numbers: np.random.Generator, actions: int, depth: int) -> Node:
    """A state whose possible actions are the leaves of a random tree of tokens, after each of which comes such a state."""

    def prefix(level: int) -> Node:
        if level and (level == 3 or numbers.random() < 0.4):
            return Node({}, float(numbers.normal()), tree(numbers, actions, depth - 1) if depth > 1 else None)
        return Node({token: prefix(level + 1) for token in range(int(numbers.integers(1, actions + 1)))})

    return prefix(0)


def walk(root: Node, numbers: np.random.Generator, gamma: float) -> tuple[Trajectory, list[float], list[float], list[int]]:
    """A random episode; the optimal value before each token; the Q of each step's action; how long the actions are."""
    steps, values, qs = [], [], []
    state: Node | None = root
    while state is not None:
        node, n = state, 0
        while node.tokens:
            values.append(node.value(gamma))
            node, n = node.tokens[int(numbers.choice(list(node.tokens)))], n + 1
        steps.append(Step("", "", node.reward, response_ids=[0] * n))
        qs.append(node.value(gamma))
        state = node.after
    return Trajectory("env", "t", "t", 0, "train", steps=steps), values, qs, [len(s.response_ids) for s in steps]


@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.9, 0.95]))
@quick
def test_poads_backup_ends_in_the_action_level_q_under_optimal_values(seed: int, gamma: float) -> None:
    numbers = np.random.default_rng(seed)
    trajectory, values, qs, lengths = walk(tree(numbers, 3, 3), numbers, gamma)
    found = POAD(gamma=gamma, lam=0.0).advantages(batch_of([trajectory], np.array(values)))
    assert found.returns is not None
    ends = np.cumsum(lengths) - 1
    np.testing.assert_allclose(found.returns[ends], qs, atol=1e-9)
    inside = np.setdiff1d(np.arange(len(values)), ends)
    np.testing.assert_allclose(found.returns[inside], np.array(values)[inside + 1], atol=1e-9)


@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.9, 0.95]))
@quick
def test_ntpos_backup_misses_the_action_level_q_the_more_tokens_are_left(seed: int, gamma: float) -> None:
    numbers = np.random.default_rng(seed)
    n, reward = int(numbers.integers(2, 6)), float(numbers.uniform(0.5, 2))
    (trajectory,) = played([[n]], [[reward]])
    best = np.full(n, reward)  # one action: its Q is the optimal value before each of its tokens
    poad = POAD(gamma=gamma, lam=1.0).advantages(batch_of([trajectory], best)).returns
    ntpo = POAD(gamma=gamma, lam=1.0, inner=None).advantages(batch_of([trajectory], best)).returns
    assert poad is not None
    assert ntpo is not None
    np.testing.assert_allclose(poad, reward)
    left = np.arange(n - 1, -1, -1)
    np.testing.assert_allclose(reward - ntpo, reward * (1 - gamma**left), atol=1e-9)


@given(batches(), st.integers(2, 3))
@quick
def test_poads_credit_does_not_depend_on_how_long_an_action_is(made: tuple[list[Trajectory], Floats], times: int) -> None:
    trajectories, _ = made
    longer = [
        Trajectory(
            "env", "t", "t", 0, "train", steps=[Step("", "", s.reward, response_ids=s.response_ids * times) for s in t.steps]
        )
        for t in trajectories
    ]

    def first(trajectories: list[Trajectory], method: CriticMethod) -> Floats:
        total = sum(len(s.response_ids) for t in trajectories for s in t.steps)
        batch = batch_of(trajectories, np.zeros(total))
        return method.advantages(batch).values[np.cumsum(batch.tokens) - batch.tokens]

    np.testing.assert_allclose(first(trajectories, POAD(lam=1.0)), first(longer, POAD(lam=1.0)), atol=1e-9)


def test_with_actions_of_one_token_poad_ntpo_and_turns_are_the_same() -> None:
    trajectories = played([[1, 1, 1], [1, 1]], [[0, 0, 1], [0, -1]])
    values = np.array([0.3, -0.2, 0.5, 0.1, 0.7])
    turn = PPO(gamma=0.95, level="action", normalize=False).advantages(batch_of(trajectories, values))
    for method in (POAD(), METHODS["ntpo"], METHODS["archer"]):
        found = method.advantages(batch_of(trajectories, values))
        np.testing.assert_allclose(found.values, turn.values)
        np.testing.assert_allclose(found.returns, turn.returns)


# -- turns ------------------------------------------------------------------------------------------------------------------


@given(batches(), st.integers(2, 3))
@quick
def test_each_action_enters_steppos_statistics_once_however_long_it_is(
    made: tuple[list[Trajectory], Floats], times: int
) -> None:
    trajectories, _ = made
    batch = batch_of(trajectories, np.zeros(sum(len(s.response_ids) for t in trajectories for s in t.steps)))
    first = np.cumsum(batch.tokens) - batch.tokens
    found = StepPO().advantages(batch).values[first]
    raw = StepPO(normalize=False).advantages(batch).values[first]
    if raw.std() > 1e-6:
        np.testing.assert_allclose(found, (raw - raw.mean()) / (raw.std(ddof=1) + 1e-8), atol=1e-9)
    else:
        assert not found.any()
    trajectories[0].steps[0].response_ids *= times
    longer = batch_of(trajectories, np.zeros(int(batch.tokens.sum()) + (times - 1) * int(batch.tokens[0])))
    np.testing.assert_allclose(StepPO().advantages(longer).values[np.cumsum(longer.tokens) - longer.tokens], found, atol=1e-9)


@given(batches(), st.sampled_from([0.5, 0.95, 1.0]), st.sampled_from([0.0, 0.9, 1.0]))
@quick
def test_with_turns_of_one_token_both_levels_are_gae_over_actions(
    made: tuple[list[Trajectory], Floats], gamma: float, lam: float
) -> None:
    trajectories = made[0]
    for t in trajectories:
        for step in t.steps:
            step.response_ids = [0]
    values = np.cos(np.arange(sum(len(t.steps) for t in trajectories), dtype=float))
    turn = BiLevelGAE(gamma=gamma, lam=lam, inner=0.5, normalize=False).advantages(batch_of(trajectories, values))
    action = PPO(gamma=gamma, lam=lam, level="action", normalize=False).advantages(batch_of(trajectories, values))
    np.testing.assert_allclose(turn.values, action.values, atol=1e-9)
    np.testing.assert_allclose(turn.returns, action.returns, atol=1e-9)


def test_credit_inside_a_turn_comes_from_its_end_alone() -> None:
    trajectories = played([[2, 2]], [[0, 1]])
    values = np.array([0.1, 0.2, 0.3, 0.4])
    found = BiLevelGAE(gamma=0.5, inner=0.9, lam=1.0, normalize=False).advantages(batch_of(trajectories, values))
    second = 1 - 0.4
    first = 0 + 0.5 * 0.4 - 0.2 + 0.5 * second
    inside = [0.9 * 0.2 - 0.1 + 0.9 * first, first, 0.9 * 0.4 - 0.3 + 0.9 * second, second]
    np.testing.assert_allclose(found.values, inside, atol=1e-12)


@given(batches())
@quick
def test_a_turn_ends_with_its_step_and_not_with_a_reward(made: tuple[list[Trajectory], Floats]) -> None:
    """A reward that is all but 0 changes all but nothing; the authors' rule makes two turns of one by it."""
    trajectories, values = made
    before = BiLevelGAE(normalize=False).advantages(batch_of(trajectories, values)).values
    for t in trajectories:
        for step in t.steps:
            step.reward += 1e-9
    for turns in ("steps", "rewards"):
        after = BiLevelGAE(normalize=False, turns=turns).advantages(batch_of(trajectories, values)).values  # type: ignore[arg-type]
        np.testing.assert_allclose(after, before, atol=1e-7)


def test_the_official_rule_makes_one_turn_of_an_episode_that_is_paid_at_its_end() -> None:
    whole, values = played([[2, 1, 1]], [[0, 0, 1]]), np.array([0.3, -0.2, 0.5, 0.1])
    one = played([[4]], [[1]])
    official = BiLevelGAE(turns="rewards", gamma=0.5).advantages(batch_of(whole, values))
    np.testing.assert_allclose(official.values, BiLevelGAE(gamma=0.5).advantages(batch_of(one, values)).values)
    assert not np.allclose(official.values, BiLevelGAE(gamma=0.5).advantages(batch_of(whole, values)).values)
    unpaid = played([[2], [1, 1]], [[0], [1, 0]])
    assert np.isfinite(BiLevelGAE(turns="rewards").advantages(batch_of(unpaid, values)).values).all()


# -- what holds for all of them ---------------------------------------------------------------------------------------------


@methods
@given(batches(), st.randoms(use_true_random=False))
@quick
def test_the_order_of_trajectories_does_not_matter(method, made, random) -> None:
    trajectories, values = made
    order = list(range(len(trajectories)))
    random.shuffle(order)
    counts = [sum(len(s.response_ids) for s in t.steps) for t in trajectories]
    pieces = np.split(values, np.cumsum(counts)[:-1])
    there = method.advantages(batch_of([trajectories[i] for i in order], np.concatenate([pieces[i] for i in order])))
    here = np.split(method.advantages(batch_of(trajectories, values)).values, np.cumsum(counts)[:-1])
    np.testing.assert_allclose(there.values, np.concatenate([here[i] for i in order]), atol=1e-9)


@methods
def test_an_episode_cut_off_by_a_fault_changes_nothing_and_gets_nothing(method: CriticMethod) -> None:
    good, bad = played([[2, 1]], [[0, 1]]), played([[3]], [[5]], error="timeout")
    values = np.array([0.1, 0.2, 0.3, 9.0, 9.0, 9.0])
    alone = method.advantages(batch_of(good, values[:3]))
    both = method.advantages(batch_of(good + bad, values))
    np.testing.assert_allclose(both.values[:3], alone.values)
    assert not both.defined[3:].any()
    assert both.returns is not None
    assert np.isnan(both.returns[3:]).all()


@methods
def test_every_token_has_one_advantage_and_only_real_places_have_a_target(method: CriticMethod) -> None:
    batch = batch_of(played([[2, 1], [3]], [[0, 1], [0]]), np.zeros(6))
    found = method.advantages(batch)
    values, defined = found.per_token(batch)
    assert len(values) == len(defined) == 6
    assert bool(defined.all())
    assert found.returns is not None
    targets = np.isfinite(found.returns)
    assert targets.tolist() == ([True, False, True, True, False, False] if method in BY_ACTION else [True] * 6)


@methods
def test_shaped_rewards_enter_where_they_are_told_to(method: CriticMethod) -> None:
    def with_bonus(entry: str) -> Floats:
        (trajectory,) = played([[1, 1]], [[0, 1]])
        trajectory.steps[0].shaped_rewards["bonus"] = 2.0
        made = replace(method, shaped_at={"bonus": entry}, normalize=False)
        return made.advantages(batch_of([trajectory], np.zeros(2))).values

    without = with_bonus("none")
    np.testing.assert_allclose(with_bonus("reward") - without, [2, 0])
    np.testing.assert_allclose(with_bonus("advantage") - without, [2, 0])


@methods
def test_what_is_missing_is_named(method: CriticMethod) -> None:
    batch = as_batch(played([[1]], [[1]]))
    with pytest.raises(ValueError, match=r"batch\.values"):
        method.advantages(batch)
    with pytest.raises(ValueError, match="no sampled token"):
        method.advantages(batch_of(played([[0]], [[1]]), np.zeros(0)))
    with pytest.raises(ValueError, match="gamma is 2"):
        type(method)(gamma=2)
