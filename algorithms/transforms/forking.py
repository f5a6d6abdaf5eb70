"""Training on forking tokens alone: those where the policy was most uncertain decide how a text goes on, the rest completes it.

`forking` is the 80/20 rule (arXiv 2506.01939); `spine` (arXiv 2511.17938) also keeps the entropy of these tokens in a band,
which is a part of the loss: `loss.entropy_band`. SPINE's reward, a majority vote without labels, is left to the environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.batch import Batch, Bools, Floats, Need
from algorithms.transforms import Changed, Left, Transform, column, highest, kept, of_token
from envs.common.structured import Fraction


@dataclass
class Forking(Transform):
    """Only the tokens of highest entropy are trained on."""

    share: Fraction = 0.2
    """Of the tokens that have an advantage (both papers)."""
    over: Literal["batch", "episode"] = "batch"
    """Among which tokens: all of the iteration's, or those of the same episode."""
    rest: Left = "masked"
    """What becomes of the others. masked: not trained on; zero: their advantage is 0, and they count in the loss's mean."""

    needs: ClassVar[frozenset[Need]] = frozenset({"entropy"})

    def apply(self, batch: Batch, values: Floats, defined: Bools, done: float) -> Changed:
        """Raises ValueError without batch.entropy."""
        return kept(values, defined, self.chosen(batch, defined), self.rest)

    def chosen(self, batch: Batch, defined: Bools) -> Bools:
        """[T] the tokens of highest entropy among the defined ones."""
        entropy = column(batch, "entropy", self)
        group = of_token(batch, batch.episode) if self.over == "episode" else np.zeros(len(entropy), dtype=np.int64)
        found = np.zeros(len(entropy), dtype=bool)
        found[defined] = highest(entropy[defined], self.share, group[defined])
        return found


@dataclass
class SPINE(Forking):
    """Forking tokens of each episode, and the band that `loss.entropy_band` keeps their entropy in."""

    over: Literal["batch", "episode"] = "episode"
    low: Fraction = 0.1
    """The band begins at this quantile of the entropies of the episode's tokens (paper)."""
    high: Fraction = 0.5
    """It ends at this one (paper)."""

    gives: ClassVar[frozenset[str]] = frozenset({"entropy_low", "entropy_high"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise ValueError(f"low is {self.low:g}; it must be at most high={self.high:g}")

    def apply(self, batch: Batch, values: Floats, defined: Bools, done: float) -> Changed:
        """Raises ValueError without batch.entropy."""
        entropy = column(batch, "entropy", self)
        ends = np.cumsum(np.bincount(batch.episode, batch.tokens, len(batch.faulted)).astype(np.int64))
        parts = [part for part in np.split(entropy, ends[:-1]) if len(part)]
        bounds = np.array([np.quantile(part, (self.low, self.high)) for part in parts]).reshape(-1, 2)
        low, high = np.repeat(bounds, [len(part) for part in parts], axis=0).T
        found = super().apply(batch, values, defined, done)
        return Changed(found.values, found.defined, {"entropy_low": low, "entropy_high": high})
