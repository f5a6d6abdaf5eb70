"""How good credit is, measured against true advantages that are known with errors: pure functions of arrays.

Every number is a function of sums over episodes. A bootstrap draws groups of episodes, and so weighs these sums; what the
errors of the truth add to them is subtracted, exactly in expectation (docs/credit.md has the formulas).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agents.auditing.states import sums
from agents.auditing.truth import Truth
from algorithms.base import Bools, Floats, Ints
from algorithms.stats import deviations
from envs.common.seeding import generator

DECISIVE = 2.0
"""Standard errors by which a true advantage must differ from 0 for its decision to count as decisive."""
BINS = 10
MOST_UNKNOWN = 0.05
"""Share of resamples that may give no number; beyond it there is no interval."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95% bootstrap interval; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Bin:
    """Decisions that were credited alike."""

    count: int
    credited: float
    """Mean credit."""
    true: Estimate
    """Mean true advantage."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Credit against truth."""

    decisions: int
    """That have credit and a known truth."""
    decisive: int
    numbers: dict[str, Estimate]
    """By name, as `NUMBERS` describes them."""
    calibration: list[Bin]


NUMBERS = {
    "correlation": "correlation of credit and true advantage over all decisions",
    "correlation_corrected": "the same, divided by the square root of the truth's reliability",
    "within": "correlation of what remains after each episode's means are taken off both",
    "within_corrected": "the same, corrected likewise",
    "sign": "share of decisive decisions whose credit has the sign of the true advantage; no credit counts one half",
    "sign_corrected": "the same weighted by the true advantage, decisive by the first round, signs by the second",
    "silent": "share of decisive decisions without credit",
    "wasted": "share of absolute credit that falls on decisions that are not decisive",
    "slope": "true advantage per credit: slope of the line of calibration",
    "common": "share of the variance of credit that all decisions of an episode have in common",
}


def measure(truth: Truth, credit: Floats, defined: Bools, groups: Ints, resamples: int, seed: int) -> Measured:
    """credit, defined: [D]; groups [N]: of every episode, those without a decision included."""
    taken = defined & truth.known
    totals = Sums.of(truth, np.where(taken, credit, 0.0), taken, len(groups))
    weights = resampled(groups, totals.count > 0, resamples, seed)
    found = {name: estimate(values) for name, values in numbers(totals, weights).items()}
    return Measured(int(taken.sum()), int(totals.decisive.sum()), found, calibration(truth, credit, taken, weights))


def resampled(groups: Ints, counted: Bools, resamples: int, seed: int) -> Floats:
    """[1 + B, N] how often each episode is drawn: as it was played, and in each resample. groups, counted: [N].

    Groups are drawn, among those with an episode that is `counted`: episodes of a task share states, whose true values err
    alike, and are credited by comparison with each other.
    """
    draw, among = generator(seed, "audit", "bootstrap"), np.unique(groups[counted])
    times = np.zeros((resamples, int(groups.max(initial=-1)) + 1))
    if len(among):
        drawn = among[draw.integers(len(among), size=(resamples, len(among)))]
        np.add.at(times, (np.arange(resamples)[:, None], drawn), 1.0)
    return np.concatenate([np.ones((1, len(groups))), times[:, groups]])


def estimate(values: Floats) -> Estimate:
    """From a number and those of its resamples [1 + B]."""
    value, resampled = float(values[0]), values[1:]
    if not np.isfinite(value):
        return Estimate(None)
    known = resampled[np.isfinite(resampled)]
    if len(known) < (1 - MOST_UNKNOWN) * len(resampled) or not len(known):
        return Estimate(value)
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


@dataclass(eq=False)
class Sums:
    """Sums over the decisions of each episode, all [N]: C is the credit, A the estimated true advantage."""

    count: Floats
    centered: tuple[Floats, Floats, Floats, Floats, Floats]
    """C, A, C^2, C A and A^2 where the mean over all decisions is taken off both; credit that is all the same is exactly 0."""
    within: tuple[Floats, Floats, Floats]
    """C^2, C A and A^2 where each episode's own mean is taken off."""
    noise: Floats
    """Of the variances of A's error."""
    noise_of_mean: Floats
    """Variance of the error of the sum of A, divided by `count`."""
    factors: Floats
    """[N, U] how the sum of A depends on the values of U states, ..."""
    variances: Floats
    """[U] ... and the variances of these."""
    decisive: Floats
    right: Floats
    silent: Floats
    size: Floats
    """Of |C|."""
    wasted: Floats
    """Of |C| where the decision is not decisive."""
    sign: Floats
    """Of sign(C) A_2 where the first round's A_1 is decisive."""
    sign_most: Floats
    """Of sign(A_1) A_2 there."""

    @classmethod
    def of(cls, truth: Truth, credit: Floats, taken: Bools, episodes: int) -> Sums:
        """credit [D], 0 where not `taken` [D]."""
        episode, a = truth.decisions.episode, truth.advantage

        def summed(values: Floats | Bools) -> Floats:
            return sums(episode, np.where(taken, values, 0.0), episodes)

        factors, variances = truth.state_sums(taken, episode, episodes)
        alike = np.zeros(len(episode), dtype=np.int64)
        from_all = [deviations(x, alike, taken) for x in (credit, a)]
        from_own = [deviations(x, episode, taken) for x in (credit, a)]
        count, (first, second) = summed(taken), truth.rounds
        decisive = np.abs(a) > DECISIVE * truth.error
        by_first = np.abs(first) > DECISIVE * truth.round_errors[0]
        agrees = np.where(credit == 0, 0.5, np.sign(credit) == np.sign(a))
        return cls(
            count=count,
            centered=(summed(from_all[0]), summed(from_all[1]), *_products(from_all, summed)),
            within=_products(from_own, summed),
            noise=summed(truth.variance),
            noise_of_mean=(factors**2 @ variances) / np.maximum(count, 1),
            factors=factors,
            variances=variances,
            decisive=summed(decisive),
            right=summed(decisive * agrees),
            silent=summed(decisive & (credit == 0)),
            size=summed(np.abs(credit)),
            wasted=summed(np.abs(credit) * ~decisive),
            sign=summed(by_first * np.sign(credit) * second),
            sign_most=summed(by_first * np.sign(first) * second),
        )


def numbers(of: Sums, weights: Floats) -> dict[str, Floats]:
    """Each of `NUMBERS` [B] for weights [B, N] of the episodes; nan where there is none."""

    def total(values: Floats) -> Floats:
        return weights @ values

    with np.errstate(divide="ignore", invalid="ignore"):
        n = total(of.count)
        dc, da, *squares = map(total, of.centered)
        among = [square - x * y / n for square, x, y in zip(squares, (dc, dc, da), (dc, da, da))]
        within = [total(square) for square in of.within]
        noise, noise_of_means = total(of.noise), total(of.noise_of_mean)
        noise_of_all = ((weights @ of.factors) ** 2 @ of.variances) / n
        return {
            "correlation": _correlation(*among),
            "correlation_corrected": _correlation(among[0], among[1], among[2] - (noise - noise_of_all)),
            "within": _correlation(*within),
            "within_corrected": _correlation(within[0], within[1], within[2] - (noise - noise_of_means)),
            "sign": _ratio(total(of.right), total(of.decisive)),
            "sign_corrected": np.clip((1 + _share(total(of.sign), total(of.sign_most))) / 2, 0, 1),
            "silent": _ratio(total(of.silent), total(of.decisive)),
            "wasted": _ratio(total(of.wasted), total(of.size)),
            "slope": _ratio(among[1], among[0]),
            "common": 1 - _ratio(within[0], among[0]),
        }


def reliability(truth: Truth, episodes: int) -> tuple[float, float]:
    """Share of the variance of estimated advantages that is no error: over all decisions, and within episodes. nan: none."""
    of = Sums.of(truth, np.zeros(len(truth.known)), truth.known, episodes)
    n, noise, of_means = of.count.sum(), of.noise.sum(), of.noise_of_mean.sum()
    of_all = (of.factors.sum(axis=0) ** 2 @ of.variances) / max(n, 1)
    spreads, errors = (of.centered[4].sum(), of.within[2].sum()), (noise - of_all, noise - of_means)
    over_all, within = (float(1 - error / spread) if spread > 0 else np.nan for error, spread in zip(errors, spreads))
    return over_all, within


def calibration(truth: Truth, credit: Floats, taken: Bools, weights: Floats) -> list[Bin]:
    """Decisions in bins of about equal numbers by their credit, equal credit together, with the mean true advantage of each."""
    if not taken.any():
        return []
    edges = np.unique(np.quantile(credit[taken], np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
    number = np.searchsorted(edges, credit, side="left")  # [D] credit up to and with the first edge, and so on
    episodes = weights.shape[1]
    bins = []
    for at in range(len(edges) + 1):
        inside = taken & (number == at)
        if not inside.any():
            continue
        episode = truth.decisions.episode[inside]
        counts, totals = (sums(episode, one[inside], episodes) for one in (taken, truth.advantage))
        with np.errstate(divide="ignore", invalid="ignore"):
            means = _ratio(weights @ totals, weights @ counts)
        bins.append(Bin(int(inside.sum()), float(credit[inside].mean()), estimate(means)))
    return bins


def of_tokens(values: Floats, counted: Bools, spans: Ints) -> tuple[Floats, Bools]:
    """Credit [D] of decisions, and whether they have any, from that of their tokens [T].

    It is the mean over those of a decision's tokens that are `counted` [T]: there was a choice, and the method has an opinion.
    spans: [D, 2] first token of each, and the one behind its last.
    """
    first, end = spans.T
    number = np.repeat(np.arange(len(spans)), end - first)
    begins = np.cumsum(end - first) - (end - first)
    token = np.arange(len(number)) - np.repeat(begins - first, end - first)
    kept = counted[token]
    size = np.bincount(number[kept], minlength=len(spans))
    return sums(number[kept], values[token[kept]], len(spans)) / np.maximum(size, 1), size > 0


def _products(pair: Sequence[Floats], summed: Callable[[Floats], Floats]) -> tuple[Floats, Floats, Floats]:
    c, a = pair
    return summed(c**2), summed(c * a), summed(a**2)


def _correlation(cc: Floats, ca: Floats, aa: Floats) -> Floats:
    """From sums of squares and products around the mean; nan where one of them has no spread."""
    product = np.where((cc > 0) & (aa > 0), cc * aa, np.nan)
    return ca / np.sqrt(product)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.where(below != 0, above / below, np.nan)


def _share(above: Floats, below: Floats) -> Floats:
    """Of something whose estimate may come out below 0, where errors outweigh it: nan then."""
    return np.where(below > 0, above / below, np.nan)
