"""Scores a purchase as WebShop does: is it the kind of thing asked for, with its attributes, its options, within the price?

total = r_type * (attributes met + options met + [price met]) / (attributes + options + 1), counted over what the goal asks for.
What an episode's reward is made of it is left to the environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from rapidfuzz.fuzz import token_set_ratio
from rapidfuzz.utils import default_process

from envs.base import TaskError
from envs.webshop.products import Goal, Product

Mode = Literal["official", "fixed"]
"""How a goal's named options are compared: `official` compares the pair (name, value) as Python spells it, so that some goals
cannot reach 1.0; `fixed` compares the value. Goals that give only values are scored alike."""

_CLOSE_ENOUGH = 85
_CATEGORY_ARROW = "›"  # noqa: RUF001 - the sign that stands in the data
_COLOR_WORDS = """
alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo caramel
champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream crystal dark denim
eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather indigo ivory ivy khaki
lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha multicolor mushroom mustard
natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal rust sand sapphire seashell silver
skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise violet walnut wheat white wine yellow
"""
_COLORS = tuple(_COLOR_WORDS.split())
_UPPER_LATIN_1 = dict.fromkeys(range(128, 256))


class Reward(NamedTuple):
    """What a purchase is worth."""

    total: float
    """0..1"""
    parts: dict[str, Any]
    """The official parts by their official names: r_* is how well something is met, w_* its share of the total."""


def reward(
    product: Product, nouns_of_goal: Sequence[str], goal: Goal, options: Mapping[str, str], mode: Mode = "official"
) -> Reward:
    """Score buying `product` with `options` (value by name); `nouns_of_goal` are those of the title of the goal's own product.

    Raises TaskError for a goal without attributes, of which no share can be met.
    """
    if not goal.attributes:
        raise TaskError(f"the goal for {goal.asin} has no attributes: it cannot be scored, leave it out")
    wanted = _wanted(goal, mode)
    chosen = [_color(value) for value in options.values()]
    attributes_met = sum(_has(product, attribute) for attribute in goal.attributes)
    options_met = sum(any(_alike(value, option) for value in chosen) for option in wanted)
    price_met = product.price <= goal.price_upper
    count = len(goal.attributes) + len(wanted) + 1
    parts = kind(product, nouns_of_goal, goal)
    parts |= {"r_att": attributes_met / len(goal.attributes), "w_att": len(goal.attributes) / count}
    if wanted:
        parts |= {"r_option": options_met / len(wanted), "w_option": len(wanted) / count}
    parts |= {"r_price": price_met, "w_price": 1 / count}
    return Reward((attributes_met + options_met + price_met) / count * parts["r_type"], parts)


def kind(product: Product, nouns_of_goal: Sequence[str], goal: Goal) -> dict[str, Any]:
    """r_type and what it is judged by. A title that shares no noun makes the purchase worthless, whatever else matches."""
    query_match = product.query == goal.query
    category_match = len(_categories(product.category) & _categories(goal.category)) >= 2
    shared = len(set(product.nouns) & set(nouns_of_goal))
    title_score = shared / len(nouns_of_goal) if nouns_of_goal else 0.2  # the divisor counts repeated nouns, officially too
    r_type = 1.0 if query_match or category_match or title_score > 0.2 else 0.5
    if title_score < 0.1:
        r_type = 0.1 if title_score else 0.0
    return {"r_type": r_type, "query_match": query_match, "category_match": category_match, "title_score": title_score}


def _categories(path: str) -> set[str]:
    return {part.strip() for part in path.split(_CATEGORY_ARROW)}


def _has(product: Product, attribute: str) -> bool:
    return (
        any(_alike(known, attribute) for known in product.attributes)
        or attribute in product.title.lower()
        or attribute in " ".join(product.bullets).lower()
        or attribute in product.description.lower()
    )


def _wanted(goal: Goal, mode: Mode) -> list[str]:
    """The goal's options as texts to compare with."""
    if not isinstance(goal.options, Mapping):
        return [_color(value) for value in goal.options]
    if mode == "fixed":
        return [_color(value) for value in goal.options.values()]
    # Of a pair, the color is found only where name or value is nothing but a color.
    return [next((color for color in _COLORS if color in pair), str(pair)) for pair in goal.options.items()]


def _color(value: str) -> str:
    """The first color of the list that stands in an option's value, else the value: "dark navy" is dark."""
    return next((color for color in _COLORS if color in value), value)


def _alike(a: str, b: str) -> bool:
    return round(token_set_ratio(_plain(a), _plain(b))) > _CLOSE_ENOUGH


@lru_cache(maxsize=16384)
def _plain(text: str) -> str:
    return default_process(text.translate(_UPPER_LATIN_1))
