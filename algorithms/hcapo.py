"""HCAPO (arXiv 2603.08754): a step of a success is credited by how likely its action looks once the outcome is known.

The trainer asks the policy itself: what probability the action has where the prompt also says how the episode ended. No code
of the authors was available; what the paper leaves open is said where it is decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from algorithms.base import Advantages, Floats, Need, Scored
from algorithms.grpo import GRPO
from algorithms.stats import following, normalize
from envs.common.structured import AboveZero, Fraction, NonNegative
from envs.trajectory import Trajectory


@dataclass
class HCAPO(GRPO):
    """A(i,t) = A_E(i) + omega A_S(i,t) (Eq. 3, 5-8): GRPO's, and the step's Q = rho gamma^(T-t) R against those of its task.

    rho is the action's probability in hindsight over its mean in the episode. Q is 0 in episodes that failed. A step of a
    success is never credited below 0 by its Q.
    """

    gamma: Fraction = 0.95
    """Discount by the steps that are left until the end."""
    omega: NonNegative = 1.0
    """Weight of the step part; 0 is GRPO."""
    temperature: AboveZero = 5.0
    """The mean log-probability of an action's tokens is divided by this before it is exponentiated."""
    ratio_min: NonNegative = 0.8
    """Smallest rho."""
    ratio_max: NonNegative = 1.2
    """Largest rho."""
    alpha: Fraction = 1.0
    """Smoothing: Q_t becomes alpha Q_t + (1 - alpha) Q_(t+1), and the last one stays. 1: none; the paper's option has 0.5."""
    sentence: str = "In hindsight: the task is completed in the end. The last thing seen is: {observation}"
    """What a prompt says besides when the policy is asked again; {observation}: what was seen after the last step. Added to the
    first message of a growing conversation, or to each rebuilt prompt."""

    needs: ClassVar[frozenset[Need]] = frozenset({"hindsight"})
    credits_steps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio_min > self.ratio_max:
            raise ValueError(f"ratio_min is {self.ratio_min:g}; it must be at most ratio_max={self.ratio_max:g}")
        if not self.sentence.strip():
            raise ValueError("sentence is empty; say how the episode ended, for example 'The task is completed in the end.'")

    def note(self, trajectory: Trajectory) -> str | None:
        """Of a success; the actions of failed episodes are not looked at."""
        return self.sentence.replace("{observation}", trajectory.final_observation or "") if trajectory.success else None

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]. Raises ValueError without batch.hindsight."""
        if batch.hindsight is None:
            raise ValueError("HCAPO needs batch.hindsight, the mean log-probability of each action given the outcome")
        episode = super().credit(batch).values
        ratio, won = self.ratios(batch, batch.hindsight), batch.success[batch.episode]
        left = batch.length[batch.episode] - 1 - batch.position
        value = np.where(won, ratio * np.power(self.gamma, left, dtype=np.float64) * batch.scores(), 0.0)  # Q
        value = self.alpha * value + (1 - self.alpha) * np.where(left > 0, following(value), value)
        # Eq. 8 speaks of steps at the same time, Sec. 5.2 and the algorithm of all states of the task: these are taken.
        step = normalize(value, batch.group, batch.included, self.normalize, self.epsilon)
        step = np.where(won, np.maximum(step, 0.0), step)
        return Advantages(episode + self.omega * step, parts={"episode": episode, "step": step, "ratio": ratio})

    def ratios(self, batch: Scored, hindsight: Floats) -> Floats:
        """[S] rho; 1 where nothing is known."""
        known = np.isfinite(hindsight)
        episode, likely = batch.episode[known], np.exp(hindsight[known] / self.temperature)
        n = np.bincount(episode, minlength=len(batch.faulted))  # [N]
        mean = np.bincount(episode, likely, len(n)) / np.maximum(n, 1)
        ratio = np.ones_like(hindsight)
        ratio[known] = np.clip(likely / mean[episode], self.ratio_min, self.ratio_max)
        return ratio
