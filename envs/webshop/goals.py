"""Official goals: from what customers say of a product to every goal of a catalogue, in official order.

Reading the files is left to `official.py`. Only wishes are held in memory: of a synthetic one each combination of the product's
options is a goal, which makes millions of goals from the full catalogue. They are numbered, and made when their turn comes.
"""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from envs.webshop.products import NO_PRICE_LIMIT, Goal

ORDER_SEED = 233
"""Seed of the order of goals: the official one, whatever prices are drawn with, since splits are ranges of that order."""

_LIMITS = [10.0 * i for i in range(1, 100)]
_NEAREST = 4


@dataclass(frozen=True, slots=True)
class Wish:
    """What one customer says of one product, before price bounds are drawn."""

    goal: Goal
    """The goal without price clause, bound and weight; of a synthetic one also without options."""
    price: float
    """Of the product."""
    options: Mapping[str, Sequence[str]] | None
    """Values of which a synthetic goal takes one each; None for a person's, whose goal has its options."""

    @property
    def count(self) -> int:
        """How many goals this makes; none if an option has no values."""
        return 1 if self.options is None else math.prod(map(len, self.options.values()))


def price_bound(price: float, draw_two: Callable[[list[float]], Iterable[float]]) -> float:
    """The larger of two of the next four multiples of 10 above the price, up to 990; NO_PRICE_LIMIT if there are not two.

    draw_two: which two of those multiples; called only where there are two.
    """
    above = [limit for limit in _LIMITS if limit > price][:_NEAREST]
    return max(draw_two(above)) if len(above) >= 2 else NO_PRICE_LIMIT


def price_clause(bound: float) -> str:
    """The official end of an instruction; nothing where there is no bound."""
    return "" if bound == NO_PRICE_LIMIT else f", and price lower than {bound:.2f} dollars"


def in_official_order(wishes: Sequence[Wish], rng: random.Random) -> Iterator[Goal]:
    """All goals of a catalogue; `rng` is the stream that its prices were drawn from, and goes on with the bounds."""
    bounds = [price_bound(wish.price, lambda limits: rng.sample(limits, 2)) for wish in wishes]
    counts = Counter[str]()
    for wish in wishes:
        for attribute in wish.goal.attributes:
            counts[attribute] += wish.count
    firsts = list(accumulate((wish.count for wish in wishes), initial=0))
    order = array("Q", range(firsts[-1]))
    random.Random(ORDER_SEED).shuffle(order)
    for number in order:
        place = bisect_right(firsts, number) - 1
        wish = wishes[place]
        combination = None if wish.options is None else _combination(wish.options, number - firsts[place])
        yield _goal(wish.goal, combination, bounds[place], counts)


def _combination(options: Mapping[str, Sequence[str]], number: int) -> dict[str, str]:
    """One of the product over sorted names, in which the last name changes fastest."""
    chosen: dict[str, str] = {}
    for name in sorted(options, reverse=True):
        number, place = divmod(number, len(options[name]))
        chosen[name] = options[name][place]
    return dict(reversed(chosen.items()))


def _goal(goal: Goal, combination: dict[str, str] | None, bound: float, counts: Mapping[str, int]) -> Goal:
    clause = price_clause(bound)
    if combination is None:
        return replace(goal, instruction=goal.instruction + clause, price_upper=bound)
    options = ", and ".join(f"{name}: {value}" for name, value in combination.items())
    instruction = f"{goal.instruction}{' with ' if options else ''}{options}{clause}"
    weight = sum(1.0 / counts[attribute] for attribute in goal.attributes) / len(goal.attributes)
    return replace(goal, instruction=instruction, options=combination, price_upper=bound, weight=weight)
