"""REINFORCE++ (arXiv 2501.03262), plain and with a group baseline: in both the scale is that of all tokens of the batch.

An episode's advantage therefore depends on the other tasks of the batch, and on how many tokens each episode has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from algorithms.base import Advantages, Algorithm, Batch, Bools, Floats
from algorithms.outcome import OutcomeMethod
from algorithms.stats import deviations, gae, share, whiten


@dataclass
class ReinforcePP(Algorithm):
    """A(token) = (G - mean of G) / std of G over all tokens of the batch; G is the token's discounted return."""

    gamma: float = 1.0
    """Discount from one token to the next; a step's reward stands at its last token."""
    span: Literal["episode", "response"] = "episode"
    """How far a return reaches: to the end of the episode, what stands between two responses counting for nothing (verl), or of
    the token's own response, so that only the last response sees a final reward (verl before August 2026)."""
    epsilon: float = 1e-8
    """Added to the variance."""

    @property
    def credits_tokens(self) -> bool:
        """Yes."""
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma!r}; it must be between 0 and 1")
        _check_epsilon(self.epsilon)

    def advantages(self, batch: Batch) -> Advantages:
        """One value a token [T]."""
        reward = batch.reward + self.entering(batch, "reward")
        if self.span == "episode":
            # At a response's last token. From there to the last token of the next one are as many places as that has tokens.
            discount = np.power(self.gamma, np.append(batch.tokens[1:], 0), dtype=np.float64)
            reward = gae(reward, np.zeros_like(reward), discount, batch.episode, 1.0)
        ahead = np.repeat(np.cumsum(batch.tokens), batch.tokens) - np.arange(batch.tokens.sum()) - 1  # [T] in its response
        returns = np.power(self.gamma, ahead, dtype=np.float64) * np.repeat(reward, batch.tokens)
        returns += np.repeat(self.entering(batch, "return"), batch.tokens)
        counted = np.repeat(batch.counted, batch.tokens)
        credit = whiten(returns, counted.astype(np.int64), self.epsilon)
        shaped = np.repeat(self.entering(batch, "after"), batch.tokens)
        values = np.where(counted, credit + shaped, 0.0)
        return Advantages(
            values,
            counted,
            level="token",
            parts={"whitened": credit, "shaped": shaped, "return": returns},
            metrics={"zero_tokens": share(values == 0, counted)},
        )


@dataclass
class ReinforceBaseline(OutcomeMethod):
    """A(i) = (D_i - mean of D) / std of D over all tokens of the batch, where D_i = R_i - mean of the group."""

    epsilon: float = 1e-8
    """Added to the variance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_epsilon(self.epsilon)

    def compared(self, batch: Batch, score: Floats, counted: Bools) -> Floats:
        """[S] D, whitened over the batch's tokens."""
        deviation = deviations(score, batch.group, counted, self.lone_episode)
        return whiten(deviation, np.where(batch.counted, batch.tokens, 0), self.epsilon)


def _check_epsilon(epsilon: float) -> None:
    if not epsilon >= 0:
        raise ValueError(f"epsilon is {epsilon!r}; it must be at least 0")
