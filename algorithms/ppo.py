"""PPO (arXiv 1707.06347) with a critic: GAE over tokens, or over turns, whose every token then gets the turn's advantage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from algorithms.base import Floats, Scored
from algorithms.critics import CriticMethod, estimate_by_actions, token_rewards
from algorithms.stats import gae
from envs.common.structured import Fraction


@dataclass
class PPO(CriticMethod):
    """level=token: the usual PPO of language models; level=action: an action is one decision, its value stands before it."""

    gamma: Fraction = 1.0
    """Discount from one token (level=token) or step (level=action) to the next."""
    lam: Fraction = 0.95
    """GAE's lambda: 0 trusts the value of the next place, 1 the rewards of the whole rest."""
    normalize: bool = True
    """Shift and scale advantages over all tokens of the batch to mean 0 and variance 1."""
    level: Literal["token", "action"] = "token"
    """What a decision is."""

    @property
    def credits_tokens(self) -> bool:
        """At level=token."""
        return self.level == "token"

    def estimate(self, batch: Scored, values: Floats) -> tuple[Floats, Floats]:
        """GAE; of a turn only the value before its first token is fitted."""
        if self.level == "action":
            return estimate_by_actions(batch, values, self.gamma, self.lam)
        episode = np.repeat(batch.episode, batch.tokens)
        discount = np.full(len(values), self.gamma)
        advantage = gae(token_rewards(batch), values, discount, episode, self.lam)
        return advantage, advantage + values
