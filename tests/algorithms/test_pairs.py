"""Rewards of single tokens, and objectives on pairs: their gradients, what they have in common, and where they enter."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.base import Algorithm, Batch, Floats
from algorithms.gigpo import GiGPO
from algorithms.ppo import PPO
from algorithms.shaped import Shaped
from algorithms.shaping import Shaping
from algorithms.shaping.aligndistil import AlignDistil
from algorithms.shaping.cdpo import CDPO
from algorithms.shaping.implicit_prm import ImplicitPRM
from algorithms.shaping.pairs import PairObjective, paired
from algorithms.shaping.preference import dpo
from algorithms.shaping.t_reg import TREG
from algorithms.shaping.tgdpo import TGDPO
from algorithms.shaping.token_reward import TokenReward
from algorithms.stats import step_sums
from tests.algorithms.batches import as_batch
from tests.algorithms.test_golden import CHECKS, cases
from tests.algorithms.test_implicit_prm import Table, log_softmax, played, random_group, tables

quick = settings(max_examples=15, deadline=None)
MINE = ("aligndistil", "cdpo", "rto_token_rewards", "t_reg", "tgdpo")
OBJECTIVES: dict[str, PairObjective] = {
    "tgdpo": TGDPO(beta=0.7, guidance=2.0),
    "cdpo": CDPO(beta=0.7),
    "cdpo both": CDPO(beta=0.7, weighs="both"),
    "cdpo official": CDPO(beta=0.7, sigmoid_of="positions"),
    "t_reg": TREG(beta=0.7, regularization=0.5),
}
objectives = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


class Models(Table):
    """Softmax tables: one that learns, the policy that sampled, and the one before RL."""

    def reference_logprobs(self, batch: Batch) -> Floats:
        return log_softmax(0.5 * self.old)[self._places(batch.trajectories)]

    def told_logprobs(self, batch: Batch, note: str) -> Floats:
        return log_softmax(len(note) * self.old)[self._places(batch.trajectories)]

    def contrasted(self, batch: Batch, other: Models, strength: float) -> Floats:
        lifted = log_softmax(self.logits) + strength * (log_softmax(self.logits) - log_softmax(other.logits))
        return log_softmax(lifted)[self._places(batch.trajectories)]


def some(seed: int) -> tuple[Batch, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return as_batch(random_group(rng, 5, 4) + random_group(rng, 5, 4, episodes=3, group="other")), rng


def with_models(one: Shaping, rng: np.random.Generator) -> Shaping:
    one = copy.copy(one)
    logits, old = tables(rng)
    one.model, one.other = Models(logits, old), Models(rng.normal(size=logits.shape), old)
    return one


def found(one: Shaping, batch: Batch) -> Floats:
    return asyncio.run(one.shape(batch))


def entered(method: Algorithm, batch: Batch, name: str, by_token: Floats) -> Floats:
    """[T] advantages with these rewards of tokens."""
    batch = copy.copy(batch)
    batch.shaped, batch.shaped_tokens = {name: step_sums(batch, by_token)}, {name: by_token}
    return method.advantages(batch).per_token(batch)[0].double().numpy()


# -- recorded figures -------------------------------------------------------------------------------------------------------


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the numbers of nested lists and dictionaries stand."""
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(one, (*path, key))
    else:
        yield path


@pytest.mark.parametrize("file", MINE)
def test_a_recorded_figure_that_moved_is_noticed(file: str) -> None:
    moved = 0
    for of, case, tolerance in (one.values for one in cases()):
        for path in leaves(case["outputs"]) if of == file else ():
            changed = copy.deepcopy(case)
            *there, last = path
            holder = changed["outputs"]
            for key in there:
                holder = holder[key]
            holder[last] += 10 * tolerance + 1e-4 * abs(holder[last])
            with pytest.raises(AssertionError):
                CHECKS[file](changed, tolerance)
            moved += 1
    assert moved >= 8


# -- losses and gradients ---------------------------------------------------------------------------------------------------


@objectives
@pytest.mark.parametrize("begin", ["parting", "start"])
@given(st.integers(0, 2**32))
@quick
def test_the_gradient_is_the_derivative_of_the_loss(objective: PairObjective, begin: Any, seed: int) -> None:
    batch, rng = some(seed)
    pairs = paired(batch, batch.success, begin)
    tokens = int(batch.tokens.sum())
    policy, reference, read = (rng.normal(size=tokens) for _ in range(3))
    fixed = copy.copy(objective)
    if isinstance(objective, TREG):  # its weight of a pair has no gradient
        of_pairs = objective.pair_weights(pairs, policy - reference)
        fixed.pair_weights = lambda *_: of_pairs  # type: ignore[method-assign, attr-defined]
    gradient = objective.loss(pairs, policy, reference, read).gradient
    for token in rng.choice(tokens, size=4, replace=False):
        nudge = np.zeros(tokens)
        nudge[token] = 1e-5
        up, down = (fixed.loss(pairs, policy + sign * nudge, reference, read).loss for sign in (1, -1))
        assert gradient[token] == pytest.approx((up - down) / 2e-5, abs=1e-8)


@given(st.integers(0, 2**32))
@quick
def test_without_their_weights_all_are_dpo(seed: int) -> None:
    batch, rng = some(seed)
    policy, reference = (rng.normal(size=int(batch.tokens.sum())) for _ in range(2))
    episode = np.repeat(batch.episode, batch.tokens)
    score = 0.3 * np.bincount(episode, policy - reference, len(batch.length))
    plain = dpo(score, batch.success, batch.group[batch.position == 0])
    pairs, nothing = paired(batch, batch.success, "start"), np.zeros(len(policy))
    for one in (TGDPO(beta=0.3, guidance=0.0), CDPO(beta=0.3), TREG(beta=0.3, regularization=0.0)):
        fit = one.loss(pairs, policy, reference, nothing)
        assert (fit.loss, fit.accuracy, fit.compared) == (pytest.approx(plain.loss), plain.accuracy, plain.compared)
        np.testing.assert_allclose(fit.gradient, 0.3 * plain.gradient[episode], atol=1e-12)


def test_a_pair_is_compared_from_the_first_step_that_differs_in_state_or_answer() -> None:
    shared = [(0, [1, 2]), (1, [3])]
    good = played([*shared, (2, [0]), (3, [1])], True)
    other_answer, other_state = played([*shared, (2, [2, 2])], False), played([(0, [1, 2]), (4, [3])], False)
    batch = as_batch([good, other_answer, other_state, played([(0, [1, 2])], False, group="another")])
    assert paired(batch, batch.success) == [(slice(3, 5), slice(8, 10)), (slice(2, 5), slice(12, 13))]
    assert paired(batch, batch.success, "start") == [(slice(0, 5), slice(5, 10)), (slice(0, 5), slice(10, 13))]


def test_what_two_episodes_have_in_common_cancels_in_dpo_and_is_left_out_of_weighted_losses() -> None:
    batch = as_batch([played([(0, [1]), (1, [0])], True), played([(0, [1]), (1, [2])], False)])
    policy, nothing = np.array([-0.5, -1.0, -0.5, -2.0]), np.zeros(4)
    plain, weighted = TGDPO(guidance=0.0), TGDPO(guidance=0.5)
    for begin in ("start", "parting"):
        pairs = paired(batch, batch.success, begin)  # type: ignore[arg-type]
        assert plain.loss(pairs, policy, nothing, nothing).loss == pytest.approx(np.log1p(np.exp(-0.1)))
        gradient = weighted.loss(pairs, policy, nothing, np.ones(4)).gradient
        assert (abs(gradient[0] + gradient[2]) > 1e-4) == (begin == "start")
        assert gradient[1] < 0 < gradient[3]


@objectives
@given(st.integers(0, 2**32))
@quick
def test_a_fault_changes_nothing_for_the_others_and_no_pair_gives_nothing(objective: PairObjective, seed: int) -> None:
    def numbers(cut: bool) -> Floats:
        rng = np.random.default_rng(seed)
        one, group = with_models(objective, rng), random_group(rng, 5, 4)
        lost = [played([(0, [0, 0])], True, error="timeout")] if cut else []
        return found(one, as_batch([*lost, *group]))

    alone, beside = numbers(False), numbers(True)
    assert np.isnan(beside[:2]).all()
    np.testing.assert_allclose(beside[2:], alone, atol=1e-12)
    lone = as_batch([played([(0, [0])], True), played([(0, [1])], False, group="other")])
    assert not found(with_models(objective, np.random.default_rng(seed)), lone).any()
    assert not len(found(with_models(objective, np.random.default_rng(seed)), as_batch([])))


def test_the_better_episode_gains_and_the_worse_one_loses_most_at_its_critical_token() -> None:
    batch = as_batch([played([(0, [0])], True), played([(0, [1]), (1, [0])], False)])
    nothing = np.zeros(3)
    gradient = CDPO().loss(paired(batch, batch.success), nothing, nothing, np.array([0.9, 0.1, 0.8])).gradient
    assert gradient[0] < 0 < gradient[2] < gradient[1]


def test_the_token_rewards_of_t_reg_change_sign_with_the_sentences_and_miss_where_a_text_is_too_long() -> None:
    better, worse = np.array([-1.0, -0.2, np.nan, -3.0]), np.array([-2.0, -0.2, -1.0, -0.1])
    rewards = TREG().rewards(better, worse)
    np.testing.assert_allclose(rewards, -TREG().rewards(worse, better))
    assert rewards[0] > 0 > rewards[3] > -0.5
    assert rewards[1] == rewards[2] == 0


# -- rewards of tokens ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.sampled_from(["updated", "before"]))
@quick
def test_the_implicit_rewards_of_oprl_are_their_sums_over_steps(seed: int, when: Any) -> None:
    batch, rng = some(seed)
    logits, old = tables(rng)
    by_token = TokenReward(beta=0.3, scale=0.3, clip=None, against="rollout", reward=when)
    by_step = ImplicitPRM(beta=0.3, reward=when)
    by_token.model, by_step.model = Models(logits, old), Models(logits, old)
    np.testing.assert_allclose(step_sums(batch, found(by_token, batch)), found(by_step, batch), atol=1e-12)


def test_the_price_of_leaving_the_reference_is_not_clipped() -> None:
    one = TokenReward(scale=1.0, clip=0.5, kl=0.1)
    np.testing.assert_allclose(one.rewards(np.array([3.0, -3.0, 0.2]), np.array([1.0, -10.0, 0.0])), [0.4, 0.5, 0.2])


@given(st.integers(0, 2**32))
@quick
def test_ppo_pays_tokens_where_they_earned_and_other_methods_their_steps(seed: int) -> None:
    batch, rng = some(seed)
    by_token = rng.normal(size=int(batch.tokens.sum()))
    batch.values, undiscounted = np.zeros(len(by_token)), PPO(lam=1.0, normalize=False)
    episode = np.repeat(batch.episode, batch.tokens)
    to_go = [by_token[place:][episode[place:] == episode[place]].sum() for place in range(len(by_token))]
    np.testing.assert_allclose(entered(undiscounted, batch, "token_reward", by_token), to_go, atol=1e-5)

    sums = copy.copy(batch)
    sums.shaped = {"token_reward": step_sums(batch, by_token)}
    expected = GiGPO().advantages(sums).per_token(sums)[0].double().numpy()
    np.testing.assert_allclose(entered(GiGPO(), batch, "token_reward", by_token), expected, atol=1e-5)


@given(st.integers(0, 2**32))
@quick
def test_at_the_advantage_each_token_has_its_own_beside_what_the_method_says(seed: int) -> None:
    batch, rng = some(seed)
    by_token = rng.normal(size=int(batch.tokens.sum()))
    for method in (Shaped(shaped_at={"tgdpo": "advantage"}), GiGPO(shaped_at={"tgdpo": "advantage"})):
        alone = method.advantages(batch).per_token(batch)[0].double().numpy()
        np.testing.assert_allclose(entered(method, batch, "tgdpo", by_token), alone + by_token, atol=1e-5)
    nowhere = GiGPO(shaped_at={"tgdpo": "none"})
    np.testing.assert_allclose(entered(nowhere, batch, "tgdpo", by_token), alone)


# -- distillation -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32))
@quick
def test_what_may_not_be_said_changes_no_loss_and_no_gradient(seed: int) -> None:
    torch.manual_seed(seed)
    student, dpo_model, reverse = (torch.randn(3, 6, dtype=torch.float64) for _ in range(3))
    banned = torch.zeros(3, 6, dtype=torch.bool)
    banned[0, 1] = banned[1, :5] = True  # in the second place nothing is left to choose

    def loss(width: torch.Tensor, places: slice) -> tuple[torch.Tensor, torch.Tensor]:
        said = student.clone().requires_grad_()
        three = [x.masked_fill(width, -torch.inf).log_softmax(-1)[places] for x in (said, dpo_model, reverse)]
        by_place = AlignDistil().distill(*three)
        by_place.sum().backward()
        assert said.grad is not None
        return by_place.detach(), said.grad

    value, gradient = loss(banned, slice(3))
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert not gradient[banned].any()
    assert float(value[1]) == 0
    free, _ = loss(torch.zeros_like(banned), slice(2, 3))
    torch.testing.assert_close(value[2:], free)
    assert (value >= 0).all()


# -- settings ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: TokenReward(against="rollout", kl=0.1), "kl is 0.1, a price of leaving the reference"),
        (lambda: TREG(improve=" "), "improve is empty"),
        (lambda: TGDPO(targets=[]), "targets is empty"),
        (lambda: CDPO(beta=0.0), "beta is 0.0"),
    ],
)
def test_a_mistake_in_the_settings_is_named(made: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()


@pytest.mark.parametrize("one", [TokenReward(), AlignDistil(), *OBJECTIVES.values()], ids=lambda one: type(one).__name__)
def test_without_a_model_it_says_who_sets_it(one: Shaping) -> None:
    with pytest.raises(ValueError, match="has no model; the trainer sets it"):
        found(one, as_batch([played([(0, [0])], True), played([(0, [1])], False)]))
