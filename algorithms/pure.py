"""PURE (arXiv 2504.15275): an episode is worth its worst step, so that a step cannot earn what a later mistake spoils.

Process rewards are whatever shapings add to the environment's reward (a reward model's, a judge's); here they are only summed
otherwise. The environment's own reward is the verifiable one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from algorithms.base import Advantages, Algorithm, Floats, Ints, Scored
from algorithms.stats import discounted_sums, episode_returns, normalize
from envs.common.structured import AboveZero, NonNegative


@dataclass
class PURE(Algorithm):
    """A(i,t) = sum over k >= t of (r*_k - b n_k) + w (R_i - mean of the others), r* = r softmax(-r / temperature).

    n_k: tokens of the step; b: the sum of r* of the task's other episodes, by the sum of their tokens. An episode that is alone
    in its task has 0.
    """

    temperature: AboveZero | None = 0.1
    """Of the softmax over an episode's steps, in units of the process reward; the smaller, the nearer is an episode's sum to
    its smallest reward. null: every step counts alike (their mean)."""
    outcome: NonNegative = 1.0
    """Weight w of the environment's own return."""

    min_group_size: ClassVar[int] = 2
    reads_sources: ClassVar[bool] = True

    def check(self, shapings: Sequence[str]) -> None:
        """Raises ValueError for a run without process rewards."""
        if not any(self.shaped_at.get(name, "reward") == "reward" for name in shapings):
            raise ValueError(
                "shaped_at lets no shaping of this run enter as reward, and PURE takes the smallest of such process rewards: "
                "add one, for example shaping=implicit_prm (a reward model) or shaping=critique (a judge)"
            )

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]."""
        least = min_form(batch.backed_up - batch.environment, batch.episode, self.temperature)
        net = least - batch.tokens * _others_by_token(batch, least)
        process: Floats = discounted_sums(net, np.ones_like(net), batch.episode) + batch.own
        first = batch.position == 0
        n = np.bincount(batch.group, first)[batch.group]  # [S] episodes of the task
        process[n < 2] = batch.own[n < 2]
        deviation = normalize(episode_returns(batch, batch.environment), batch.group, first, "mean", 0.0)
        outcome: Floats = self.outcome * deviation * n / np.maximum(n - 1, 1)
        worst = float(episode_returns(batch, least)[first].mean()) if first.any() else 0.0
        return Advantages(process + outcome, parts={"process": process, "outcome": outcome}, metrics={"min_form": worst})


def min_form(reward: Floats, episode: Ints, temperature: float | None) -> Floats:
    """r softmax(-r / temperature) over the steps of each episode, or with None r / steps: reward [S], episode [S] -> [S]."""
    episodes = int(episode.max(initial=-1)) + 1
    if temperature is None:
        return reward / np.bincount(episode, minlength=episodes)[episode]
    least = np.full(episodes, np.inf)
    np.minimum.at(least, episode, reward)
    weight = np.exp((least[episode] - reward) / temperature)
    return reward * weight / np.bincount(episode, weight, episodes)[episode]


def _others_by_token(batch: Scored, least: Floats) -> Floats:
    """[S] sum of `least` [S] over the task's other episodes, by the sum of their tokens; 0 where they have none."""

    def others(values: Floats | Ints) -> Floats:
        whole = np.bincount(batch.group, values)[batch.group].astype(np.float64)
        return whole - episode_returns(batch, values.astype(np.float64))

    tokens = others(batch.tokens)
    found: Floats = np.divide(others(least), tokens, out=np.zeros(len(least)), where=tokens > 0)
    return found
