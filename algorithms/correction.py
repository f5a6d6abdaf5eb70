"""Where the sampling engine and the trainer differ numerically: measure it, and correct for it. Flat tensors, no gradient.

Everywhere r = log pi_train_old - log pi_rollout of the sampled token: the same weights, seen by two programs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from algorithms.losses import LOG_RATIO

Measure = Literal["token_k1", "token_k2", "seq_sum_k1"]


def mismatch(train_logp: Tensor, rollout_logp: Tensor) -> dict[str, float]:
    """How far the two are apart over [T] tokens: |r| mean and max, k3 estimate of KL(rollout || train), effective sample share.

    effective_share is (sum w)^2 / (T sum w^2) of the token weights w = exp(r): 1 if the engines agree. {} for no tokens.
    """
    if not len(train_logp):
        return {}
    r = (train_logp - rollout_logp).detach().double()
    w = r.clamp(-LOG_RATIO, LOG_RATIO).exp()
    return {
        "mean_abs": float(r.abs().mean()),
        "max_abs": float(r.abs().max()),
        "kl": float((w - 1 - r).mean()),
        "effective_share": float(w.sum() ** 2 / (len(w) * w.square().sum())),
    }


def correction_weights(
    train_logp: Tensor,
    rollout_logp: Tensor,
    level: Literal["token", "sequence"] = "token",
    *,
    sequence: Tensor | None = None,
    cap: float = 2.0,
    floor: float | None = None,
    mean_one: bool = False,
) -> Tensor:
    """Importance weights exp(r), [T]; at level=sequence the product over the token's `sequence` [T].

    floor=None truncates at `cap` (TIS); else weights outside [floor, cap] become 0 (IcePop). mean_one divides by the mean, over
    tokens or over sequences.
    """
    r = (train_logp - rollout_logp).detach()
    if level == "token":
        weights = r.clamp(-LOG_RATIO, LOG_RATIO).exp()
    elif level == "sequence":
        r, number = _sequence_sum(r, sequence)
        weights = r.clamp(-LOG_RATIO, LOG_RATIO).exp()
    else:
        raise ValueError(f"level is {level!r}; allowed: token, sequence")
    if floor is None:
        weights = weights.clamp(max=cap)
    else:
        weights = torch.where((weights >= floor) & (weights <= cap), weights, torch.zeros_like(weights))
    if mean_one and len(weights):
        weights = weights / weights.mean().clamp(min=1e-8)
    return weights if level == "token" else weights[number]


def kept_tokens(
    train_logp: Tensor,
    rollout_logp: Tensor,
    measure: Measure,
    *,
    cap: float,
    floor: float | None = None,
    sequence: Tensor | None = None,
) -> Tensor:
    """[T] bool: tokens that rejection leaves in. token_k1, seq_sum_k1: exp(r), of the token or of the whole sequence, within
    [floor, cap] (floor=None: only the cap); token_k2: r^2 / 2 at most cap."""
    r = (train_logp - rollout_logp).detach()
    if measure == "token_k2":
        return 0.5 * r.square() <= cap
    if measure == "seq_sum_k1":
        total, number = _sequence_sum(r, sequence)
        r = total[number]
    elif measure != "token_k1":
        raise ValueError(f"the measure is {measure!r}; allowed: token_k1, token_k2, seq_sum_k1")
    weights = r.clamp(-LOG_RATIO, LOG_RATIO).exp()
    return (weights <= cap) & (weights >= (0.0 if floor is None else floor))


def _sequence_sum(r: Tensor, sequence: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sums of r by sequence [B], and each token's place among them [T]."""
    if sequence is None:
        raise ValueError("weights by sequence need `sequence`: the number of every token's sequence")
    unique, number = torch.unique(sequence, return_inverse=True)
    return torch.zeros(len(unique), dtype=r.dtype, device=r.device).index_add_(0, number, r), number
