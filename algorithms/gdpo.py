"""GDPO (arXiv 2601.05242): each source of reward is normalized apart, so that a large one does not drown a small one.

The sources are the environment's reward and every shaping that enters as `reward` or `return`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from algorithms.base import Advantages, Bools, Floats, Scored
from algorithms.outcome import OutcomeMethod
from algorithms.stats import Normalize, compared_steps, episode_returns, normalize, normalize_tokens
from envs.common.structured import NonNegative

ENVIRONMENT = "environment"
"""Name of the source that is no shaping."""


@dataclass
class GDPO(OutcomeMethod):
    """A(i) = normalized over the batch's tokens: sum over sources of w (R_i - mean of the group) / F, each with its own R."""

    weights: dict[str, float] = field(default_factory=dict)
    """Weight of each source by name (`environment`, or the shaping's); of those not given 1."""
    normalize: Normalize = "std"
    """std: divide by the group's standard deviation (ddof 1) plus epsilon; mean: only subtract the mean (F = 1)."""
    epsilon: NonNegative = 1e-6
    """Added to the standard deviation."""

    reads_sources: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, weight in self.weights.items():
            if not math.isfinite(weight):
                raise ValueError(f"weights.{name} is {weight!r}; it must be a number")

    def check(self, shapings: Sequence[str]) -> None:
        """A weight must be that of a source."""
        sources = [ENVIRONMENT, *(name for name in shapings if self.shaped_at.get(name, "reward") in ("reward", "return"))]
        for name in self.weights:
            if name not in sources:
                raise ValueError(
                    f"weights.{name} weighs nothing; the sources of this run are {', '.join(sources)} (a shaping is one if it "
                    "enters as reward or return: algo.shaped_at)"
                )

    def compared(self, batch: Scored, score: Floats, counted: Bools) -> Floats:
        """[S] the weighted sum of the sources, normalized; the sum of their scores is not looked at."""
        total = sum(self.sources(batch, counted).values())
        return normalize_tokens(np.asarray(total), batch.tokens, 1e-8)

    def sources(self, batch: Scored, counted: Bools) -> dict[str, Floats]:
        """[S] by name, each normalized within its groups and weighted; statistics are over the `counted` [S] steps."""
        scores = {ENVIRONMENT: episode_returns(batch, batch.environment)}
        for name, values in batch.shaped.items():
            entry = self.shaped_at.get(name, "reward")
            if entry in ("reward", "return"):
                scores[name] = episode_returns(batch, values) if entry == "reward" else values
        return {
            name: self.weights.get(name, 1.0)
            * normalize(score, batch.group, counted, self.normalize, self.epsilon, self.singleton_group)
            for name, score in scores.items()
        }

    def credit(self, batch: Scored) -> Advantages:
        """As of every outcome method; each source is a part, before normalization over the batch."""
        found = super().credit(batch)
        found.parts |= self.sources(batch, compared_steps(batch, self.episode_stats))
        return found
