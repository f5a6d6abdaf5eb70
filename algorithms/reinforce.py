"""REINFORCE++ (arXiv 2501.03262), plain and with a group baseline: in both the scale is that of all tokens of the batch.

An episode's advantage therefore depends on the other tasks of the batch, and on how many tokens each episode has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from algorithms.base import Advantages, Algorithm, Bools, Floats, Scored
from algorithms.outcome import OutcomeMethod
from algorithms.stats import deviations, discounted_sums, normalize_tokens
from envs.common.structured import Fraction, NonNegative


@dataclass
class ReinforcePP(Algorithm):
    """A(token) = (G - mean of G) / std of G over all tokens of the batch; G is the token's discounted return."""

    gamma: Fraction = 1.0
    """Discount from one token to the next; a step's reward stands at its last token."""
    span: Literal["episode", "response"] = "episode"
    """How far a return reaches: to the end of the episode, what stands between two responses counting for nothing (verl), or of
    the token's own response, so that only the last response sees a final reward (verl before August 2026)."""
    epsilon: NonNegative = 1e-8
    """Added to the variance."""

    @property
    def credits_tokens(self) -> bool:
        return True

    def credit(self, batch: Scored) -> Advantages:
        """One value a token [T]."""
        reward = batch.backed_up
        if self.span == "episode":
            # At a response's last token. From there to the last token of the next one are as many places as that has tokens.
            discount = np.power(self.gamma, np.append(batch.tokens[1:], 0), dtype=np.float64)
            reward = discounted_sums(reward, discount, batch.episode)
        later = np.repeat(np.cumsum(batch.tokens), batch.tokens) - np.arange(batch.tokens.sum()) - 1  # [T] in its response
        returns = np.power(self.gamma, later, dtype=np.float64) * np.repeat(reward, batch.tokens)
        returns += np.repeat(batch.own, batch.tokens)
        credit = normalize_tokens(returns, np.ones(len(returns), dtype=np.int64), self.epsilon)
        return Advantages(credit, level="token", parts={"normalized": credit, "return": returns})


@dataclass
class ReinforceBaseline(OutcomeMethod):
    """A(i) = (D_i - mean of D) / std of D over all tokens of the batch, where D_i = R_i - mean of the group."""

    epsilon: NonNegative = 1e-8
    """Added to the variance."""

    def compared(self, batch: Scored, score: Floats, counted: Bools) -> Floats:
        """[S] D, normalized over the batch's tokens."""
        deviation = deviations(score, batch.group, counted, self.singleton_group)
        return normalize_tokens(deviation, batch.tokens, self.epsilon)
