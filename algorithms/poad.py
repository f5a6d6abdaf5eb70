"""POAD (arXiv 2405.15821): credit to the tokens of an action by a Bellman backup that is not discounted inside the action.

Two of its baselines are settings of the same backup. NTPO discounts between all tokens (inner=null). ARCHER (after arXiv
2402.19446, as the authors of POAD ran it) does so too, and takes the next state's value from behind the next action
(next_value=action). The third, TWOSOME, is PPO over whole actions (ppo.py, level=action).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from algorithms.base import Floats, Scored
from algorithms.critics import CriticMethod, token_rewards
from algorithms.stats import gae
from envs.common.structured import Fraction


@dataclass
class POAD(CriticMethod):
    """Bellman backup with action decomposition, BAD: gamma between actions, `inner` between the tokens of one."""

    inner: Fraction | None = 1.0
    """Discount between the tokens of an action; below 1 its credit depends on how many tokens it takes to say. null: gamma."""
    next_value: Literal["token", "action"] = "token"
    """What an action's last token is backed up from: the value before the next token, or before the next action's last one."""

    @property
    def credits_tokens(self) -> bool:
        return True

    def estimate(self, batch: Scored, values: Floats) -> tuple[Floats, Floats]:
        """GAE per token; every token's value is fitted."""
        last = np.cumsum(batch.tokens) - 1  # [S] the last token of each action
        discount = np.full(len(values), self.gamma if self.inner is None else self.inner)
        discount[last] = self.gamma
        next_values = np.append(values[1:], 0.0)
        if self.next_value == "action":
            next_values[last[:-1]] = values[last[1:]]  # after a trajectory's last action nothing follows: gae puts 0 there
        episode = np.repeat(batch.episode, batch.tokens)
        advantage = gae(token_rewards(batch), values, discount, episode, self.lam, next_values)
        return advantage, advantage + values
