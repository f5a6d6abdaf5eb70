"""EMPG (arXiv 2509.09265): the episode's advantage counts more at confident steps and less at uncertain ones.

A gradient is large where the policy is uncertain, whether or not the step mattered; the scale evens that out. A step also gets
a bonus for leading to a step that the policy is sure of. How uncertain a step is, the trainer says: the entropy of its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from algorithms.base import Advantages, Floats, Need, Scored
from algorithms.grpo import GRPO
from algorithms.stats import following
from envs.common.structured import NonNegative

EPSILON = 1e-8
"""Added to the spread of entropies and to the mean scale."""


@dataclass
class EMPG(GRPO):
    """A(i,t) = A_E(i) g(H_t) + zeta f(H_t+1), less its mean over the batch's steps (Eq. 7-12); A_E is GRPO's.

    H: mean entropy of the step's tokens, from 0 to 1 over the batch's steps. g = exp(-k H) / its mean over steps; f =
    exp(-k_future H). The bonus remains where all returns are equal; with zeta 0 nothing does.
    """

    k: NonNegative = 1.0
    """How much less an uncertain step counts; 0: all count the same. The paper tunes it by task, as the next two."""
    k_future: NonNegative = 1.0
    """How much smaller the bonus is where the next step is uncertain."""
    zeta: NonNegative = 0.05
    """Weight of the bonus, in units of the advantage."""

    needs: ClassVar[frozenset[Need]] = frozenset({"entropy"})
    credits_steps: ClassVar[bool] = True

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]. Raises ValueError without batch.entropy."""
        if batch.entropy is None:
            raise ValueError("EMPG needs batch.entropy, the entropy of the distribution that each token was sampled from")
        uncertain = over_batch(step_entropy(batch, batch.entropy))
        scale = np.exp(-self.k * uncertain)
        scale /= scale.sum() / max(1, len(scale)) + EPSILON  # g
        goes_on = batch.position + 1 < batch.length[batch.episode]
        bonus = self.zeta * np.where(goes_on, np.exp(-self.k_future * following(uncertain)), 0.0)  # zeta f
        modulated = super().credit(batch).values * scale
        values = modulated + bonus
        mean = values.sum() / max(1, len(values))
        parts = {"modulated": modulated, "bonus": bonus, "mean": np.full(len(values), -mean), "uncertainty": uncertain}
        return Advantages(values - mean, parts=parts)


def step_entropy(batch: Scored, entropy: Floats) -> Floats:
    """[S] mean over the tokens of each step; entropy [T]. A step without tokens chose nothing: 0."""
    step = np.repeat(np.arange(len(batch.tokens)), batch.tokens)
    return np.bincount(step, entropy, len(batch.tokens)) / np.maximum(batch.tokens, 1)


def over_batch(values: Floats) -> Floats:
    """[S] moved and scaled so that the smallest is 0 and the largest 1 (all 0 where they are equal)."""
    lowest, highest = values.min(initial=np.inf), values.max(initial=-np.inf)
    return (values - lowest) / (highest - lowest + EPSILON)
