"""Properties of the losses: gradients, clipping, and that cutting a mini-batch or an episode changes nothing."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from algorithms import correction, losses, surrogates
from algorithms.surrogates import CISPO, GMPO, PPO, Clip, SequencePPO, TokenLoss, Tokens

MODES = get_args(surrogates.Aggregation)
modes = pytest.mark.parametrize("mode", MODES)

every = pytest.mark.parametrize("name", surrogates.names())
quick = settings(max_examples=20, deadline=None)


def tokens(n: int, seed: int = 0, spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """New and old log-probabilities and advantages of n tokens, float64."""
    draw = torch.Generator().manual_seed(seed)
    old = -torch.rand(n, generator=draw, dtype=torch.float64) * 3
    new = old + spread * torch.randn(n, generator=draw, dtype=torch.float64)
    return new, old, torch.randn(n, generator=draw, dtype=torch.float64)


def beside(name: str, values: Tensor) -> dict[str, Tensor]:
    """The same numbers [T] for each column that a loss reads beside the advantage."""
    return dict.fromkeys(surrogates.get(name).reads, values)


def ppo(logp: Tensor, old: Tensor, advantages: Tensor, clip: Clip | None = None) -> TokenLoss:
    return PPO(clip or Clip())(Tokens(logp, old, advantages, torch.zeros(len(logp))))


# -- gradients --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_the_policy_losss_gradient_is_that_of_its_value(dual_clip: float | None) -> None:
    new, old, advantages = tokens(64)
    new.requires_grad_()
    weights = losses.token_weights(torch.arange(64) // 5, "seq-mean-token-mean").double()

    def loss(logp: Tensor) -> Tensor:
        return (weights * ppo(logp, old, advantages, Clip(0.2, 0.28, dual_clip)).loss).sum()

    assert torch.autograd.gradcheck(loss, new)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_a_kl_estimators_gradient_is_that_of_its_value(estimator: Any) -> None:
    new, old, _ = tokens(64)
    assert torch.autograd.gradcheck(lambda logp: losses.kl(logp, old, estimator), new.requires_grad_())


def test_the_value_losss_gradient_is_that_of_its_value() -> None:
    new, old, returns = tokens(64)
    assert torch.autograd.gradcheck(lambda values: losses.value_loss(values, old, returns, 0.2), new.requires_grad_())
    assert torch.autograd.gradcheck(lambda values: losses.value_loss(values, old, returns, None), new.requires_grad_())


@every
def test_the_gradient_at_the_old_policy_is_the_policy_gradient(name: str) -> None:
    _, old, _ = tokens(64)
    sequence = torch.arange(64) // 4
    advantages = torch.linspace(-2, 2, 16, dtype=torch.float64)[sequence]  # one a sequence, as gmpo has it
    new = old.clone().requires_grad_()
    result = surrogates.get(name)()(Tokens(new, old, advantages, sequence, beside(name, torch.zeros(64))))
    (found,) = torch.autograd.grad(result.loss.sum(), new)
    assert torch.allclose(found, -advantages)


@pytest.mark.parametrize("name", ["ppo", "sapo", "gmpo"])
def test_a_surrogates_gradient_is_that_of_its_value(name: str) -> None:
    new, old, advantages = tokens(64)
    sequence = torch.arange(64) // 5

    def loss(logp: Tensor) -> Tensor:
        return surrogates.get(name)(Clip(0.2, 0.28))(Tokens(logp, old, advantages, sequence)).loss.sum()

    assert torch.autograd.gradcheck(loss, new.requires_grad_())


@every
def test_a_surrogate_sees_no_other_sequence(name: str) -> None:
    new, old, advantages = tokens(60)
    sequence = torch.arange(60) % 7
    score = torch.linspace(-1, 1, 60)
    whole = surrogates.get(name)()(Tokens(new, old, advantages, sequence, beside(name, score))).loss
    for number in range(7):
        of = sequence == number
        some = Tokens(new[of], old[of], advantages[of], sequence[of], beside(name, score[of]))
        alone = surrogates.get(name)()(some).loss
        assert torch.allclose(alone, whole[of])


def test_cispo_bounds_a_tokens_gradient_and_never_stops_it() -> None:
    new, old, advantages = tokens(256)
    new.requires_grad_()
    result = CISPO(Clip(0.2, 0.28))(Tokens(new, old, advantages, torch.zeros(256)))
    (gradient,) = torch.autograd.grad(result.loss.sum(), new)
    share = gradient / -advantages
    assert bool(result.clipped.any())
    assert bool(((share >= 0.8 - 1e-9) & (share <= 1.28 + 1e-9)).all())


def test_a_gmpo_token_beyond_its_bound_has_no_gradient() -> None:
    new, old, advantages = tokens(256)
    new.requires_grad_()
    result = GMPO(Clip(0.4, 0.4))(Tokens(new, old, advantages, torch.arange(256) // 8))
    (gradient,) = torch.autograd.grad(result.loss.sum(), new)
    assert bool(result.clipped.any())
    assert torch.equal(gradient == 0, result.clipped)


# -- clipping ---------------------------------------------------------------------------------------------------------------


def test_a_clipped_token_has_no_gradient_and_every_other_token_has_one() -> None:
    new, old, advantages = tokens(256)
    new.requires_grad_()
    result = ppo(new, old, advantages, Clip(0.2, 0.28, dual=3.0))
    (gradient,) = torch.autograd.grad(result.loss.sum(), new)
    bounded = (advantages < 0) & ((new - old).exp() > 3.0)
    assert bool(result.clipped.any())
    assert bool(bounded.any())
    assert torch.equal(gradient == 0, result.clipped | bounded)


def test_the_dual_clip_bounds_the_loss_of_a_bad_action_and_leaves_good_ones_alone() -> None:
    new, old, advantages = tokens(256, spread=3.0)
    bounded, free = (ppo(new, old, advantages, Clip(dual=c)).loss for c in (3.0, None))
    bad = advantages < 0
    assert bool((bounded[bad] <= -3.0 * advantages[bad]).all())
    assert bool((free[bad] > -3.0 * advantages[bad]).any())
    assert torch.equal(bounded[~bad], free[~bad])


def test_an_extreme_log_ratio_stays_finite() -> None:
    new, old = torch.tensor([0.0, -2000.0], requires_grad=True), torch.tensor([-2000.0, 0.0])
    for name in surrogates.names():
        more = beside(name, torch.tensor([1.0, -1.0]))
        both = Tokens(new, old, torch.tensor([-1.0, -1.0]), torch.tensor([0, 1]), more)
        loss = surrogates.get(name)(Clip(dual=None))(both).loss
        (gradient,) = torch.autograd.grad(loss.sum(), new)
        assert bool(torch.isfinite(loss).all() & torch.isfinite(gradient).all())
    assert bool(torch.isfinite(losses.kl(new, old, "k3")).all())


def test_a_dual_clip_of_1_or_less_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1"):
        Clip(dual=1.0)


# -- aggregation ------------------------------------------------------------------------------------------------------------


@st.composite
def _cuts(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, int]:
    """[T] episode and row of tokens (rows cut episodes), which tokens are defined, and a number of micro-batches."""
    lengths = draw(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=5))
    episode = torch.tensor([e for e, rows in enumerate(lengths) for n in rows for _ in range(n)])
    row = torch.tensor([r for r, n in enumerate(n for rows in lengths for n in rows) for _ in range(n)])
    defined = torch.tensor(draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row))))
    return episode, row, defined, draw(st.integers(1, 6))


@modes
@given(_cuts())
@quick
def test_micro_batches_add_up_to_the_mini_batch(mode: Any, cut: tuple[Tensor, Tensor, Tensor, int]) -> None:
    episode, _, defined, count = cut
    new, old, advantages = tokens(len(episode))
    new.requires_grad_()
    weights = losses.token_weights(episode, mode, defined).double()

    def gradient(part: Tensor) -> Tensor:
        loss = (weights[part] * ppo(new[part], old[part], advantages[part]).loss).sum()
        return torch.autograd.grad(loss, new)[0]

    order = torch.randperm(len(episode), generator=torch.Generator().manual_seed(1))
    whole = gradient(torch.arange(len(episode)))
    assert torch.allclose(sum(gradient(part) for part in order.tensor_split(count)), whole, atol=1e-12)  # type: ignore[arg-type]


@modes
@given(_cuts())
@quick
def test_an_episodes_weight_does_not_depend_on_how_its_steps_are_split_into_rows(
    mode: Any, cut: tuple[Tensor, Tensor, Tensor, int]
) -> None:
    # The rows of all episodes stand in any order; the weights follow the tokens.
    episode, row, defined, _ = cut
    order = torch.argsort((row * 7919) % 101, stable=True)
    whole, mixed = losses.token_weights(episode, mode, defined), losses.token_weights(episode[order], mode, defined[order])
    assert torch.allclose(mixed, whole[order])
    if mode in ("seq-mean-token-mean", "seq-mean-token-sum"):
        sums = torch.zeros(int(episode.max()) + 1).index_add(0, episode, whole)
        counted = torch.zeros_like(sums).index_add(0, episode, defined.float())
        alive = counted > 0
        share = sums if mode == "seq-mean-token-mean" else sums / counted.clamp(min=1)
        assert torch.allclose(share[alive], torch.full((int(alive.sum()),), 1 / max(1, int(alive.sum()))))


def test_rows_as_sequences_give_an_episode_of_more_rows_more_weight() -> None:
    episode, row = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 1, 2, 2, 3, 3])
    by_episode = losses.token_weights(episode, "seq-mean-token-mean")
    by_row = losses.token_weights(row, "seq-mean-token-mean")
    assert by_episode[:4].sum() == pytest.approx(1 / 2)
    assert by_row[:4].sum() == pytest.approx(3 / 4)


@modes
def test_tokens_without_an_advantage_weigh_nothing_and_change_no_other_weight(mode: Any) -> None:
    sequence = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    defined = torch.tensor([True, True, False, True, True, False, False])
    weights = losses.token_weights(sequence, mode, defined)
    assert not weights[~defined].any()
    assert torch.allclose(weights[defined], losses.token_weights(sequence[defined], mode))
    assert not losses.token_weights(sequence, mode, torch.zeros(7, dtype=torch.bool)).any()


@modes
def test_no_tokens_give_no_weights(mode: Any) -> None:
    assert losses.token_weights(torch.zeros(0, dtype=torch.long), mode).shape == (0,)


def test_an_unknown_name_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match="token-mean, seq-mean-token-sum"):
        losses.token_weights(torch.zeros(2), "mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k1, k2, k3"):
        losses.kl(torch.zeros(2), torch.zeros(2), "k4")  # type: ignore[arg-type]


# -- sampling engine and trainer --------------------------------------------------------------------------------------------


def test_engines_that_agree_have_no_mismatch_and_need_no_correction() -> None:
    logp, _, _ = tokens(32)
    assert correction.mismatch(logp, logp) == {"mean_abs": 0.0, "max_abs": 0.0, "kl": 0.0, "effective_share": 1.0}
    assert torch.equal(correction.correction_weights(logp, logp), torch.ones_like(logp))


def test_the_mismatch_is_measured() -> None:
    found = correction.mismatch(torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -1.0]))
    w = torch.tensor([0.0, -1.0], dtype=torch.float64).exp()
    assert found["mean_abs"] == pytest.approx(0.5)
    assert found["max_abs"] == pytest.approx(1.0)
    assert found["kl"] == pytest.approx(float(w[1]) / 2)
    assert found["effective_share"] == pytest.approx(float(w.sum() ** 2 / (2 * (w**2).sum())))


def test_weights_by_sequence_are_equal_within_it_and_truncated() -> None:
    train, rollout = torch.tensor([-1.0, -1.0, -1.0]), torch.tensor([-1.2, -0.9, -3.0])
    sequence = torch.tensor([4, 4, 9])
    found = correction.correction_weights(train, rollout, "sequence", sequence=sequence, cap=2.0)
    assert found.tolist() == pytest.approx([torch.tensor(0.1).exp().item()] * 2 + [2.0])
    band = correction.correction_weights(train, rollout, "sequence", sequence=sequence, cap=2.0, floor=0.5)
    assert band[2] == 0
    with pytest.raises(ValueError, match="sequence"):
        correction.correction_weights(train, rollout, "sequence")


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=20))
@quick
def test_a_two_sided_mask_keeps_the_weights_within_it_and_nothing_else(gaps: list[float]) -> None:
    """IcePop: M(w) = w for alpha <= w <= beta, else 0, of each token's w = pi_train / pi_rollout."""
    rollout = torch.full((len(gaps),), -5.0, dtype=torch.float64)
    r = torch.tensor(gaps, dtype=torch.float64)
    found = correction.correction_weights(rollout + r, rollout, "token", floor=0.5, cap=5.0)
    ratios = [math.exp(gap) for gap in (rollout + r - rollout).tolist()]
    assert found.tolist() == pytest.approx([w if 0.5 <= w <= 5.0 else 0.0 for w in ratios])
    mask = correction.kept_tokens(rollout + r, rollout, "token_k1", cap=2.0, floor=0.2)  # of pi_rollout / pi_train
    assert mask.tolist() == [-math.log(2.0) <= gap <= -math.log(0.2) for gap in (rollout + r - rollout).tolist()]


def test_weights_divided_by_their_mean_have_mean_1() -> None:
    new, old, _ = tokens(32)
    assert correction.correction_weights(new, old, mean_one=True).mean().item() == pytest.approx(1.0)


# -- normalized advantages --------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.just(0.0), st.floats(-10, 10)), max_size=30), st.integers(0, 2**30 - 1))
@quick
def test_normalised_advantages_other_than_0_have_mean_0_and_variance_1(values: list[float], bits: int) -> None:
    advantages = torch.tensor(values, dtype=torch.float64)
    defined = torch.tensor([bool(bits >> i & 1) for i in range(len(values))], dtype=torch.bool)
    found = losses.normalize(advantages, defined)
    assert not found[~defined].any()
    said = defined & (advantages != 0)
    if said.any() and float(advantages[said].std(correction=0)) > 1e-3:
        assert found[said].mean().item() == pytest.approx(0.0, abs=1e-6)
        assert found[said].std(correction=0).item() == pytest.approx(1.0, abs=1e-4)


def test_normalising_shifts_the_zeros_too_and_leaves_them_out_of_the_statistics() -> None:
    found = losses.normalize(torch.tensor([1.0, 3.0, 0.0, 0.0]), torch.tensor([True, True, True, False]))
    assert found.tolist() == pytest.approx([-1.0, 1.0, -2.0, 0.0])


def test_equal_advantages_are_not_blown_up_by_a_spread_of_nothing() -> None:
    found = losses.normalize(torch.tensor([0.1, 0.1, 0.1, 0.0]), torch.ones(4, dtype=torch.bool))
    assert found.tolist() == pytest.approx([0.0, 0.0, 0.0, -0.1])
    assert not losses.normalize(torch.zeros(4), torch.ones(4, dtype=torch.bool)).any()


def test_the_joint_ratio_of_a_step_is_that_of_its_actions_probabilities() -> None:
    old = torch.tensor([-1.0, -0.5, -2.0, -0.3])
    logp = torch.tensor([-0.9, -0.6, -1.8, -0.2], requires_grad=True)
    step = torch.tensor([0, 0, 1, 1])
    advantages = torch.tensor([2.0, 2.0, -1.0, -1.0])
    result = SequencePPO(Clip(0.5, 0.5, None))(Tokens(logp, old, advantages, step))
    ratio = torch.tensor([0.0, 0.3]).exp()[step]  # products of the ratios of each step's two tokens
    torch.testing.assert_close(result.loss.detach(), -advantages * ratio)
    (gradient,) = torch.autograd.grad(result.loss.sum(), logp)
    torch.testing.assert_close(gradient, -advantages * ratio)  # that of the step, once for each of its tokens
    clipped = SequencePPO(Clip(0.2, 0.2, None))(Tokens(logp, old, advantages.abs(), step))
    assert clipped.clipped.tolist() == [False, False, True, True]
