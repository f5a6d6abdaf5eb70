"""CALM (arXiv 2409.12798): a judge says which subgoals a step achieved, and achieved subgoals become step rewards.

Who judges (the environment's rules, a language model) and how it is asked is left to the trainer; so is adding the reward to
the environment's. An answer that does not come, or cannot be read, achieves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Algorithm, Bools, Floats
from algorithms.shaping import Judge
from algorithms.shaping.subgoal_reward import additive, potential_based
from envs.trajectory import Trajectory

NAME = "calm"


@dataclass
class Calm:
    """shaped_rewards["calm"] for subgoals achieved at each step. Raises ValueError for a setting not allowed."""

    form: Literal["additive", "potential"] = "additive"
    """additive: coefficient for each subgoal achieved at the step (paper). potential: gamma * Phi(s') - Phi(s), where Phi is
    coefficient * subgoals achieved so far; it keeps the optimal policy, and an episode gains nothing by it as a whole: only
    methods that credit steps feel it."""
    coefficient: float = 1.0
    """Reward of a subgoal."""
    once: bool = True
    """additive: a subgoal pays once an episode. False: each time (paper and released code)."""
    gamma: float | None = None
    """potential: the discount of the returns that the shaped reward enters; null: the method's."""
    subgoals: list[str] | None = None
    """Names of the subgoals that pay; null: all that the judge knows."""

    needs_judge: ClassVar[bool] = True
    judge: Judge | None = field(default=None, init=False, repr=False, compare=False)
    """Given by the trainer before the first iteration; so is the method's discount."""
    discount: float = field(default=1.0, init=False, repr=False, compare=False)
    metrics: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Of the last call of `shape`: subgoals an episode, and what the judge tells of its questions."""

    def __post_init__(self) -> None:
        if self.form not in ("additive", "potential"):
            raise ValueError(f"form is {self.form!r}; allowed: additive, potential")
        if not 0 <= self.coefficient < np.inf:
            raise ValueError(f"coefficient is {self.coefficient!r}; it must be at least 0, and finite")
        if self.gamma is not None and not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma!r}; it must be between 0 and 1, or null for the method's")

    def check(self, method: Algorithm) -> None:
        """Raises ValueError for a method that would not feel the reward."""
        if self.form == "potential" and not method.credits_steps:
            raise ValueError(
                "form is 'potential', by which an episode as a whole gains nothing, and this method credits episodes as "
                "a whole; allowed with it: additive (methods that credit steps: gigpo, hgpo, ppo, poad, reinforce_pp, ...)"
            )

    def shape(self, trajectories: Sequence[Trajectory]) -> None:
        """Write the reward, and into `step.info["judged"]` the names of the subgoals that the step was judged to achieve."""
        if self.judge is None:
            raise ValueError("calm has no judge: the trainer gives one before the first iteration")
        reached = 0
        for trajectory, judged in zip(trajectories, self.judge.judge(trajectories), strict=True):
            paying = [[name for name in names if self.subgoals is None or name in self.subgoals] for names in judged]
            columns = sorted({name for names in paying for name in names})
            achieved = np.array([[name in names for name in columns] for names in paying], dtype=bool)
            rewards = self.of_episode(achieved.reshape(len(paying), len(columns)))
            for step, names, reward in zip(trajectory.steps, paying, rewards.tolist(), strict=True):
                step.info["judged"] = names
                step.shaped_rewards[NAME] = reward
            reached += len(columns)
        self.metrics = {"subgoals": reached / max(1, len(trajectories)), **self.judge.metrics}

    def of_episode(self, achieved: Bools) -> Floats:
        """achieved [steps, subgoals] of a whole episode, after whose last step nothing is bootstrapped -> reward [steps]."""
        if self.form == "additive":
            return additive(achieved, self.coefficient, self.once)
        return potential_based(achieved, self.coefficient, self.discount if self.gamma is None else self.gamma)
