"""Losses that fit an implicit reward model to outcomes, as functions of scores: value and exact gradient, no model.

Of what a score is made, and how a gradient of it reaches the model, is left to `implicit_prm.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from algorithms.base import Bools, Floats, Ints

BestOf = Literal["none", "reward", "outcome"]
"""How `detached_dpo` weighs its units: alike, or as the best of n would be drawn by score or by label."""


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
    slope = -sigmoid(-margin) / len(margin)
    gradient = np.zeros(len(score))
    np.add.at(gradient, better, slope)
    np.subtract.at(gradient, worse, slope)
    return Fit(float(softplus(-margin).mean()), gradient, len(margin), right_share(margin))


def cross_entropy(score: Floats, label: Floats) -> Fit:
    """Mean binary cross-entropy of sigmoid(score) and a label within 0 and 1 (PRIME, arXiv 2502.01456). All [U]."""
    right, wrong = label * sigmoid(-score), (1 - label) * sigmoid(score)
    loss = label * softplus(-score) + (1 - label) * softplus(score)
    return Fit(float(loss.mean()), (wrong - right) / len(score), len(score), right_share((2 * label - 1) * score))


def detached_dpo(score: Floats, label: Floats, group: Ints, best_of: BestOf = "none") -> Fit:
    """-log sigmoid(+-(score - mean score of the group's others)), that mean without gradient (PRIME). All [U].

    + where the label is above 0, beside all units of a lower label; - elsewhere, beside all of a higher one; where there are
    none that mean is 0. The mean over all units, or their sum with weights n F^(n-1): n units in the group, F the share of
    them whose score (or label) is not above the unit's.
    """
    sign, others, weight = np.where(label > 0, 1.0, -1.0), np.zeros(len(score)), np.full(len(score), 1 / len(score))
    for number in np.unique(group):
        members = np.flatnonzero(group == number)
        n, mine = len(members), label[members]
        order = np.argsort(mine, kind="stable")
        lower, not_higher = (np.searchsorted(mine[order], mine, side) for side in ("left", "right"))
        up_to = np.append(0.0, np.cumsum(score[members][order]))
        below, above = up_to[lower] / np.maximum(lower, 1), (up_to[n] - up_to[not_higher]) / np.maximum(n - not_higher, 1)
        others[members] = np.where(mine > 0, below, above)
        if best_of != "none":
            ranked = (score if best_of == "reward" else label)[members]
            weight[members] = n * (np.searchsorted(np.sort(ranked), ranked, side="right") / n) ** (n - 1)
    margin = sign * (score - others)
    gradient = -sign * weight * sigmoid(-margin)
    return Fit(float((weight * softplus(-margin)).sum()), gradient, len(margin), right_share(margin))


def softplus(x: Floats) -> Floats:
    """log(1 + exp(x)), without overflow."""
    found: Floats = np.logaddexp(0.0, x)
    return found


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    found: Floats = np.exp(-softplus(-x))
    return found


def right_share(margin: Floats) -> float:
    """Share of margins above 0; a tie is half right."""
    return float(((margin > 0) + 0.5 * (margin == 0)).mean())
