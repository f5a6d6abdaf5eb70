"""The judge that knows: what the environment's own rules say of each step, with as many errors as one wants to study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from algorithms.segments import reached
from algorithms.shaping.critique import wrong_by_rules
from envs.common.seeding import derive
from envs.trajectory import Trajectory


class Rules:
    """Ground truth. Like the other judges it sees only steps that changed anything.

    noise: probability that a verdict (a judged step and one of the task's subgoals) is the opposite of the truth. Which ones
    are is a function of seed, task, state and action: the same move is misjudged every time, as by a model that errs.
    """

    def __init__(self, subgoals: Callable[[str], Sequence[str]], noise: float = 0.0, seed: int = 0) -> None:
        """subgoals: from a task's id to the names of its subgoals."""
        self._subgoals, self._noise, self._seed = subgoals, noise, seed
        self.metrics: dict[str, float] = {}
        self.seconds: list[float] = []

    async def judge(self, trajectories: Sequence[Trajectory]) -> list[list[tuple[str, ...]]]:
        verdicts = [self._episode(trajectory) for trajectory in trajectories]
        steps = [step for trajectory in trajectories for step in trajectory.steps]
        self.metrics = {
            "steps": float(len(steps)),
            "judged": float(sum(step.changed for step in steps)),
            "achieved": float(sum(len(names) for episode in verdicts for names in episode)),
        }
        return verdicts

    async def critiques(self, trajectories: Sequence[Trajectory], count: int) -> list[list[tuple[int, ...] | None]]:
        said: list[list[tuple[int, ...] | None]] = []
        for one in trajectories:
            wrong = wrong_by_rules(one)
            moves = [(one.task_id, step.state_key, step.action) for step in one.steps]
            errs = (
                [bool(self._noise) and self._errs(*move, f"critique {number}") for move in moves] for number in range(count)
            )
            said.append([tuple(np.flatnonzero(wrong != np.array(flipped, dtype=bool)).tolist()) for flipped in errs])
        self.metrics = {"steps": float(sum(len(one.steps) for one in trajectories))}
        return said

    async def factors(
        self, trajectories: Sequence[Trajectory], fault: Callable[[str], str | None], proposals: int, repairs: int
    ) -> list[str]:
        """Rules write nothing."""
        return []

    def _episode(self, trajectory: Trajectory) -> list[tuple[str, ...]]:
        verdicts: list[tuple[str, ...]] = []
        for step, new in zip(trajectory.steps, reached(trajectory.steps, "subgoals")):
            if not step.changed:
                new = []
            elif self._noise:
                move = (trajectory.task_id, step.state_key, step.action)
                new = [name for name in self._subgoals(trajectory.task_id) if (name in new) != self._errs(*move, name)]
            verdicts.append(tuple(new))
        return verdicts

    def _errs(self, *verdict: str) -> bool:
        return derive(self._seed, "judge", "noise", *verdict) < self._noise * 2**63

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing is remembered from one call to the next."""

    async def close(self) -> None:
        """Nothing is held."""
