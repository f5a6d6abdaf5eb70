"""The shop without data: a seeded catalogue of any size, and what customers want from it.

Article number `index` depends on the seed and the index alone, never on how many are asked for. What there is to sell stands in
`wares`, what customers say in `wording`; reading catalogues from files and keeping large ones is left to `store`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain, combinations
from itertools import product as combine
from statistics import fmean
from typing import TypeVar

from envs.common.seeding import derive, generator
from envs.webshop import wares, wording
from envs.webshop.goals import price_bound
from envs.webshop.products import Goal, Product
from envs.webshop.store import ListCatalogue
from envs.webshop.wares import OF_QUERY, WARES

VERSION = 1
"""Raised whenever equal arguments give other articles or goals."""
SIZE = 1000
"""Articles of the default shop."""
GOALS_PER_PRODUCT = 8
"""Most synthetic goals of one article; officially all combinations of its options, up to thousands."""

T = TypeVar("T")

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ASINS = 36**8
_STEP = 1_743_904_651_967
"""Odd and no multiple of 3, so that its multiples visit every number below 36^8 once."""
_BLOCK = 1000
_WIDTH = 64

_TITLES = (
    "{brand} {a} {look} {material} {name} for {use}",
    "{brand} {look} {name} for {use}, {a}, {material}",
    "{brand} {material} {name} for {use}, {a}",
    "{brand} {name}, {a}, {look} {material}",
    "{a} {material} {name} from {brand} for {use}",
    "{brand} {name} for {use}, {a} and {b}",
    "{look} {name} from {brand}, {a}, {b}",
    "{brand} {look} {material} {name}, {a}",
)
_BULLETS = (
    "Made with {material}",
    "Made for {use}",
    "The {look} choice in its class",
    "Tested by {brand} before it leaves the shop",
    "Always a good gift",
    "Send it back within 30 days if you are not happy",
)
_OPENINGS = ("The {look} {name} by {brand}.", "{brand} presents the {look} {name}.", "Meet the new {name} from {brand}.")
_MIDDLES = ("", "Made with {material} for {use}.", "The first choice for {use}.", "Good {material}, good work, good price.")
_CLOSINGS = ("", "Ships in one box.", "Look at the features for more.", "Answers to all questions within a day.")
_CENTS = (0.99, 0.95, 0.98, 0.49, 0.97, 0.79)
_GROUPS = (0, 1, 1, 2, 2, 2, 2, 2, 2, 2, 3)
"""Groups of options, as often as they occur."""


class Draws:
    """Uniform numbers in [0, 1), used up in order."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self._next = iter(numbers).__next__

    def uniform(self) -> float:
        return self._next()

    def pick(self, values: Sequence[T], /) -> T:
        return values[int(self._next() * len(values))]

    def sample(self, values: Sequence[T], count: int) -> list[T]:
        """`count` different ones, in the order drawn."""
        rest = list(values)
        return [rest.pop(int(self._next() * len(rest))) for _ in range(count)]


@lru_cache(maxsize=4)
def _block(seed: int, purpose: str, number: int) -> list[list[float]]:
    """[index in block][draw]: a stream of its own for each index would cost more than the article."""
    return generator(seed, "webshop", purpose, VERSION, number).random((_BLOCK, _WIDTH)).tolist()


def _draws(seed: int, purpose: str, index: int) -> Draws:
    return Draws(_block(seed, purpose, index // _BLOCK)[index % _BLOCK])


# -- products ------------------------------------------------------------------------------------------------------------------


def product(index: int, seed: int = 0) -> Product:
    """The article with this number; a function of (seed, index) alone."""
    draws = _draws(seed, "product", index)
    pick, sample = draws.pick, draws.sample
    ware = pick(WARES)
    attributes = sample(ware.attributes, pick((2, 3, 4, 4, 5, 5)))
    words = {
        "brand": pick(wares.BRANDS if index < SIZE else wares.MORE_BRANDS),
        "look": pick(wares.LOOKS),
        "material": pick(ware.materials),
        "use": pick(ware.uses),
        "name": ware.name,
    }
    titled = {key: word.title() for key, word in words.items()}
    title = pick(_TITLES).format(a=attributes[0].title(), b=attributes[1].title(), **titled)
    bullets = [f"{attribute.capitalize()}: {wording.ATTRIBUTES[attribute][1]}" for attribute in attributes[1:]]
    bullets += [line.format_map(words) for line in sample(_BULLETS, 1 if len(bullets) == 4 else pick((1, 2)))]
    sentences = pick(_OPENINGS), pick(_MIDDLES), pick(_CLOSINGS)
    price, tag = _price(ware.prices, draws)
    return Product(
        asin=asin(index, seed),
        title=title,
        description=" ".join(sentence for sentence in sentences if sentence).format_map(words),
        bullets=tuple(bullets),
        department=ware.department,
        query=ware.query,
        category=ware.category,
        price=price,
        price_tag=tag,
        options=_options(ware.options, draws),
        attributes=tuple(attributes),
        nouns=tuple(word for word in title.replace(",", "").lower().split() if word not in wares.NOT_NOUNS),
    )


def asin(index: int, seed: int = 0) -> str:
    """The article number: different for all of the first 36^8 indices."""
    number = ((index + 1) * _STEP + _offset(seed)) % _ASINS
    letters = []
    for _ in range(8):
        number, digit = divmod(number, 36)
        letters.append(_DIGITS[digit])
    return "B0" + "".join(letters)


@lru_cache(maxsize=16)
def _offset(seed: int) -> int:
    return derive(seed, "webshop", "asin")


def _price(prices: tuple[float, float], draws: Draws) -> tuple[float, str]:
    """(price, tag): a single price, a range in which the price lies, or none, which counts as 100 dollars."""
    kind, cheap, dear = draws.uniform(), *prices
    if kind < 0.02:
        return 100.0, "$100.0"
    low = int(cheap * (dear / cheap) ** draws.uniform()) + draws.pick(_CENTS)
    if kind < 0.66:
        return low, f"${low}"
    high = int(low * draws.pick((1.1, 1.2, 1.3, 1.5)) + 1) + draws.pick(_CENTS)
    return round(low + (high - low) * draws.uniform(), 2), f"${low} to ${high}"


def _options(options: dict[str, tuple[str, ...]], draws: Draws) -> dict[str, tuple[str, ...]]:
    names = draws.sample(list(options), draws.pick(_GROUPS))
    chosen = {}
    for name in names:
        values = options[name]
        count = min(draws.pick((2, 3, 4, 5, 6, 6)), len(values))
        chosen[name] = tuple(values[place] for place in sorted(draws.sample(range(len(values)), count)))
    return chosen


def stream(count: int, seed: int = 0) -> Iterator[Product]:
    """The first `count` articles, one after the other; for catalogues too large to be kept in memory."""
    return (product(index, seed) for index in range(count))


def catalogue(count: int = SIZE, seed: int = 0) -> ListCatalogue:
    """The first `count` articles, in memory."""
    return ListCatalogue(list(stream(count, seed)))


# -- goals ---------------------------------------------------------------------------------------------------------------------


def goals(products: Iterable[Product], seed: int = 0, human: bool = False) -> list[Goal]:
    """What customers want from generated `products`: in the official template, or as people write. Shuffled, as officially."""
    if human:
        return _shuffled(
            [g for place, item in enumerate(products) for g in _human(item, _draws(seed, "human goals", place))], seed
        )
    found = [g for place, item in enumerate(products) for g in _synthetic(item, _draws(seed, "synthetic goals", place))]
    counts = Counter(attribute for goal in found for attribute in goal.attributes)
    return _shuffled([replace(g, weight=fmean(1 / counts[attribute] for attribute in g.attributes)) for g in found], seed)


def _shuffled(found: list[Goal], seed: int) -> list[Goal]:
    """Any part of the list is a fair sample; by uniform numbers, since numpy's own shuffle may change with its version."""
    numbers = generator(seed, "webshop", "order of goals", VERSION).random(len(found))
    return [found[place] for place in numbers.argsort(kind="stable")]


def _synthetic(item: Product, draws: Draws) -> Iterator[Goal]:
    """A goal for each of some combinations of option values; attributes and price limit are the same in all, as officially."""
    attributes = _wanted(item, draws)
    limit = _limit(item.price, draws)
    names = sorted(item.options)
    choices = list(combine(*(item.options[name] for name in names)))
    if len(choices) > GOALS_PER_PRODUCT:
        choices = [choices[place] for place in sorted(draws.sample(range(len(choices)), GOALS_PER_PRODUCT))]
    for values in choices:
        options = dict(zip(names, values))
        yield _goal(item, wording.template(OF_QUERY[item.query], attributes, options, limit), attributes, options, limit)


def _human(item: Product, draws: Draws) -> Iterator[Goal]:
    """One or two goals, which may leave out some options."""
    for _ in range(draws.pick((1, 2))):
        attributes = _wanted(item, draws)
        limit = _limit(item.price, draws)
        left_out = draws.pick((0, 0, 0, 1))
        names = draws.sample(list(item.options), max(len(item.options) - left_out, 0))
        options = {name: draws.pick(item.options[name]) for name in names}
        text = wording.sentence(OF_QUERY[item.query], attributes, options, limit, draws.pick)
        yield _goal(item, text, attributes, tuple(options.values()), limit)


def _wanted(item: Product, draws: Draws) -> tuple[str, ...]:
    return tuple(draws.sample(item.attributes, min(draws.pick((1, 1, 1, 2, 2, 3)), len(item.attributes))))


def _limit(price: float, draws: Draws) -> float:
    return price_bound(price, lambda limits: draws.pick(list(combinations(limits, 2))))


def _goal(
    item: Product, instruction: str, attributes: tuple[str, ...], options: dict[str, str] | tuple[str, ...], limit: float
) -> Goal:
    return Goal(item.asin, item.department, item.query, item.category, item.title, instruction, attributes, options, limit)


def lexicon(products: Iterable[Product]) -> list[str]:
    """Words and phrases that tell `products` apart: queries, attributes, options, words of titles; sorted."""
    phrases: set[str] = set()
    for item in products:
        phrases.update((item.query, *item.attributes, *item.options))
        phrases.update(chain.from_iterable(item.options.values()))
        phrases.update(re.findall(r"[a-z]+", item.title.lower()))
    return sorted(phrases)
