"""What one update trains on, fixed before its first step: which tokens, relative to which log-probabilities, with what weight.

Without a correction it is what the engine sampled. With one, the trainer's own log-probabilities are the old ones, tokens are
weighted by trainer over engine, and those where the two differ too much are left out. The formulas are algorithms.correction's.
Of samples of older weights that is the decoupled objective of AReaL (arXiv 2505.24298): the step is bounded by the policy as it
is before the update, and the weight accounts for the one that sampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.config.sections import CorrectionConfig
from algorithms.correction import correction_weights, kept_tokens, mismatch

MISMATCH = {"mean": "mean_abs", "max": "max_abs", "kl": "kl"}
"""What is told of the difference between engine and trainer, by names of algorithms.correction."""


@dataclass(slots=True)
class Target:
    """Flat over all sampled tokens [T]."""

    old: Tensor
    """Log-probabilities that ratios refer to: the engine's, or with a correction the trainer's own."""
    trained: Tensor
    """bool: choices with a defined advantage that were not rejected, and forced tokens beside them."""
    correction: Tensor | None
    """Importance weights; None: 1 everywhere."""
    current: Tensor
    """bool: sampled by the weights that are trained. Here engine and trainer differ numerically, elsewhere by age too."""
    metrics: dict[str, float]
    """What a correction measured; empty without one."""


def corrected(
    rollout_logprobs: Tensor,
    train_logprobs: Tensor,
    chosen: Tensor,
    defined: Tensor,
    sequence: Tensor,
    current: Tensor,
    config: CorrectionConfig,
) -> Target:
    """All [T]: log-probabilities of engine and trainer, whether a token was a choice (not forced), whether it has an advantage,
    the number of its sequence, whether the weights that are trained sampled it. Forced tokens, and those without an advantage,
    enter no weight and no sequence."""
    at = (chosen & defined).nonzero()[:, 0]  # [M]
    pair, of, fresh = (train_logprobs[at], rollout_logprobs[at]), sequence[at], current[at]
    gap = mismatch(pair[0][fresh], pair[1][fresh])
    metrics = {f"mismatch_{name}": gap.get(key, math.nan) for name, key in MISMATCH.items()}
    target = Target(train_logprobs, defined, None, current, metrics)
    metrics["effective_share"] = mismatch(*pair).get("effective_share", 0.0)
    if config.kind in ("token", "sequence"):
        weights = correction_weights(
            *pair, config.kind, sequence=of, cap=config.cap, floor=config.floor, mean_one=config.mean_one
        )
        target.correction = torch.ones(len(defined)).index_copy(0, at, weights.float())
    if config.reject != "none":
        kept = kept_tokens(*pair, config.reject, cap=config.reject_cap, floor=config.reject_floor, sequence=of)
        target.trained = _without(defined, at, kept, sequence)
        target.metrics["rejected"] = float((~kept).double().mean()) if len(kept) else 0.0
    return target


def _without(defined: Tensor, at: Tensor, kept: Tensor, sequence: Tensor) -> Tensor:
    """`defined` [T] less the tokens `at` [M] that are not `kept` [M], and the forced ones of sequences that lost them all."""
    alive = torch.ones(int(sequence.max()) + 1, dtype=torch.bool)
    alive[sequence[at]] = False
    alive[sequence[at[kept]]] = True
    left = defined & alive[sequence]
    left[at] = kept
    return left
