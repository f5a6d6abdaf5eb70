"""How somebody shops who knows what is right: for demonstrations, and as the upper bound of what can be scored.

The oracle searches as an agent would, by what the instruction says, and goes through the results from the top; it only knows at
once whether an article will do. It types a title where no such search finds one, and gives up where even that does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from envs.base import Unsolvable
from envs.webshop.engine import PER_PAGE, Session
from envs.webshop.products import Product
from envs.webshop.queries import suggestions
from envs.webshop.reward import reward

IDLENESS = 0.25
"""Probability that a suboptimal demonstration does something needless before a useful action, and again after that."""
LOOKS = 3
"""Wrong articles that are looked at on a detour, at the most."""


def demonstration(session: Session, rng: np.random.Generator, detours: float, suboptimal: bool) -> list[str]:
    """Actions that score 1.0 in a new visit: they buy the first article found that will do. With probability `detours` another
    search is tried first, and with the same each of the last articles above the right one is looked at and left again; a
    suboptimal demonstration also leafs through results and pages, however long it takes.

    Plays `session`. Raises Unsolvable if no article is found that scores 1.0.
    """
    customer = _Customer(session, rng, suboptimal)
    query, place = best_query(session)
    others = [one for one in suggestions(session.goal.instruction) if one != query]
    if others and rng.random() < detours:
        customer.does(f"search[{others[int(rng.integers(len(others)))]}]")
        customer.does("click[back to search]")
    customer.does(f"search[{query}]")
    for _ in range(place // PER_PAGE):
        customer.does("click[next >]")
    *above, right = session.shown[: place % PER_PAGE + 1]
    for wrong in above[-LOOKS:]:
        if rng.random() < detours:
            customer.does(f"click[{wrong.asin.lower()}]")
            customer.does("click[< prev]")
    customer.does(f"click[{right.asin.lower()}]")
    for value in wanted_options(session, right).values():
        customer.does(f"click[{value}]")
    customer.does("click[buy now]")
    return customer.done


def best_query(session: Session) -> tuple[str, int]:
    """The suggestion that ranks an article first that will do, else the title of the goal's own; and where it stands in the
    results. Raises Unsolvable if none finds one."""
    title = " ".join(session.goal.title.lower().replace("[", " ").replace("]", " ").split())
    for queries in (suggestions(session.goal.instruction), (title,)):
        places = {query: _first_right(session, session.search(query)) for query in queries}
        found = {query: place for query, place in places.items() if place is not None}
        if found:
            return min(found.items(), key=lambda one: one[1])
    raise Unsolvable(
        f"goal {session.name} cannot be met with reward={session.mode}: neither its instruction nor its title finds an article "
        "that scores 1.0"
    )


def _first_right(session: Session, results: Sequence[int]) -> int | None:
    """Place among the results of the first article that scores 1.0 with the options that its page offers."""
    for place, found in enumerate(results):
        product = session.catalogue[found]
        if _score(session, product, wanted_options(session, product)) == 1:
            return place
    return None


def wanted_options(session: Session, product: Product) -> dict[str, str]:
    """Options to choose on an article's page, by name: those that the goal names, as far as they are offered, or of a goal that
    names none the values that raise the score."""
    goal = session.goal
    if isinstance(goal.options, Mapping):
        return {name: value for name, value in goal.options.items() if value in product.options.get(name, ())}
    chosen: dict[str, str] = {}
    for name, values in product.options.items():
        # Of values that are alike enough to score, the one that was asked for.
        best = max(values, key=lambda v: (_score(session, product, {**chosen, name: v}), v in goal.options), default=None)
        if best is not None and _score(session, product, {**chosen, name: best}) > _score(session, product, chosen):
            chosen[name] = best
    return chosen


def _score(session: Session, product: Product, options: dict[str, str]) -> float:
    return reward(product, session.nouns_of_goal, session.goal, options, session.mode).total


class _Customer:
    """Does what it is told to, and keeps a list of it; a suboptimal one does needless things too."""

    def __init__(self, session: Session, rng: np.random.Generator, suboptimal: bool) -> None:
        self._session, self._rng, self._dawdling = session, rng, suboptimal
        self.done: list[str] = []

    def does(self, action: str) -> None:
        """One needful action."""
        while self._dawdling and self._rng.random() < IDLENESS:
            for needless in self._needless():
                self._act(needless)
        self._act(action)

    def _needless(self) -> tuple[str, str]:
        """Two actions that lead back to the page."""
        if self._session.page == "results":
            return "click[next >]", "click[< prev]"
        if self._session.page == "item":
            page = ("description", "features", "reviews")[int(self._rng.integers(3))]
            return f"click[{page}]", "click[< prev]"
        return f"search[{self._session.goal.query}]", "click[back to search]"

    def _act(self, action: str) -> None:
        self._session.act(action)
        self.done.append(action)
