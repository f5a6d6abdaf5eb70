"""POAD (arXiv 2405.15821): credit to the tokens of an action by a Bellman backup that is not discounted inside the action.

Its baselines: NTPO discounts between all tokens; ARCHER (after arXiv 2402.19446, as the authors of POAD ran it) moreover looks
for the next state's value behind the next action. TWOSOME, the third, is PPO over whole actions (ppo.py, level=turn) that are
chosen among the admissible ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.base import Batch, Bools, Floats
from algorithms.critics import CriticMethod, at_last_token
from algorithms.stats import gae


@dataclass
class POAD(CriticMethod):
    """Bellman backup with action decomposition, BAD: gamma between actions, 1 between the tokens of one."""

    @property
    def credits_tokens(self) -> bool:
        """Yes."""
        return True

    def estimate(self, batch: Batch, reward: Floats, values: Floats) -> tuple[Floats, Floats]:
        """GAE per token; every token's value is fitted."""
        advantage = gae(
            at_last_token(batch, reward),
            values,
            self.discounts(ends_of(batch)),
            np.repeat(batch.episode, batch.tokens),
            self.lam,
            self.following(batch, values),
            batch.bootstrap,
        )
        return advantage, advantage + values

    def discounts(self, ends: Bools) -> Floats:
        """[T] discount between each token and the next; `ends` [T] marks the last tokens of actions."""
        return np.where(ends, self.gamma, 1.0)

    def following(self, batch: Batch, values: Floats) -> Floats | None:
        """[T] value of what follows each token; None: what stands before the next one."""
        return None


@dataclass
class NTPO(POAD):
    """Naive token PPO: gamma between all tokens, so credit depends on how many tokens an action takes to say."""

    def discounts(self, ends: Bools) -> Floats:
        """[T] gamma."""
        return np.full(len(ends), self.gamma)


@dataclass
class ARCHER(NTPO):
    """As NTPO, but an action's last token is backed up from the value before the last token of the next action."""

    def following(self, batch: Batch, values: Floats) -> Floats:
        """[T] as in POAD, but at the end of an action."""
        following = np.append(values[1:], 0.0)
        last = np.cumsum(batch.tokens) - 1
        following[last[:-1]] = values[last[1:]]  # across trajectories it is not read: there the bootstrap stands
        return following


def ends_of(batch: Batch) -> Bools:
    """[T] True at the last token of each action."""
    ends = np.zeros(int(batch.tokens.sum()), dtype=bool)
    ends[np.cumsum(batch.tokens) - 1] = True
    return ends
