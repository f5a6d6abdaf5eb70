"""KL, value loss and the weights of tokens: pure functions on flat tensors [T] of sampled tokens that know no method and model.

The policy losses themselves stand in `surrogates.py`.

A loss is the sum over tokens of weight x token loss. `token_weights` is taken over a whole mini-batch, so micro-batches just
add up: how a mini-batch is cut never changes a gradient.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from algorithms.surrogates import LOG_RATIO, Aggregation, Estimator, sequence_sums


def token_weights(sequence: Tensor, mode: Aggregation, defined: Tensor | None = None, norm_length: int | None = None) -> Tensor:
    """Weight of every token of a mini-batch, so that loss = (weights * token losses).sum(). [T] -> [T] float32.

    sequence: [T] number of the token's sequence (any integers; the episode, or the row). defined: [T] tokens that count,
    default all; a sequence without any does not count either. Over the defined tokens, with B sequences of length L_b:
    token-mean 1/T; seq-mean-token-sum 1/B; seq-mean-token-mean 1/(B L_b); seq-mean-token-sum-norm
    1/(B norm_length), where norm_length defaults to the longest sequence of the mini-batch (Dr. GRPO, arXiv 2503.20783, wants a
    constant).
    """
    if mode not in get_args(Aggregation):
        raise ValueError(f"aggregation is {mode!r}; allowed: {', '.join(get_args(Aggregation))}")
    kept = torch.ones(len(sequence), dtype=torch.float64, device=sequence.device) if defined is None else defined.double()
    if mode == "token-mean":
        return (kept / kept.sum().clamp(min=1)).float()
    length, number = sequence_sums(kept, sequence)
    sequences = (length > 0).sum().clamp(min=1)
    if mode == "seq-mean-token-mean":
        kept = kept / length.clamp(min=1)[number]
    elif mode == "seq-mean-token-sum-norm":
        kept = kept / (norm_length if norm_length is not None else length.amax().clamp(min=1) if len(length) else 1)
    return (kept / sequences).float()


def kl(logp: Tensor, ref_logp: Tensor, estimator: Estimator = "k3") -> Tensor:
    """Per-token estimate of KL(pi || pi_ref) at tokens sampled from pi: [T] -> [T] (joschu.net/blog/kl-approx.html).

    With d = log pi - log pi_ref. k1: d. k2: d^2 / 2. k3: exp(-d) - 1 + d, d within +-20 and the value within +-10.
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f"the KL estimator is {estimator!r}; allowed: {', '.join(get_args(Estimator))}")
    difference = logp - ref_logp
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return 0.5 * difference.square()
    difference = difference.clamp(-LOG_RATIO, LOG_RATIO)
    return ((-difference).exp() - 1 + difference).clamp(-10, 10)


def outside(entropy: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far each entropy is outside its band from low to high: [T] -> [T] (SPINE's hinge)."""
    return (low - entropy).clamp(min=0) + (entropy - high).clamp(min=0)


def contrast(toward: Tensor, away: Tensor, strength: float | Tensor) -> Tensor:
    """log softmax(z + strength (z - z')) of two models' log-probabilities, `toward` and `away`: [D, V] -> [D, V].

    strength: a number, or one for each place [D, 1]. What may not be said at a place has -inf in both, and in the result.
    """
    lifted = toward + strength * (toward - away)
    return torch.log_softmax(lifted.masked_fill(toward == -torch.inf, -torch.inf), -1)


def normalize(advantages: Tensor, defined: Tensor) -> Tensor:
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
