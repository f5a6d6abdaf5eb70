"""Where the sampling engine and the trainer differ numerically: measure it, and correct for it. Flat tensors, no gradient.

Everywhere r = log pi_train_old - log pi_rollout of the sampled token: the same weights, seen by two programs.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from algorithms.losses import LOG_RATIO

Measure = Literal[
    "token_k1",
    "token_k2",
    "token_k3",
    "seq_sum_k1",
    "seq_sum_k2",
    "seq_sum_k3",
    "seq_mean_k1",
    "seq_mean_k2",
    "seq_mean_k3",
    "seq_max_k2",
    "seq_max_k3",
]
"""What rejection looks at: an estimate k1 = -r, k2 = r^2 / 2 or k3 = exp(r) - 1 - r of KL(rollout || train), of each token, or
its sum, mean or maximum over a sequence."""


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
    if mean_one and len(weights) and (mean := weights.mean()) > 1e-8:
        weights = weights / mean
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
    """[T] bool: tokens that rejection leaves in, one by one or by the whole `sequence` [T].

    k1 is kept within [log floor, log cap]: both bound pi_rollout / pi_train, or its product or geometric mean (floor=None: only
    the cap). k2 and k3 are kept up to cap, and floor is not looked at.
    """
    if measure not in get_args(Measure):
        raise ValueError(f"the measure is {measure!r}; allowed: {', '.join(get_args(Measure))}")
    if cap <= 0 or (floor is not None and not 0 <= floor <= cap):
        raise ValueError(f"cap is {cap} and floor {floor}; the cap must be above 0, the floor between 0 and the cap")
    r = (train_logp - rollout_logp).detach().clamp(-LOG_RATIO, LOG_RATIO)
    over, _, estimate = measure.rpartition("_")
    value = {"k1": -r, "k2": 0.5 * r.square(), "k3": r.exp() - 1 - r}[estimate]
    if over == "seq_max":
        number, count = _numbered(sequence)
        value = torch.zeros(count, dtype=r.dtype, device=r.device).scatter_reduce(0, number, value, "amax")[number]
    elif over != "token":
        total, number = _sequence_sum(value, sequence)
        length = torch.bincount(number) if over == "seq_mean" else 1
        value = (total / length)[number]
    if estimate != "k1":
        return value <= cap
    return (value >= (math.log(floor) if floor else -math.inf)) & (value <= math.log(cap))


def _sequence_sum(r: Tensor, sequence: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sums of r by sequence [B], and each token's place among them [T]."""
    number, count = _numbered(sequence)
    return torch.zeros(count, dtype=r.dtype, device=r.device).index_add_(0, number, r), number


def _numbered(sequence: Tensor | None) -> tuple[Tensor, int]:
    """Sequences as numbers 0..B-1 [T], and B."""
    if sequence is None:
        raise ValueError("a measure by sequence needs `sequence`: the number of every token's sequence")
    unique, number = torch.unique(sequence, return_inverse=True)
    return number, len(unique)
