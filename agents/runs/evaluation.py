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

Z = 1.959964
"""Standard errors on each side of a 95% interval."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Success of some episodes."""

    episodes: int
    """Those that the rates are of: all but faults."""
    independent: float
    """Episodes of as many tasks that would tell as much: those of one task are alike."""
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
        """Wilson's 95% interval of the success rate, for tasks and episodes like these."""
        return wilson(self.success * self.independent if self.episodes else 0, self.independent)


def wilson(successes: float, episodes: float) -> tuple[float, float]:
    """Wilson's 95% score interval of a proportion; (0, 1) without data."""
    if episodes == 0:
        return 0.0, 1.0
    p, n, z = successes / episodes, episodes, Z
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


def rate(trajectories: Sequence[Trajectory]) -> Rate:
    """Summary of episodes; one with `error` counts as a fault, neither success nor failure."""
    played = [t for t in trajectories if t.error is None]
    return Rate(
        episodes=len(played),
        independent=_independent([*attempts(played).values()]),
        successes=sum(t.success for t in played),
        faults=len(trajectories) - len(played),
        cut_off=dict(Counter(reason for t in played if (reason := t.cut_off) is not None)),
        score=mean(t.score for t in played),
        steps=mean(len(t.steps) for t in played),
    )


def _independent(tasks: Sequence[Sequence[bool]]) -> float:
    """Episodes of a task each whose rate would be as uncertain as that of several by task: Kish's effective sample size."""
    m, n, wins = len(tasks), sum(map(len, tasks)), sum(map(sum, tasks))
    if m in (0, 1, n) or wins in (0, n):
        return m
    p = wins / n
    error = m / (m - 1) * sum((sum(task) - p * len(task)) ** 2 for task in tasks) / n**2
    return min(max(p * (1 - p) / error, m), n) if error else n


@dataclass(frozen=True, slots=True)
class Spread:
    """How much a success rate depends on chance."""

    by_seed: list[float | None]
    """The rate in each repeat of the tasks, which samples with seeds of its own; None without an episode."""
    of_seeds: float | None
    """Standard deviation of the rate of one repeat, from one to another on the same tasks. None: no task has two episodes."""
    of_tasks: float | None
    """Standard deviation from one set of so many tasks to another, if the chance to succeed at each were known."""


def spread(repeats: Sequence[Sequence[Trajectory]]) -> Spread:
    """Between repeats of the same tasks, and between tasks: the variance components of a one-way layout."""
    by_seed = [mean(t.success for t in played if t.error is None) for played in repeats]
    tasks = [np.array(a) for a in attempts([t for played in repeats for t in played]).values() if len(a) > 1]
    of_seeds = of_tasks = None
    if tasks:
        chance = np.array([a.var(ddof=1) for a in tasks])  # of one episode
        of_seeds = math.sqrt(chance.mean() / len(tasks))
        if len(tasks) > 1:
            among = np.var([a.mean() for a in tasks], ddof=1) - (chance / [len(a) for a in tasks]).mean()
            of_tasks = math.sqrt(max(0.0, among) / len(tasks))
    return Spread([None if math.isnan(rate) else rate for rate in by_seed], of_seeds, of_tasks)


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
