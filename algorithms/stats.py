"""Returns and group statistics over flat arrays: one scatter per quantity, no loop over steps, float64 throughout."""

from __future__ import annotations

from typing import Literal

import numpy as np

from algorithms.batch import Batch, Bools, Floats, Ints

Normalize = Literal["std", "mean"]
Lone = Literal["zero", "raw"]
Over = Literal["trajectories", "rows"]

ROUNDING = 1e-10
"""Deviations below this share of the mean are rounding: identical returns must give exactly 0, not rounding over rounding."""
NOTHING = 1e-6
"""Weights of at most this on average are rounding: what they weigh is then weighed equally."""


def discounted_returns(batch: Batch, reward: Floats, gamma: float) -> Floats:
    """G_t = sum over k >= t of gamma^(k-t) r_k within each trajectory. reward [S] -> [S]."""
    return discounted_sums(reward, np.full(len(reward), gamma), batch.episode)


def episode_returns(batch: Batch, reward: Floats) -> Floats:
    """R(tau), undiscounted, at every step of the trajectory. reward [S] -> [S]."""
    total = np.bincount(batch.episode, reward, len(batch.faulted)).astype(np.float64)  # [N]
    return total[batch.episode]


def step_sums(batch: Batch, values: Floats) -> Floats:
    """[S] sum over the tokens of each step. values [T]."""
    steps = len(batch.tokens)
    return np.bincount(np.repeat(np.arange(steps), batch.tokens), values, steps).astype(np.float64)


def discounted_sums(values: Floats, discount: Floats, episode: Ints) -> Floats:
    """G = value + discount * G of the next place, over places [P] (tokens or steps), trajectory by trajectory; all [P].

    `discount` is that between a place and the next; after a trajectory's last place comes 0.
    """
    sums = values.copy()
    length = np.bincount(episode)  # [N]
    end = np.cumsum(length) - 1
    for back in range(1, int(length.max(initial=0))):  # a round for each place from the end, for all trajectories at once
        here = end[length > back] - back
        sums[here] += discount[here] * sums[here + 1]
    return sums


def gae(
    reward: Floats,
    values: Floats,
    discount: Floats,
    episode: Ints,
    lam: float,
    next_values: Floats | None = None,
) -> Floats:
    """Generalized advantage estimation (arXiv 1506.02438 Eq. 16) over places [P] (tokens or steps), trajectory by trajectory.

    delta = r + discount * next_values - V;  A = delta + discount * lam * A of the next place. All [P]; `discount` is that
    between a place and the next. next_values: value of what comes after each place, by default V of the next place; after a
    trajectory's last place it is 0.
    """
    goes_on = np.append(episode[1:] == episode[:-1], False)[: len(episode)]
    after = np.where(goes_on, following(values) if next_values is None else next_values, 0.0)
    return discounted_sums(reward + discount * after - values, discount * lam, episode)


def normalize(
    values: Floats,
    group: Ints,
    counted: Bools,
    norm: Normalize,
    epsilon: float,
    lone: Lone = "zero",
    ddof: int = 1,
    variance_epsilon: float = 0.0,
) -> Floats:
    """(value - mean of its group) / F, with F = std + epsilon (by default unbiased) or 1. values [S], group [S] -> [S].

    std = sqrt(variance + variance_epsilon).

    Mean and std are those of the `counted` [S] values of the group. A group whose values are equal gives exactly 0. A group of
    one counted value gives 0, or with lone="raw" keeps its value (mean 0, std 1).
    """
    deviation = deviations(values, group, counted, lone)
    if norm == "mean":
        return deviation
    groups = int(group.max(initial=-1)) + 1
    kept = slice(None) if counted.all() else counted
    of, n = group[kept], np.bincount(group[kept], minlength=groups)  # [G]
    std = np.sqrt(np.bincount(of, deviation[kept] ** 2, groups) / np.maximum(n - ddof, 1) + variance_epsilon)
    if lone == "raw":
        std[n == 1] = 1.0
    scale = np.divide(1.0, std + epsilon, out=np.zeros(groups), where=std > 0)
    return deviation * scale[group]


def deviations(values: Floats, group: Ints, counted: Bools, lone: Lone = "zero", weight: Floats | None = None) -> Floats:
    """value - mean of its group's `counted` values, each with its `weight` (default: equal ones); all [S].

    Equal values give exactly 0. A group whose weights come to nothing takes equal ones. A group of one is as in `normalize`.
    """
    groups = int(group.max(initial=-1)) + 1
    kept = slice(None) if counted.all() else counted
    of, n = group[kept], np.bincount(group[kept], minlength=groups)  # [G]
    mean = np.bincount(of, values[kept], groups) / np.maximum(n, 1)
    if weight is not None:
        total = np.bincount(of, weight[kept], groups)
        weighted = np.bincount(of, (weight * values)[kept], groups)
        np.divide(weighted, total, out=mean, where=np.abs(total) > NOTHING * n)
    if lone == "raw":
        mean[n == 1] = 0.0
    deviation = values - mean[group]
    deviation[np.abs(deviation) <= ROUNDING * np.abs(mean)[group]] = 0.0
    return deviation


def means(values: Floats, group: Ints) -> Floats:
    """Mean of each value's group, the same number for all of it, and of equal values exactly these; all [S]."""
    of_group = np.zeros(int(group.max(initial=-1)) + 1)
    of_group[group] = values - deviations(values, group, np.ones(len(values), dtype=bool))
    return of_group[group]


def normalize_tokens(values: Floats, times: Ints, epsilon: float) -> Floats:
    """(value - mean) / sqrt(variance + epsilon), unbiased, where each value stands `times` times: [S], [S] -> [S].

    Equal values give exactly 0, and so does everything where fewer than two values stand.
    """
    n = times.sum()
    if n < 2:
        return np.zeros_like(values)
    mean = times @ values / n
    deviation = values - mean
    deviation[np.abs(deviation) <= ROUNDING * np.abs(mean)] = 0.0
    variance = times @ deviation**2 / (n - 1)
    return deviation / np.sqrt(variance + epsilon) if variance > 0 else np.zeros_like(values)


def following(values: Floats) -> Floats:
    """[P] the value of the next place; 0 after the last of all."""
    return np.append(values[1:], 0.0)[: len(values)]


def around(values: Floats, quantile: float) -> tuple[float, float, float]:
    """The value [P] nearest to a quantile of at least one, and the largest distances from it, above and below."""
    centre = float(np.quantile(values, quantile, method="nearest"))
    return centre, float(values.max()) - centre, centre - float(values.min())


def compared_steps(batch: Batch, over: Over) -> Bools:
    """[S] the steps whose scores enter an episode statistic: one of each trajectory, or all; never those of failed ones."""
    return batch.included & (batch.position == 0) if over == "trajectories" else batch.included


def share(part: Bools, whole: Bools) -> float:
    """Share of `whole` that is also `part`; 0 of nothing."""
    return float((part & whole).sum() / max(1, whole.sum()))


def episodes_without_signal(batch: Batch, values: Floats) -> float:
    """Share of the counted trajectories whose every step has advantage 0: no gradient comes from them."""
    signal = np.bincount(batch.episode, values != 0, len(batch.faulted)) > 0  # [N]
    return share(~signal, ~batch.faulted & (batch.length > 0))
