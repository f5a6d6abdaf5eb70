"""Policy, value and KL losses as pure functions on flat tensors [T] of sampled tokens; they know no method and no model.

A loss is the sum over tokens of weight x token loss. `token_weights` is taken over a whole mini-batch, so micro-batches just
add up: how a mini-batch is cut never changes a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Aggregation = Literal["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]
Estimator = Literal["k1", "abs", "k2", "k3", "k1+", "k3+"]

LOG_RATIO = 20.0
"""Bound of a log-ratio before it is exponentiated."""


class PolicyLoss(NamedTuple):
    """Per token [T]."""

    loss: Tensor
    clipped: Tensor
    """bool: the clip decided the loss, so the token has no gradient (in CISPO: a bounded one)."""
    dual_clipped: Tensor
    """bool: so did the dual clip."""
    log_ratio: Tensor
    """log pi - log pi_old, bounded, detached; the mean of its negative estimates the KL from the old policy."""


def policy_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = 3.0,
    sequence: Tensor | None = None,
    ratio_of: Literal["mean", "product"] = "mean",
) -> PolicyLoss:
    """PPO's clipped surrogate (arXiv 1707.06347 Eq. 7); dual clip (arXiv 1912.09729) bounds it where the advantage is negative.

    All [T]. `sequence`: one ratio for a whole sequence, the geometric mean of its tokens' ratios (GSPO, arXiv 2507.18071
    Eq. 7) or their product; its tokens must all be here.
    """
    log_ratio = (logp - old_logp).clamp(-LOG_RATIO, LOG_RATIO)
    measured = log_ratio.detach()
    if sequence is not None:
        # The value is the sequence's, the gradient goes through each token's own log-probability (GSPO-token, Eq. 14).
        whole = _sequence_mean if ratio_of == "mean" else _sequence_sum
        log_ratio = logp - logp.detach() + whole((logp - old_logp).detach(), sequence)
        measured = log_ratio = log_ratio.clamp(max=10.0)
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    inside = -advantages * ratio.clamp(1 - clip_low, 1 + clip_high)
    loss, clipped = torch.maximum(plain, inside), inside > plain
    dual_clipped = torch.zeros_like(clipped)
    if dual_clip is not None:
        if dual_clip <= 1:
            raise ValueError(f"dual_clip is {dual_clip}; it must be more than 1, or None to switch it off")
        bound = -advantages * dual_clip
        dual_clipped = (loss > bound) & (advantages < 0)
        loss = torch.where(advantages < 0, torch.minimum(loss, bound), loss)
    return PolicyLoss(loss, clipped, dual_clipped, measured.detach())


class Clip(NamedTuple):
    """Bounds of the ratio: 1 - low, 1 + high (GMPO: of its logarithm, -low and high), and PPO's dual clip."""

    low: float = 0.2
    high: float = 0.2
    dual: float | None = 3.0


def ppo(logp: Tensor, old_logp: Tensor, advantages: Tensor, sequence: Tensor, clip: Clip) -> PolicyLoss:
    """`policy_loss` with a ratio for each token."""
    return policy_loss(logp, old_logp, advantages, clip_low=clip.low, clip_high=clip.high, dual_clip=clip.dual)


def gspo(logp: Tensor, old_logp: Tensor, advantages: Tensor, sequence: Tensor, clip: Clip) -> PolicyLoss:
    """`policy_loss` with a ratio for each sequence, and no dual clip (GSPO, arXiv 2507.18071)."""
    low, high = clip.low, clip.high
    return policy_loss(logp, old_logp, advantages, clip_low=low, clip_high=high, dual_clip=None, sequence=sequence)


def joint(logp: Tensor, old_logp: Tensor, advantages: Tensor, sequence: Tensor, clip: Clip) -> PolicyLoss:
    """`policy_loss` with the ratio of a whole sequence's probabilities; of a step: pi(action) / pi_old(action)."""
    low, high, dual = clip
    return policy_loss(
        logp, old_logp, advantages, clip_low=low, clip_high=high, dual_clip=dual, sequence=sequence, ratio_of="product"
    )


def cispo(logp: Tensor, old_logp: Tensor, advantages: Tensor, sequence: Tensor, clip: Clip) -> PolicyLoss:
    """-sg(clip(r)) A log pi: the clip bounds a token's weight and never stops its gradient (arXiv 2506.13585 Eq. 4)."""
    log_ratio = (logp - old_logp).detach().clamp(-LOG_RATIO, LOG_RATIO)
    ratio = log_ratio.exp()
    weight = ratio.clamp(1 - clip.low, 1 + clip.high)
    return PolicyLoss(-weight * advantages * logp, weight != ratio, _nowhere(logp), log_ratio)


def gpg(logp: Tensor, old_logp: Tensor, advantages: Tensor, sequence: Tensor, clip: Clip) -> PolicyLoss:
    """-A log pi: the plain policy gradient, without ratio or clip (GPG, arXiv 2504.02546)."""
    log_ratio = (logp - old_logp).detach().clamp(-LOG_RATIO, LOG_RATIO)
    return PolicyLoss(-advantages * logp, _nowhere(logp), _nowhere(logp), log_ratio)


def sapo(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    sequence: Tensor,
    clip: Clip,
    *,
    positive: float = 1.0,
    negative: float = 1.05,
) -> PolicyLoss:
    """-A (4 / tau) sigmoid(tau (r - 1)): a soft gate for the clip, tau by the advantage's sign (arXiv 2511.20347)."""
    log_ratio = (logp - old_logp).clamp(-LOG_RATIO, LOG_RATIO)
    tau = torch.where(advantages > 0, positive, negative).to(logp.dtype)
    loss = -advantages * 4 / tau * torch.sigmoid(tau * (log_ratio.exp() - 1))
    return PolicyLoss(loss, _nowhere(logp), _nowhere(logp), log_ratio.detach())


def gmpo(logp: Tensor, old_logp: Tensor, advantages: Tensor, sequence: Tensor, clip: Clip) -> PolicyLoss:
    """-(mean A) x geometric mean of the sequence's clipped ratios, which each of its tokens gets (arXiv 2507.20673).

    Its tokens must all be here. A mean over sequences is the aggregation seq-mean-token-mean.
    """
    log_ratio = (logp - old_logp).clamp(-LOG_RATIO, LOG_RATIO)
    # As in PPO, a ratio is bounded only on the side that its advantage pushes it to.
    bounded = torch.where(advantages > 0, log_ratio.clamp(max=clip.high), log_ratio.clamp(min=-clip.low))
    bounded = torch.where(advantages == 0, 0.0, bounded)
    loss = -_sequence_mean(advantages, sequence) * _sequence_mean(bounded, sequence).exp()
    return PolicyLoss(loss, (bounded != log_ratio) & (advantages != 0), _nowhere(logp), log_ratio.detach())


Surrogate = Callable[[Tensor, Tensor, Tensor, Tensor, Clip], PolicyLoss]
SURROGATES: dict[str, Surrogate] = {
    "ppo": ppo,
    "joint": joint,
    "gspo": gspo,
    "cispo": cispo,
    "gpg": gpg,
    "sapo": sapo,
    "gmpo": gmpo,
}
"""By name, each of (logp, old_logp, advantages, sequence, clip), all tensors [T]; what one does not need it leaves alone."""


def token_weights(sequence: Tensor, mode: Aggregation, defined: Tensor | None = None, norm_length: int | None = None) -> Tensor:
    """Weight of every token of a mini-batch, so that loss = (weights * token losses).sum(). [T] -> [T] float32.

    sequence: [T] number of the token's sequence (any integers; the episode, or the row). defined: [T] tokens that count,
    default all; a sequence without any does not count either. Over the defined tokens, with B sequences of length L_b:
    token-mean 1/T; token-sum 1; seq-mean-token-sum 1/B; seq-mean-token-mean 1/(B L_b); seq-mean-token-sum-norm
    1/(B norm_length), where norm_length defaults to the longest sequence of the mini-batch (Dr. GRPO, arXiv 2503.20783, wants a
    constant).
    """
    if mode not in get_args(Aggregation):
        raise ValueError(f"aggregation is {mode!r}; allowed: {', '.join(get_args(Aggregation))}")
    kept = torch.ones(len(sequence), dtype=torch.float64, device=sequence.device) if defined is None else defined.double()
    if mode == "token-sum":
        return kept.float()
    if mode == "token-mean":
        return (kept / kept.sum().clamp(min=1)).float()
    number, length = _lengths(sequence, kept)
    sequences = (length > 0).sum().clamp(min=1)
    if mode == "seq-mean-token-mean":
        kept = kept / length.clamp(min=1)[number]
    elif mode == "seq-mean-token-sum-norm":
        kept = kept / (norm_length if norm_length is not None else length.amax().clamp(min=1) if len(length) else 1)
    return (kept / sequences).float()


def kl(logp: Tensor, ref_logp: Tensor, estimator: Estimator = "k3") -> Tensor:
    """Per-token estimate of KL(pi || pi_ref) at tokens sampled from pi: [T] -> [T] (joschu.net/blog/kl-approx.html).

    With d = log pi - log pi_ref. k1: d. abs: |d|. k2: d^2 / 2. k3: exp(-d) - 1 + d, d within +-20 and the value within +-10.
    A trailing + keeps the value but takes k2's gradient, which is the unbiased one.
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f"the KL estimator is {estimator!r}; allowed: {', '.join(get_args(Estimator))}")
    difference = logp - ref_logp
    if estimator.endswith("+"):
        half = 0.5 * difference.square()
        return half - half.detach() + kl(logp, ref_logp, "k1" if estimator == "k1+" else "k3").detach()
    if estimator == "k1":
        return difference
    if estimator == "abs":
        return difference.abs()
    if estimator == "k2":
        return 0.5 * difference.square()
    difference = difference.clamp(-LOG_RATIO, LOG_RATIO)
    return ((-difference).exp() - 1 + difference).clamp(-10, 10)


def normalise(advantages: Tensor, defined: Tensor) -> Tensor:
    """(A - mean) / (std + 1e-8) of a mini-batch's defined [T] advantages, 0 where undefined: [T] -> [T] (POAD's trainer).

    Mean and population standard deviation leave exact zeros out, but the zeros are shifted and scaled like the rest. Where all
    others are equal there is no spread to divide by: only the mean is subtracted.
    """
    said = advantages[defined & (advantages != 0)].double()
    if not len(said):
        return torch.where(defined, advantages, 0.0)
    mean, std = said.mean(), said.std(correction=0)
    scale = std + 1e-8 if std > 1e-7 * said.abs().max() else torch.ones_like(std)
    return torch.where(defined, ((advantages.double() - mean) / scale).to(advantages.dtype), 0.0)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None = 0.2) -> Tensor:
    """Per-token half squared error, the worse of plain and clipped around the old value (PPO): [T] -> [T]."""
    plain = (values - returns).square()
    if clip is None:
        return 0.5 * plain
    near = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum(plain, (near - returns).square())


def _lengths(sequence: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Sequences as numbers 0..B-1 [T], and the sum of `kept` in each [B]."""
    unique, number = torch.unique(sequence, return_inverse=True)
    return number, torch.zeros(len(unique), dtype=kept.dtype, device=kept.device).index_add_(0, number, kept)


def _nowhere(like: Tensor) -> Tensor:
    """[T] False."""
    return torch.zeros_like(like, dtype=torch.bool)


def _sequence_sum(values: Tensor, sequence: Tensor) -> Tensor:
    """[T] sum over the token's sequence."""
    number, length = _lengths(sequence, torch.ones_like(values))
    return torch.zeros_like(length).index_add_(0, number, values)[number]


def _sequence_mean(values: Tensor, sequence: Tensor) -> Tensor:
    """[T] mean over the token's sequence."""
    number, length = _lengths(sequence, torch.ones_like(values))
    return (torch.zeros_like(length).index_add_(0, number, values) / length)[number]
