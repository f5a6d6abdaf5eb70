"""Bi-level GAE (RAGEN; VAGEN, arXiv 2510.16907): credit goes from turn to turn, and then from a turn's end to its tokens.

A turn is a step of the episode, whatever it is paid. RAGEN's trainer finds turns by their rewards instead: the setting `turns`,
and conf/algo/bi_level_gae_official.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from algorithms.base import Floats, Scored
from algorithms.critics import CriticMethod
from algorithms.stats import gae
from envs.common.structured import Fraction


@dataclass
class BiLevelGAE(CriticMethod):
    """GAE over turns, with the values before their last tokens; then inside each turn, whose last token is paid its return."""

    gamma: Fraction = 0.95
    """Discount from one turn to the next (the authors' high_level_gamma)."""
    inner: Fraction = 1.0
    """Discount between the tokens of a turn (the authors' gamma)."""
    lam: Fraction = 1.0
    """GAE's lambda, on both levels."""
    normalize: bool = True
    """Shift and scale advantages over all tokens of the batch to mean 0 and variance 1."""
    turns: Literal["steps", "rewards"] = "steps"
    """Where a turn ends: with each step, or only with one whose reward is not 0 and with the last (official), so that an
    episode that is paid at its end is a single turn."""

    @property
    def credits_tokens(self) -> bool:
        return True

    def estimate(self, batch: Scored, values: Floats) -> tuple[Floats, Floats]:
        """GAE per token; every token's value is fitted."""
        ends = (batch.reward != 0) | (self.turns == "steps")  # [S]
        ends[np.cumsum(batch.length) - 1] = True  # the authors' code fails where an episode goes on after its last reward
        last = np.cumsum(batch.tokens)[ends] - 1  # [U] the last token of each turn
        turn = np.cumsum(ends) - ends  # [S] number of the step's turn
        discount = np.full(len(last), self.gamma)
        of_turn = gae(batch.reward[ends], values[last], discount, batch.episode[ends], self.lam)
        paid = np.zeros(len(values))
        paid[last] = of_turn + values[last]
        discount = np.full(len(values), self.inner)
        advantage = gae(paid, values, discount, np.repeat(turn, batch.tokens), self.lam)
        return advantage, advantage + values
