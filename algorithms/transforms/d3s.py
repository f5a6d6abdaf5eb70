"""D3S (arXiv 2509.22115): learning from the episodes whose advantages differ most, and in them from tokens that matter.

First the part of each task's episodes whose advantages have the largest variance, then the same over the batch, then the tokens
of largest |A| times entropy. Advantages are not normalized again. How much is kept moves linearly with the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from algorithms.batch import Batch, Bools, Floats, Ints, Need
from algorithms.transforms import Changed, Left, Transform, column, highest, kept, of_token
from envs.common.structured import Fraction


@dataclass
class D3S(Transform):
    """A subset of episodes by the variance of their advantages, and of tokens by |A| times entropy."""

    task_share: Fraction = 0.5
    """Of each task's episodes that are kept."""
    batch_share: tuple[Fraction, Fraction] = (1.0, 0.5)
    """Of the episodes kept so, in the first iteration and at the end of the run."""
    token_share: tuple[Fraction, Fraction] = (1.0, 0.5)
    """Of the tokens of what is kept, likewise."""
    rest: Left = "masked"
    """What becomes of the others. masked: not trained on; zero: their advantage is 0, and they count in the loss's mean."""

    needs: ClassVar[frozenset[Need]] = frozenset({"entropy"})

    def apply(self, batch: Batch, values: Floats, defined: Bools, done: float) -> Changed:
        """Raises ValueError without batch.entropy."""
        entropy = column(batch, "entropy", self)
        episode = of_token(batch, batch.episode)
        number = np.bincount(episode, defined, len(batch.faulted))
        mean = np.bincount(episode, np.where(defined, values, 0.0), len(number)) / np.maximum(number, 1)  # [N]
        there = np.flatnonzero(number)
        group = batch.group[np.cumsum(batch.length)[there] - 1]
        of_task = widest(mean[there], group, self.task_share)
        there = there[of_task]
        there = there[widest(mean[there], np.zeros(len(there), dtype=np.int64), between(self.batch_share, done))]
        chosen = np.isin(episode, there) & defined
        score = np.abs(values[chosen]) * entropy[chosen]
        chosen[chosen] = highest(score, between(self.token_share, done), np.zeros(len(score), dtype=np.int64))
        return kept(values, defined, chosen, self.rest)


def between(ends: tuple[float, float], done: float) -> float:
    """The setting where the share `done` of the run is done."""
    return ends[0] + (ends[1] - ends[0]) * done


def widest(values: Floats, group: Ints, share: float) -> Bools:
    """[P] for each group [P] the `share` of its values [P] whose variance is largest: always some smallest and some largest.

    The number is rounded, half up, and at least 1.
    """
    found = np.zeros(len(values), dtype=bool)
    for one in np.unique(group):
        members = np.flatnonzero(group == one)
        n = max(1, int(share * len(members) + 0.5))
        ordered = members[np.argsort(values[members], kind="stable")]
        # For each number of smallest ones, the variance of these and of as many largest ones as are left.
        splits = [np.r_[ordered[:low], ordered[len(ordered) - (n - low) :]] for low in range(n + 1)]
        found[max(splits, key=lambda split: float(values[split].var()))] = True
    return found
