"""Losses that fit an implicit reward model to outcomes, as functions of scores: value and exact gradient, no model.

Of what a score is made, and how a gradient of it reaches the model, is left to `implicit_prm.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from algorithms.base import Bools, Floats, Ints

BestOf = Literal["none", "reward", "outcome"]
"""How `detached_dpo` weighs its units: alike, or as the best of n would be drawn by score or by outcome."""


@dataclass(eq=False)
class Fit:
    """A loss at some scores [U]."""

    loss: float
    gradient: Floats
    """[U] derivative of the loss with respect to each score."""
    compared: int
    """Pairs or scores that the loss is made of; 0: there is nothing to learn from."""
    accuracy: float
    """Share of them that are on the right side; a tie is half right."""


def dpo(score: Floats, positive: Bools, group: Ints) -> Fit:
    """Mean of -log sigmoid(score+ - score-) over all pairs of a positive and a negative of one group (arXiv 2509.19199 Eq. 2).

    All [U]: the trajectories' scores, which of them are positive, the task group's number.
    """
    better, worse = np.nonzero(positive[:, None] & ~positive & (group[:, None] == group))  # [P]
    if not len(better):
        return Fit(0.0, np.zeros(len(score)), 0, 0.0)
    margin = score[better] - score[worse]
    slope = -_sigmoid(-margin) / len(margin)
    gradient = np.zeros(len(score))
    np.add.at(gradient, better, slope)
    np.subtract.at(gradient, worse, slope)
    return Fit(float(_softplus(-margin).mean()), gradient, len(margin), _right(margin))


def cross_entropy(score: Floats, positive: Bools) -> Fit:
    """Mean binary cross-entropy of sigmoid(score) and the outcome (PRIME, arXiv 2502.01456). All [U]."""
    sign = np.where(positive, 1.0, -1.0)
    margin = sign * score
    return Fit(float(_softplus(-margin).mean()), -sign * _sigmoid(-margin) / len(margin), len(margin), _right(margin))


def detached_dpo(score: Floats, positive: Bools, group: Ints, best_of: BestOf = "none") -> Fit:
    """-log sigmoid(+-(score - mean score of the group's other outcome)), that mean without gradient (PRIME). All [U].

    It is 0 where a group has one outcome only. The mean over all units, or their sum with weights n F^(n-1): n units in the
    group, F the share of them whose score (or outcome) is not above the unit's.
    """
    sign, side = np.where(positive, 1.0, -1.0), 2 * group + positive
    sides = 2 * (int(group.max(initial=-1)) + 1)
    mean = np.bincount(side, score, sides) / np.maximum(np.bincount(side, minlength=sides), 1)
    margin = sign * (score - mean[2 * group + ~positive])
    weight = np.full(len(score), 1 / len(score))
    if best_of != "none":
        ranked = score if best_of == "reward" else positive.astype(np.float64)
        for number in np.unique(group):
            members = np.flatnonzero(group == number)
            not_above = np.searchsorted(np.sort(ranked[members]), ranked[members], side="right") / len(members)
            weight[members] = len(members) * not_above ** (len(members) - 1)
    gradient = -sign * weight * _sigmoid(-margin)
    return Fit(float((weight * _softplus(-margin)).sum()), gradient, len(margin), _right(margin))


def _softplus(x: Floats) -> Floats:
    found: Floats = np.logaddexp(0.0, x)
    return found


def _sigmoid(x: Floats) -> Floats:
    found: Floats = np.exp(-_softplus(-x))
    return found


def _right(margin: Floats) -> float:
    return float(((margin > 0) + 0.5 * (margin == 0)).mean())
