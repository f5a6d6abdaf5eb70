"""Success on a panel: rate per task type with a confidence interval, pass@k, and faults reported apart from failures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from envs.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Rate:
    """Success of some episodes."""

    episodes: int
    """Episodes that ended by the environment's own rules (faults left out)."""
    successes: int
    faults: int
    score: float
    """Mean graded outcome, 0..1."""
    steps: float
    """Mean length."""

    @property
    def success(self) -> float:
        return self.successes / self.episodes if self.episodes else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the success rate."""
        return wilson(self.successes, self.episodes)


def wilson(successes: int, episodes: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a proportion; (0, 1) without data."""
    if episodes == 0:
        return 0.0, 1.0
    p, n = successes / episodes, episodes
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def rate(trajectories: Sequence[Trajectory]) -> Rate:
    """Summary of episodes; one with `error` counts as a fault, neither success nor failure."""
    played = [t for t in trajectories if t.error is None]
    return Rate(
        episodes=len(played),
        successes=sum(t.success for t in played),
        faults=len(trajectories) - len(played),
        score=float(np.mean([t.score for t in played])) if played else 0.0,
        steps=float(np.mean([len(t.steps) for t in played])) if played else 0.0,
    )


def by_type(trajectories: Sequence[Trajectory], task_type: Callable[[str], str]) -> dict[str, Rate]:
    """Rates per task type, sorted by name."""
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        groups.setdefault(task_type(trajectory.task_id), []).append(trajectory)
    return {name: rate(groups[name]) for name in sorted(groups)}


def pass_at(trajectories: Sequence[Trajectory], k: int) -> float | None:
    """Mean over tasks of 1 - C(n-c, k) / C(n, k): that one of k attempts succeeds; None if a task has fewer than k."""
    attempts: dict[str, list[bool]] = {}
    for trajectory in trajectories:
        if trajectory.error is None:
            attempts.setdefault(trajectory.task_id, []).append(trajectory.success)
    if not attempts or min(len(a) for a in attempts.values()) < k:
        return None
    return float(np.mean([1 - math.comb(len(a) - sum(a), k) / math.comb(len(a), k) for a in attempts.values()]))
