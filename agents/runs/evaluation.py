"""Success on a split: rate per task type with a confidence interval, pass@k, cut-off episodes and faults reported apart.

An episode that was cut off (out of time, out of context) is lost and stays in the denominator. Only a fault, which says nothing
of the policy, stays out of a rate, and is counted beside it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from envs.trajectory import CONTEXT, Trajectory


@dataclass(frozen=True, slots=True)
class Rate:
    """Success of some episodes."""

    episodes: int
    """Those that the rates are of: all but faults."""
    successes: int
    faults: int
    """Cut off by a crash or a hang (faults left out of everything else)."""
    cut_off: dict[str, int]
    """Lost episodes that were stopped before they ended, by reason: time_limit, context (too long for the model), ..."""
    score: float
    """Mean graded outcome, 0..1; nan without episodes, as all rates."""
    steps: float
    """Mean length."""

    @property
    def success(self) -> float:
        return self.successes / self.episodes if self.episodes else math.nan

    @property
    def out_of_context(self) -> int:
        """Episodes that outgrew what the model can read."""
        return self.cut_off.get(CONTEXT, 0)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the success rate."""
        return wilson(self.successes, self.episodes)


def wilson(successes: int, episodes: int) -> tuple[float, float]:
    """Wilson's 95% score interval of a proportion; (0, 1) without data."""
    if episodes == 0:
        return 0.0, 1.0
    p, n, z = successes / episodes, episodes, 1.959964
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


def rate(trajectories: Sequence[Trajectory]) -> Rate:
    """Summary of episodes; one with `error` counts as a fault, neither success nor failure."""
    played = [t for t in trajectories if t.error is None]
    return Rate(
        episodes=len(played),
        successes=sum(t.success for t in played),
        faults=len(trajectories) - len(played),
        cut_off=dict(Counter(reason for t in played if (reason := t.cut_off) is not None)),
        score=mean(t.score for t in played),
        steps=mean(len(t.steps) for t in played),
    )


def mean(values: Iterable[float]) -> float:
    """The mean; nan of nothing, which is no number and must not look like one."""
    known = list(values)
    return float(np.mean(known)) if known else math.nan


def by_type(trajectories: Sequence[Trajectory], task_type: Callable[[str], str]) -> dict[str, Rate]:
    """Rates per task type, sorted by name."""
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        groups.setdefault(task_type(trajectory.task_id), []).append(trajectory)
    return {name: rate(groups[name]) for name in sorted(groups)}


def attempts(trajectories: Sequence[Trajectory]) -> dict[str, list[bool]]:
    """Whether each attempt at each task succeeded; faults are no attempts, and a task may be left without any."""
    found: dict[str, list[bool]] = {trajectory.task_id: [] for trajectory in trajectories}
    for trajectory in trajectories:
        if trajectory.error is None:
            found[trajectory.task_id].append(trajectory.success)
    return found


def pass_at(trajectories: Sequence[Trajectory], k: int) -> float | None:
    """Mean over tasks of 1 - C(n-c, k) / C(n, k): that one of k attempts succeeds; None if a task has fewer than k."""
    tasks = attempts(trajectories).values()
    if not tasks or min(map(len, tasks)) < k:
        return None
    return float(np.mean([1 - math.comb(len(a) - sum(a), k) / math.comb(len(a), k) for a in tasks]))
