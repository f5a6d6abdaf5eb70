"""What logits are divided by before tokens are drawn: one number, or one at each place that follows the entropy there (HAPO).

Either is a function of the logits alone. So the policy that samples is known wherever its logits are: sampler, trainer and
reward models divide by the same numbers, and none is stored with a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from algorithms.batch import Floats
from algorithms.stats import around
from algorithms.transforms.hapo import HAPO

SURE = 1e-6
"""Lowest entropy that is told from 0: below it, float32 has little but rounding."""
SPREAD = 0.01
"""Smallest distance of a logarithm from the pivot that makes h 1: among entropies that are all alike, rounding must not."""


@dataclass(frozen=True, slots=True)
class ByEntropy:
    """T = base (1 + tau h), h = (log H - centre) / above where that is positive, else / below, cut to [-1, 1]: the adaptive
    temperature sampling of arXiv 2509.16591. H: entropy at temperature `base`."""

    base: float
    tau: float
    centre: float
    above: float
    below: float

    @classmethod
    def fitted(cls, base: float, tau: float, entropy: Floats) -> ByEntropy:
        """With the pivot of entropies [M], and the largest distances from it: h of theirs reaches from -1 to 1."""
        centre, above, below = around(np.log(np.maximum(entropy, SURE)), HAPO.pivot)
        return cls(base, tau, centre, max(above, SPREAD), max(below, SPREAD))

    def at(self, entropy: Tensor) -> Tensor:
        """[...] temperature where the entropy is H [...]."""
        distance = entropy.clamp_min(SURE).log() - self.centre
        h = torch.where(distance > 0, distance / self.above, distance / self.below).clamp(-1, 1)
        return self.base * (1 + self.tau * h)

    @torch.no_grad()
    def of(self, logits: Tensor) -> Tensor:
        """[R] temperature for each line of `logits` [R, V], which are -inf where nothing can be sampled. Without gradient."""
        return self.at(entropy(torch.log_softmax(tempered(logits, self.base), -1)))


Temperature = float | ByEntropy


def tempered(logits: Tensor, temperature: Temperature, allowed: Tensor | None = None) -> Tensor:
    """`logits` [R, V] divided by their temperature; -inf where not `allowed` [R, V] (bool)."""
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    if isinstance(temperature, ByEntropy):
        return logits / temperature.of(logits)[:, None]
    return logits if temperature == 1.0 else logits / temperature


def entropy(logp: Tensor) -> Tensor:
    """[...] entropy in nats of log-probabilities [..., V], which may be -inf."""
    return -torch.where(logp > -torch.inf, logp.exp() * logp.clamp_min(-1e9), 0.0).sum(-1)


def constant(temperature: Temperature) -> float:
    """The one number, for who draws no tokens. Raises ValueError where the temperature is another at each of them."""
    if isinstance(temperature, ByEntropy):
        raise ValueError("a temperature that follows the entropy of tokens says nothing of actions that are chosen as wholes")
    return temperature
