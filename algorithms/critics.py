"""What methods share that learn a value of what stands before each token, and credit actions by GAE over those values.

How far the backup is discounted, and at which places it stands, is the method's own, in a file of its own. The value
function is the trainer's.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from algorithms.base import Advantages, Algorithm, Batch, Floats, Need, Scored
from algorithms.stats import gae, normalize_tokens, step_sums
from envs.common.structured import Fraction


@dataclass
class CriticMethod(Algorithm):
    """A subclass says how rewards and values become advantages. Shaped rewards entering at `return` count as rewards."""

    gamma: Fraction = 0.95
    """Discount of rewards from one step to the next."""
    lam: Fraction = 0.95
    """GAE's lambda: 0 trusts the value of the next place, 1 the rewards of the whole rest."""
    normalize: bool = False
    """Shift and scale advantages over all tokens of the batch to mean 0 and variance 1."""

    needs: ClassVar[frozenset[Need]] = frozenset({"values"})

    @property
    def discount(self) -> float:
        return self.gamma

    @abstractmethod
    def estimate(self, batch: Scored, values: Floats) -> tuple[Floats, Floats]:
        """[T] advantages before normalization over the batch, and [T] value targets, nan where there is none; values [T]."""

    def credit(self, batch: Scored) -> Advantages:
        """One value a token [T], and what the critic is to predict there. Raises ValueError for a step without tokens."""
        values = batch.values
        if values is None:
            raise ValueError(f"{type(self).__name__} needs batch.values, the critic's value before each token; there are none")
        if not (batch.tokens > 0).all():
            raise ValueError("a step has no sampled token, so its reward stands nowhere")
        credit, returns = self.estimate(batch, values)
        if self.normalize:
            credit = self.normalized(batch, credit)
        return Advantages(credit, level="token", parts={"gae": credit, "value": values, "return": returns}, returns=returns)

    def normalized(self, batch: Scored, credit: Floats) -> Floats:
        """[T] (A - mean) / sqrt(variance + 1e-8) over all tokens of the batch."""
        return normalize_tokens(credit, np.ones(len(credit), dtype=np.int64), 1e-8)


def estimate_by_actions(batch: Scored, values: Floats, gamma: float, lam: float) -> tuple[Floats, Floats]:
    """GAE where an action is one decision, whose value stands before its first token: each of its tokens gets its advantage,
    and only the first has a value target. Returns both, [T]."""
    first = np.cumsum(batch.tokens) - batch.tokens  # [S]
    advantage = gae(batch.reward, values[first], np.full(len(first), gamma), batch.episode, lam)
    returns = np.full(len(values), np.nan)
    returns[first] = advantage + values[first]
    return np.repeat(advantage, batch.tokens), returns


def token_rewards(batch: Scored) -> Floats:
    """[T] what each token is paid: a step's reward stands at its last one, but for what single tokens were paid."""
    return batch.by_token + at_last_token(batch, batch.reward - step_sums(batch, batch.by_token))


def at_last_token(batch: Batch, values: Floats) -> Floats:
    """[S] -> [T]: each step's value at the last token of its response, 0 elsewhere."""
    spread = np.zeros(int(batch.tokens.sum()))
    spread[np.cumsum(batch.tokens) - 1] = values
    return spread
