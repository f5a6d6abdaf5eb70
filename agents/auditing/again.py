"""Bias and variance of credit: decisions credited again, as if the rest of their episodes had gone otherwise.

The other futures are continuations from the state that a decision led to. Each takes the episode's place in its group, whose
others stay as they are, and the method credits that group. What differs between futures is chance that the credit lets in. What
all have in common is the expected credit; how far it is from the true advantage is its bias, given the group's others.

Credit has no unit of its own. Both are told in the one in which a unit of true advantage is credited by one, on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from agents.auditing.measures import Estimate, estimate, of_tokens
from agents.auditing.states import END, sums
from agents.auditing.truth import Truth
from algorithms.base import Algorithm, Batch, Bools, Floats, Ints
from algorithms.batch import SIZES
from algorithms.stats import discounted_returns

NUMBERS = {
    "bias": "expected credit less true advantage, root mean square, relative to that of the true advantage",
    "deviation": "standard deviation of credit over other futures, root mean square, relative to that of the true advantage",
}


@dataclass(eq=False)
class Again:
    """Credit under other futures [F] of some decisions."""

    place: Ints
    """[F] number of the decision among all of the truth."""
    credit: Floats
    """[F]"""
    outcome: Floats
    """[F] the decision's reward and the discounted return behind it, in that future."""


def credited_again(
    method: Algorithm,
    batch: Batch,
    audited: int,
    chosen: Bools,
    places: Ints,
    futures: Sequence[Sequence[int]],
    gamma: float,
) -> Again:
    """The credit of some steps under other futures.

    batch: so many audited episodes, and behind them those of the futures, with all columns that the method needs. places: steps
    of it; futures: for each of them the numbers of the episodes that hold one. chosen: [T] tokens at which there was a choice.
    """
    group = batch.group[np.cumsum(batch.length) - 1]  # [N]
    members = {number: np.flatnonzero(group[:audited] == number) for number in np.unique(group[batch.episode[places]]).tolist()}
    groups, steps, of = [], [], []
    for place, those in zip(places.tolist(), futures, strict=True):
        episode = batch.episode[place]
        others = members[int(group[episode])]
        for future in those:
            groups.append(np.where(others == episode, future, others))
            before = int(batch.length[groups[-1][: int(np.flatnonzero(others == episode)[0])]].sum())
            steps.append(before + int(batch.position[place]))
            of.append(place)
    sizes = np.array([int(batch.length[one].sum()) for one in groups], dtype=np.int64)
    step = np.cumsum(sizes) - sizes + np.array(steps, dtype=np.int64)  # [F]
    again, choices = regrouped(batch, groups, chosen)
    found = method.advantages(again)
    if found.level == "step":
        credit, has = found.values[step], found.defined[step]
    else:
        ends = np.cumsum(again.tokens)
        spans = np.stack([ends - again.tokens, ends], axis=1)[step]
        credit, has = of_tokens(found.values, found.defined & choices, spans)
    outcome = discounted_returns(again, again.reward, gamma)[step]
    return Again(np.array(of, dtype=np.int64)[has], credit[has], outcome[has])


def regrouped(batch: Batch, groups: Sequence[Ints], chosen: Bools) -> tuple[Batch, Bools]:
    """The episodes of a batch, some of them several times, as other groups: each array of numbers is one. With `chosen` [T]."""
    episode = np.concatenate(groups)
    length, tokens = batch.length, np.bincount(batch.episode, batch.tokens, len(batch.length)).astype(np.int64)
    taken = {"N": episode, "S": _ranges(length, episode), "T": _ranges(tokens, episode)}
    columns: dict[str, Any] = {}
    for field in fields(Batch):
        value, of = getattr(batch, field.name), taken[SIZES.get(field.name, "S")]
        if isinstance(value, dict):
            columns[field.name] = {name: one[of] for name, one in value.items()}
        elif value is None or not len(value):
            columns[field.name] = value
        else:
            columns[field.name] = value[of] if isinstance(value, np.ndarray) else [value[i] for i in of.tolist()]
    of_member = np.repeat(np.arange(len(groups)), [len(one) for one in groups])  # [N]
    columns["episode"] = np.repeat(np.arange(len(episode)), length[episode])
    columns["group"] = of_member[columns["episode"]]
    for name, group in (("state", columns["group"]), ("next_state", columns["group"]), ("tree", of_member)):
        if (number := columns[name]) is not None:  # what is equal in two groups is another thing in each
            columns[name] = np.where(number < 0, -1, number + group * _count(batch))
    return Batch(**columns), chosen[taken["T"]]


def _count(batch: Batch) -> int:
    """More than any number of a state or tree."""
    columns = (batch.state, batch.next_state, batch.tree)
    return 1 + max(int(column.max(initial=0)) for column in columns if column is not None)


def _ranges(length: Ints, chosen: Ints) -> Ints:
    """Places of the chosen ones among things that follow each other, `length` of each."""
    first, size = (np.cumsum(length) - length)[chosen], length[chosen]
    return np.arange(int(size.sum())) + np.repeat(first - (np.cumsum(size) - size), size)


def measure(again: Again, truth: Truth, weights: Floats) -> dict[str, Estimate]:
    """`NUMBERS` from the credit of decisions under several futures; weights: [1 + B, N] of the episodes, those as played first.

    The expected credit m is known with errors that are also in the outcomes of the same futures, so that products are taken
    between different futures only; the value before the decision is known from other continuations.
    """
    places, number, n = np.unique(again.place, return_inverse=True, return_counts=True)

    def summed(values: Floats) -> Floats:
        return sums(number, values, len(places))

    last = truth.decisions.after[places] == END
    usable = truth.known[places] & ((n > 1) | last)
    x, g = again.credit, again.outcome
    sx, sg = summed(x), summed(g)
    pairs = np.maximum(n * (n - 1), 1)

    def between(products: Floats, of_sums: Floats) -> Floats:
        """Mean product of two different futures; behind a last step there is nothing, and its one future is certain."""
        return np.where(last, products / n, (of_sums - products) / pairs)

    mm, mg, gg = between(summed(x * x), sx**2), between(summed(x * g), sx * sg), between(summed(g * g), sg**2)
    value, error = truth.value[places], truth.values.variance[truth.decisions.before[places]]
    columns = {
        "mm": mm,
        "ma": mg - sx / n * value,
        "aa": gg - 2 * sg / n * value + value**2 - error,
        "spread": np.where(last, 0.0, summed((x - (sx / n)[number]) ** 2) / np.maximum(n - 1, 1)),
    }
    episode, episodes = truth.decisions.episode[places], weights.shape[1]
    totals = {name: weights @ sums(episode, np.where(usable, one, 0.0), episodes) for name, one in columns.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        ma, aa = (np.where(totals[name] > 0, totals[name], np.nan) for name in ("ma", "aa"))
        bias, deviation = (totals[name] * aa / ma**2 for name in ("mm", "spread"))  # squares: unit ma / aa, by aa
        return {
            "bias": estimate(np.sqrt(np.maximum(bias - 1, 0))),
            "deviation": estimate(np.sqrt(deviation)),
        }
