"""Interquartile means and bootstrap intervals of few runs (Agarwal et al. 2021, arXiv 2108.13264), in numpy.

The authors' library rliable 1.2.0 is not used: with the pandas 3 that its dependency arch accepts, importing it fails, and it
brings 300 MB for what is a page of code here. Scores are [N, K]: N seeds, K task types.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
REPEATS = 5000
LEVEL = 0.95


def iqm(scores: Floats) -> Floats:
    """[...] mean of the middle half of `scores` [..., N, K]: a quarter of the values, rounded down, is cut off at each end."""
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return flat[..., cut : flat.shape[-1] - cut].mean(axis=-1)


def stratified(scores: Floats, repeats: int = REPEATS, seed: int = 0) -> Floats:
    """[R, N, K] resamples of `scores` [N, K, ...]: task types are the strata, in each one seeds are drawn with replacement."""
    chosen = np.random.default_rng(seed).integers(len(scores), size=(repeats, *scores.shape[:2]))
    return scores[chosen, np.arange(scores.shape[1])]


def whole_seeds(scores: Floats, repeats: int = REPEATS, seed: int = 0) -> Floats:
    """[R, N, ...] resamples of `scores` [N, ...]: a seed that is drawn brings all its task types."""
    return scores[np.random.default_rng(seed).integers(len(scores), size=(repeats, len(scores)))]


def interval(resampled: Floats) -> tuple[float, float]:
    """95% percentile interval of a statistic's values over resamples [R]."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def improvement(first: Floats, second: Floats) -> Floats:
    """[...] probability that a run of `first` [..., N, K] beats one of `second` [..., M, K]: a tie is half, mean over types."""
    larger = first[..., :, None, :] - second[..., None, :, :]
    return (0.5 * (np.sign(larger) + 1)).mean(axis=(-3, -2, -1))
