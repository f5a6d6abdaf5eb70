"""A judge against the rules: counts of verdicts, their ratios, and intervals from a bootstrap over episodes. Pure functions.

A verdict is about one step and one subgoal. Steps that the judge was not asked about, and questions without an answer, are
verdicts too: that nothing was achieved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from algorithms.base import Bools, Floats, Ints
from algorithms.segments import reached
from envs.common.seeding import generator
from envs.trajectory import Trajectory

RATIOS = ("precision", "recall", "f1")
ALL = "all"
"""Name of the sum over subgoals."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of verdicts against labels."""

    tp: int
    fp: int
    fn: int
    tn: int


def confusion(verdict: Bools, label: Bools) -> Confusion:
    """Counts of two arrays of one shape."""
    if verdict.shape != label.shape:
        raise ValueError(f"verdicts of shape {verdict.shape} for labels of shape {label.shape}; give one verdict a label")
    return Confusion(
        *(int((v & w).sum()) for v, w in ((verdict, label), (verdict, ~label), (~verdict, label), (~verdict, ~label)))
    )


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio with its 95% interval; None where it is one of nothing."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Score:
    """How good the verdicts on a subgoal are."""

    counts: Confusion
    precision: Ratio
    recall: Ratio
    f1: Ratio

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self.counts), **{name: asdict(getattr(self, name)) for name in RATIOS}}


def labels(trajectory: Trajectory, names: Sequence[str]) -> Bools:
    """[steps, subgoals] whether the rules say that the step achieved it."""
    return _table(reached(trajectory.steps, "subgoals"), names)


def filtered(trajectories: Sequence[Trajectory], subgoals: Sequence[Sequence[str]]) -> dict[str, int]:
    """How many transitions a judge is asked about at all, and how many events are lost by that."""
    kept = [[step.changed for step in trajectory.steps] for trajectory in trajectories]
    events = [labels(trajectory, names).sum(axis=1) for trajectory, names in zip(trajectories, subgoals, strict=True)]
    lost = sum(int(n) for asked, found in zip(kept, events) for yes, n in zip(asked, found) if not yes)
    return {
        "episodes": len(trajectories),
        "won": sum(trajectory.success for trajectory in trajectories),
        "transitions": sum(map(len, kept)),
        "kept": sum(map(sum, kept)),
        "events": sum(int(found.sum()) for found in events),
        "events_lost": lost,
    }


def score(
    trajectories: Sequence[Trajectory],
    verdicts: Sequence[Sequence[Sequence[str]]],
    subgoals: Sequence[Sequence[str]],
    seed: int = 0,
) -> dict[str, Score]:
    """Scores by subgoal, and of all together. subgoals: names that the rules know in each trajectory's task."""
    columns = list(dict.fromkeys(name for names in subgoals for name in names))
    counts = np.zeros((len(trajectories), len(columns), 4), dtype=np.int64)  # [E, K, 4]
    for episode, (trajectory, judged, names) in enumerate(zip(trajectories, verdicts, subgoals, strict=True)):
        verdict, label = _table(judged, names), labels(trajectory, names)
        for column, name in enumerate(names):
            one = confusion(verdict[:, column], label[:, column])
            counts[episode, columns.index(name)] = (one.tp, one.fp, one.fn, one.tn)
    counts = np.concatenate([counts, counts.sum(axis=1, keepdims=True)], axis=1)
    values, bounds = ratios(counts.sum(axis=0)), intervals(counts, seed)
    return {
        name: Score(
            Confusion(*(int(number) for number in counts[:, k].sum(axis=0))),
            *(Ratio(_known(values[k, r]), *map(_known, bounds[k, r])) for r in range(len(RATIOS))),
        )
        for k, name in enumerate([*columns, ALL])
    }


def ratios(counts: Ints | Floats) -> Floats:
    """Precision, recall and F1 [..., 3] of counts tp, fp, fn, tn [..., 4]; nan where a ratio is one of nothing."""
    tp, fp, fn = (np.asarray(counts, np.float64)[..., place] for place in range(3))
    with np.errstate(invalid="ignore"):
        return np.stack([tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn)], axis=-1)


def intervals(counts: Ints, seed: int) -> Floats:
    """95% percentile intervals [K, 3, 2] of `ratios`, from episodes drawn with replacement. counts [E, K, 4].

    Draws in which a ratio is one of nothing are left out; nan where that is all of them.
    """
    episodes, columns = counts.shape[:2]
    drawn = generator(seed, "bootstrap").multinomial(episodes, np.full(episodes, 1 / max(1, episodes)), size=RESAMPLES)
    found = ratios((drawn @ counts.reshape(episodes, -1)).reshape(RESAMPLES, columns, 4))  # [R, K, 3]
    bounds = np.full((columns, len(RATIOS), 2), np.nan)
    for place in np.argwhere(np.isfinite(found).any(axis=0)):
        bounds[tuple(place)] = np.nanquantile(found[(slice(None), *place)], (0.025, 0.975))
    return bounds


def latency(seconds: Sequence[float]) -> dict[str, float | None]:
    """Median and 95th percentile; None if nothing was asked."""
    if not seconds:
        return {"median": None, "p95": None}
    median, p95 = np.quantile(seconds, (0.5, 0.95))
    return {"median": float(median), "p95": float(p95)}


def total(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sums of what several calls cost."""
    return {name: sum(one[name] for one in metrics) for name in (metrics[0] if metrics else {})}


def _table(steps: Sequence[Sequence[str]], names: Sequence[str]) -> Bools:
    return np.array([[name in said for name in names] for said in steps], dtype=bool).reshape(len(steps), len(names))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
