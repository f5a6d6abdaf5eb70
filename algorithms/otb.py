"""OTB, the optimal token baseline (arXiv 2602.07078): a baseline for each place of a token, weighted by the gradient before it.

This is the multi-turn form: places are counted over a trajectory's sampled tokens, what the environment said in between left
out. Without such texts it is the single-turn form. The sums of squared probabilities come from the trainer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from algorithms.base import Advantages, Algorithm, Floats, Ints, Need, Scored
from algorithms.stats import Lone, deviations


@dataclass
class OTB(Algorithm):
    """A(i,j) = G_ij - sum of W_kj G_kj / sum of W_kj over the group's trajectories k that have a j-th token.

    G is the undiscounted return from the token on, W the sum up to it of 1 - 2 pi + sum of pi^2 over all tokens of the
    vocabulary, the squared norm of the gradient of log pi by the logits.
    """

    lone_token: Lone = "zero"
    """Where no other trajectory has as many tokens: nothing to compare with, or the return itself (verl)."""

    min_group_size: ClassVar[int] = 2
    needs: ClassVar[frozenset[Need]] = frozenset({"sum_pi_squared"})

    @property
    def credits_tokens(self) -> bool:
        return True

    def credit(self, batch: Scored) -> Advantages:
        """One value a token [T]. Raises ValueError without batch.logprobs and batch.sum_pi_squared."""
        if batch.logprobs is None or batch.sum_pi_squared is None:
            raise ValueError(
                "OTB needs batch.logprobs and batch.sum_pi_squared, the sum of squared probabilities at each token"
            )
        returns = np.repeat(batch.returns(1.0), batch.tokens)  # rewards stand at last tokens
        energy = 1 - 2 * np.exp(batch.logprobs) + batch.sum_pi_squared
        group, episode = np.repeat(batch.group, batch.tokens), np.repeat(batch.episode, batch.tokens)
        credit = against_optimal_baseline(returns, energy, places(episode), group, episode, self.lone_token)
        return Advantages(credit, level="token", parts={"return": returns, "baseline": credit - returns})


def against_optimal_baseline(returns: Floats, energy: Floats, place: Ints, group: Ints, episode: Ints, lone: Lone) -> Floats:
    """[T] returns less the mean of those at the same place of the same group, weighted by the energy up to there; all [T]."""
    within, total = places(episode), np.cumsum(energy)
    path = total - (total - energy)[np.arange(len(episode)) - within]
    cell = group * (place.max(initial=0) + 1) + place
    return deviations(returns, cell, np.ones(len(cell), dtype=bool), lone, path)


def places(episode: Ints) -> Ints:
    """[T] 0, 1, 2, ... within each trajectory."""
    first = np.flatnonzero(np.diff(episode, prepend=-1))
    return np.arange(len(episode)) - np.repeat(first, np.diff(first, append=len(episode)))
