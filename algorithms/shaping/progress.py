"""Stepwise progress attribution (SPA-RL, arXiv 2505.20732): an episode's return, divided among its steps by an estimator.

The estimator says how much each step contributed; it is fitted as it goes, so that an episode's contributions sum to R.
As a shaping it goes with any method; the paper's is PPO (conf/algo/spa.yaml). The model itself is left to the trainer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from algorithms.base import Algorithm, Batch, Floats
from algorithms.shaping import StepModel
from algorithms.shaping.replacing import refuse_elsewhere
from algorithms.shaping.step_estimator import StepEstimator
from algorithms.stats import deviations, episode_returns
from envs.common.structured import NonNegative

NAME = "progress"


@dataclass
class Progress(StepEstimator):
    """The estimated contribution of a step to the return, and something for an action that could be executed."""

    grounding: NonNegative = 0.5
    """Reward of a step whose action the environment accepted (paper)."""
    replaces: bool = True
    """The environment's own reward is taken off where it was paid, so that only this shaping's is left (paper): it says who
    earned the same return. False: both count."""
    source: Literal["estimator", "others"] = "estimator"
    """Where contributions come from. others: the return less the mean return of the task's other episodes, for every step
    alike; nothing is learned (what the official scripts put in the estimator's place)."""
    weight: Literal["none", "steps_left"] = "none"
    """steps_left: a step's reward is multiplied by the number of steps that follow it (official); the last one gets none."""

    @property
    def learns(self) -> bool:
        return self.source == "estimator"

    def check(self, method: Algorithm) -> None:
        """Raises ValueError for a method with which nothing can be replaced."""
        refuse_elsewhere(NAME, self.replaces, method)

    async def shape(self, batch: Batch) -> Floats:
        """[S] the reward of each step, after the estimator was fitted to the returns. Faulted episodes take no part.

        metrics: loss of the estimator before it was fitted, which has not seen these episodes, and the share of the variance of
        returns that it explains; mean |contribution|.
        """
        played = Batch(**batch.finished())
        returns = episode_returns(played, played.reward)
        if self.source == "others":
            contributions, self.metrics = others(played, returns), {}
        else:
            contributions = self._estimated(batch, played, returns)
        self.metrics["contribution"] = float(np.abs(contributions).mean()) if len(contributions) else 0.0
        rewards = self.rewards(played, contributions)
        found = np.full(len(batch.reward), np.nan)
        found[batch.included] = rewards - played.reward if self.replaces else rewards
        return found

    def rewards(self, batch: Batch, contributions: Floats) -> Floats:
        """[S] each step's reward by its contribution [S]."""
        reward = contributions + self.grounding * batch.valid
        return reward if self.weight == "none" else reward * (batch.length[batch.episode] - batch.position - 1)

    def missing(self, batch: Batch, contributions: Floats, returns: Floats) -> Floats:
        """[S] sum of the episode's contributions [S] less its return [S]; the loss is the mean of its square over episodes."""
        return episode_returns(batch, contributions) - returns

    def _estimated(self, batch: Batch, played: Batch, returns: Floats) -> Floats:
        """[S] of the finished episodes, after the estimator's steps."""
        if self.model is None:
            raise ValueError(f"shaping {NAME} has no model; the trainer sets it before the first iteration")
        model: StepModel = self.model
        first = played.position == 0
        episodes = max(1, int(first.sum()))

        def gradient(contributions: Floats) -> Floats:
            slope = np.zeros(len(batch.reward))
            slope[batch.included] = 2 * self.missing(played, contributions[batch.included], returns) / episodes
            return slope

        before, after, self.metrics = model.fit(batch, gradient, self.epochs)
        left, spread = self.missing(played, before[batch.included], returns)[first], returns[first]
        self.metrics["loss"] = float((left**2).sum() / episodes)
        if len(spread) and spread.var() > 0:
            self.metrics["explained"] = float(1 - left.var() / spread.var())
        return after[batch.included]


def others(batch: Batch, returns: Floats) -> Floats:
    """[S] the return [S] of each step's episode less the mean of the task's other episodes; 0 where there is none."""
    first = batch.position == 0
    n = np.bincount(batch.group, first)[batch.group]  # [S] episodes of the task
    deviation = deviations(returns, batch.group, first)
    return deviation * np.divide(n, n - 1, out=np.zeros_like(n), where=n > 1)
