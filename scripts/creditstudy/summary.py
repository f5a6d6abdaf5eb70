"""From the study's results to its numbers: how true each method's credit is, and how fast it learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .plan import REFERENCE, Study
from .results import Results

Floats = NDArray[np.float64]
MEASURES = {"correlation": "all steps", "within": "within episodes", "cosine": "gradient"}
"""Measures of how true credit is that the truth's own error distorts, and what they are called."""
WIDTH = 3.92
"""Standard errors between the ends of a 95% interval."""
RESAMPLES = 5000


@dataclass(frozen=True)
class Pooled:
    """A measure over several audits, freed of the truth's error; low, high: its 95% interval."""

    value: float
    low: float
    high: float
    audits: int


@dataclass(frozen=True)
class Learned:
    """How an arm learned, by seed. steps, success [S][N] by iteration; area, final [S]: mean success over the steps of the run,
    and over their last tenth."""

    seeds: tuple[int, ...]
    steps: list[Floats]
    success: list[Floats]
    area: Floats
    final: Floats
    cpu: Floats
    tokens: Floats
    start: Floats


def audits_of(study: Study, results: Results, setting: str, stage: str | None = None) -> list[dict[str, Any]]:
    """What the audits of a setting, or of one stage of it, found, as far as they have been done."""
    wanted = [one for one in study.audits if one.run.setting.name == setting and stage in (None, one.stage)]
    return [found for one in wanted if (found := results.of_audit(one)) is not None]


def methods_of(study: Study, results: Results) -> list[str]:
    """All methods that some audit measured."""
    found = [results.of_audit(one) for one in study.audits]
    return list(dict.fromkeys(method for audit in found if audit for method in audit["methods"]))


def pooled(audits: Sequence[Mapping[str, Any]], method: str, measure: str) -> Pooled | None:
    """The measure of a method over audits; None where no audit has it.

    The truth's error shortens a correlation by a factor that all methods of an audit share. The mean of the measured values is
    divided by the mean of these factors, which is steadier than the mean of the quotients where the truth is known badly.
    """
    values, factors, errors = [], [], []
    for audit in audits:
        factor = _factor(audit, measure)
        found = _of(audit, method, measure)
        if factor is None or found is None or found["value"] is None:
            continue
        values.append(found["value"])
        factors.append(factor)
        errors.append((found["high"] - found["low"]) / WIDTH if found["low"] is not None else 0.0)
    if not values:
        return None
    whole, error = float(np.mean(factors)), float(np.sqrt(np.sum(np.square(errors)))) / len(values)
    value = float(np.mean(values))
    half = WIDTH / 2 * error
    return Pooled(value / whole, (value - half) / whole, (value + half) / whole, len(values))


def mean_of(audits: Sequence[Mapping[str, Any]], method: str, name: str) -> float | None:
    """A number of steps, averaged over the audits that have it."""
    return mean([audit["methods"][method]["steps"][name]["value"] for audit in audits if method in audit["methods"]])


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that there are; None if there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _of(audit: Mapping[str, Any], method: str, measure: str, corrected: str = "") -> Mapping[str, Any] | None:
    of_method = audit["methods"].get(method)
    if of_method is None:
        return None
    place = (of_method["cosine"] or {}) if measure == "cosine" else of_method["steps"]
    found: Mapping[str, Any] | None = place.get(measure + corrected)
    return found


def _factor(audit: Mapping[str, Any], measure: str) -> float | None:
    """By how much the truth's error shortens the measure in an audit: what was measured, of what it would be without."""
    found = []
    for method in audit["methods"]:
        plain, freed = _of(audit, method, measure), _of(audit, method, measure, "_corrected")
        if plain and freed and plain["value"] and freed["value"]:
            found.append(plain["value"] / freed["value"])
    return float(np.median(found)) if found else None


def learned(study: Study, results: Results) -> dict[str, Learned]:
    """How the arms learned, of the runs that have finished; area and success count the episodes of training."""
    found: dict[str, Learned] = {}
    for arm in study.arms:
        runs = [(run.seed, results.of_run(run)) for run in study.runs if run.arm == arm]
        known = [(seed, one) for seed, one in runs if one is not None]
        if not known:
            continue
        steps = [np.array(one["steps"], dtype=np.float64) for _, one in known]
        success = [np.array(one["success"], dtype=np.float64) for _, one in known]
        found[arm] = Learned(
            tuple(seed for seed, _ in known),
            steps,
            success,
            np.array([_area(x, y) for x, y in zip(steps, success)]),
            np.array([y[x >= 0.9 * x[-1]].mean() for x, y in zip(steps, success)]),
            np.array([one["cpu"] for _, one in known]),
            np.array([one["tokens"] for _, one in known], dtype=np.float64),
            np.array([one["evaluated"][0][1] for _, one in known]),
        )
    return found


def _area(steps: Floats, success: Floats) -> float:
    """Mean of the success over environment steps. An iteration's episodes had the policy from before its steps."""
    taken = np.diff(steps, prepend=0.0)
    return float(np.average(success, weights=taken))


def ahead(arms: Mapping[str, Learned], arm: str) -> Floats:
    """[S] by how much an arm's mean success is above that of the reference with the same seed."""
    base, one = arms[REFERENCE], arms[arm]
    common = [seed for seed in one.seeds if seed in base.seeds]
    return np.array([one.area[one.seeds.index(seed)] - base.area[base.seeds.index(seed)] for seed in common])


def interval(values: Floats) -> tuple[float, float]:
    """95% interval of a mean by resampling [S] values; with one value there is none, and both ends are the value."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's; None with fewer than three pairs."""
    if len(x) < 3:
        return None
    first, second = (ranks - ranks.mean() for ranks in map(_ranks, (np.array(x), np.array(y))))
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def _ranks(values: Floats) -> Floats:
    """Ranks, equal values with their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = ends - (counts - 1) / 2
    return ranks[inverse]
