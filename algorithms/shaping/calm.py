"""CALM (arXiv 2409.12798): a judge says which subgoals a step achieved, and achieved subgoals become step rewards.

Who judges (the environment's rules, a language model) and how it is asked is left to the trainer; so is adding the reward to
the environment's. An answer that does not come, or cannot be read, achieves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Algorithm, Batch, Bools, Floats
from algorithms.shaping import NeedsJudge, Shaping
from algorithms.shaping.subgoal_reward import additive, potential_based
from envs.common.structured import Fraction, NonNegative


@dataclass
class Calm(Shaping):
    """A reward for subgoals achieved at each step, as a judge says."""

    form: Literal["additive", "potential"] = "additive"
    """additive: coefficient for each subgoal achieved at the step (paper). potential: gamma * Phi(s') - Phi(s), where Phi is
    coefficient * subgoals achieved so far; it keeps the optimal policy, and an episode gains nothing by it as a whole: only
    methods that credit steps feel it."""
    coefficient: NonNegative = 1.0
    """Reward of a subgoal."""
    once: bool = True
    """additive: a subgoal pays once an episode. False: each time (paper and released code)."""
    gamma: Fraction | None = None
    """potential: the discount of the returns that the shaped reward enters; null: the method's."""
    subgoals: list[str] | None = None
    """Names of the subgoals that pay; null: all that the judge knows."""

    needs_judge: ClassVar[NeedsJudge] = "subgoals"

    def check(self, method: Algorithm) -> None:
        """Raises ValueError for a method that would not feel the reward."""
        if self.form == "potential" and not method.credits_steps:
            raise ValueError(
                "form is 'potential', by which an episode as a whole gains nothing, and this method credits episodes as "
                "a whole; allowed with it: additive (methods that credit steps: gigpo, hgpo, ppo, poad, reinforce_pp, ...)"
            )

    async def shape(self, batch: Batch) -> Floats:
        """[S] the reward; `step.judged` gets the names of the subgoals that the step was judged to achieve.

        metrics: subgoals an episode, and what the judge tells of its questions.
        """
        if self.judge is None:
            raise ValueError("calm has no judge: the trainer gives one before the first iteration")
        played = [one for one in batch.trajectories if one.error is None]
        found, reached = [np.zeros(0)], 0
        for trajectory, judged in zip(played, await self.judge.judge(played), strict=True):
            paying = [[name for name in names if self.subgoals is None or name in self.subgoals] for names in judged]
            columns = sorted({name for names in paying for name in names})
            achieved = np.array([[name in names for name in columns] for names in paying], dtype=bool)
            found.append(self.of_episode(achieved.reshape(len(paying), len(columns))))
            for step, names in zip(trajectory.steps, paying, strict=True):
                step.judged = names
            reached += len(columns)
        self.metrics = {"subgoals": reached / max(1, len(played)), **self.judge.metrics}
        rewards = np.full(len(batch.reward), np.nan)
        rewards[batch.included] = np.concatenate(found)
        return rewards

    def of_episode(self, achieved: Bools) -> Floats:
        """achieved [steps, subgoals] of a whole episode, after whose last step nothing is bootstrapped -> reward [steps]."""
        if self.form == "additive":
            return additive(achieved, self.coefficient, self.once)
        return potential_based(achieved, self.coefficient, self.discount if self.gamma is None else self.gamma)
