"""Where the sampling engine and the trainer differ numerically: measure it, and correct for it. Flat tensors, no gradient.

Everywhere r = log pi_train_old - log pi_rollout of the sampled token: the same weights, seen by two programs.
"""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor

from algorithms.surrogates import LOG_RATIO, Level, Measure, sequence_sums


def mismatch(train_logprobs: Tensor, rollout_logprobs: Tensor) -> dict[str, float]:
    """How far the two are apart over [T] tokens: |r| mean and max, k3 estimate of KL(rollout || train), effective sample share.

    effective_share is (sum w)^2 / (T sum w^2) of the token weights w = exp(r): 1 if the engines agree. {} for no tokens.
    """
    if not len(train_logprobs):
        return {}
    r = (train_logprobs - rollout_logprobs).detach().double()
    w = r.clamp(-LOG_RATIO, LOG_RATIO).exp()
    return {
        "mean_abs": float(r.abs().mean()),
        "max_abs": float(r.abs().max()),
        "kl": float((w - 1 - r).mean()),
        "effective_share": float(w.sum() ** 2 / (len(w) * w.square().sum())),
    }


def correction_weights(
    train_logprobs: Tensor,
    rollout_logprobs: Tensor,
    level: Level = "token",
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
    r = (train_logprobs - rollout_logprobs).detach()
    if level == "token":
        weights = r.clamp(-LOG_RATIO, LOG_RATIO).exp()
    elif level == "sequence":
        r, number = _sums(r, sequence)
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
    train_logprobs: Tensor,
    rollout_logprobs: Tensor,
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
    r = (train_logprobs - rollout_logprobs).detach().clamp(-LOG_RATIO, LOG_RATIO)
    over, _, estimate = measure.rpartition("_")
    value = {"k1": -r, "k2": 0.5 * r.square(), "k3": r.exp() - 1 - r}[estimate]
    if over != "token":
        total, number = _sums(value, sequence)
        if over == "seq_max":
            total = torch.zeros_like(total).scatter_reduce(0, number, value, "amax")
        value = (total / number.bincount() if over == "seq_mean" else total)[number]
    if estimate != "k1":
        return value <= cap
    return (value >= (math.log(floor) if floor else -math.inf)) & (value <= math.log(cap))


def _sums(values: Tensor, sequence: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sums of `values` by sequence [B], and each token's place among them [T]."""
    if sequence is None:
        raise ValueError("a measure by sequence needs `sequence`: the number of every token's sequence")
    return sequence_sums(values, sequence)
