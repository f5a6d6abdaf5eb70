"""How somebody shops who knows the goal: for demonstrations, and as the upper bound of what can be scored.

The oracle searches as an agent would, by what the instruction says; it only knows which of the articles found is the one. It
types the article's title where no such search finds it, and gives up where even that does not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.base import Unsolvable
from envs.webshop.engine import PER_PAGE, Session
from envs.webshop.products import Product
from envs.webshop.queries import suggestions
from envs.webshop.reward import reward

IDLENESS = 0.25
"""Chance that one who dawdles does something needless before something needful, and after it once more."""


def demonstration(session: Session, rng: np.random.Generator, detours: float, dawdling: bool) -> list[str]:
    """Actions that score 1.0 in a new visit. With probability `detours` another search is tried first, and with the same a
    wrong article is looked at; one who dawdles leafs through results and pages besides, however long it takes.

    Plays `session`. Raises Unsolvable if the goal's own article cannot be found, or does not score 1.0.
    """
    customer = _Customer(session, rng, dawdling)
    query = best_query(session)
    others = [one for one in suggestions(session.goal.instruction) if one != query]
    if others and rng.random() < detours:
        customer.does(f"search[{others[int(rng.integers(len(others)))]}]")
        customer.does("click[back to search]")
    customer.does(f"search[{query}]")
    place = session.results.index(_target(session))
    for _ in range(place // PER_PAGE):
        customer.does("click[next >]")
    wrong = [product.asin for product in session.shown if product.asin != session.goal.asin]
    if wrong and rng.random() < detours:
        customer.does(f"click[{wrong[int(rng.integers(len(wrong)))].lower()}]")
        customer.does("click[< prev]")
    customer.does(f"click[{session.goal.asin.lower()}]")
    for value in wanted_options(session).values():
        customer.does(f"click[{value}]")
    customer.does("click[buy now]")
    if session.bought is None or session.bought.total < 1:
        raise Unsolvable(
            f"goal {session.name} cannot be met with reward={session.mode}: its own article {session.goal.asin} scores "
            f"{session.bought.total if session.bought else 0:.3f}"
        )
    return customer.done


def best_query(session: Session) -> str:
    """The suggestion that ranks the goal's article first, else its title. Raises Unsolvable if none finds it."""
    target = _target(session)
    ranks = {
        query: found.index(target)
        for query in suggestions(session.goal.instruction)
        if target in (found := session.search(query))
    }
    if ranks:
        return min(ranks, key=lambda query: ranks[query])
    title = " ".join(session.goal.title.lower().replace("[", " ").replace("]", " ").split())
    if target in session.search(title):
        return title
    raise Unsolvable(f"goal {session.name}: neither its instruction nor its title finds article {session.goal.asin}")


def wanted_options(session: Session) -> dict[str, str]:
    """Options to choose on the page of the goal's article, by name: the goal's own, or of a goal that names none those values
    that raise the score."""
    goal, product = session.goal, session.catalogue[_target(session)]
    if isinstance(goal.options, Mapping):
        return dict(goal.options)
    chosen: dict[str, str] = {}
    for name, values in product.options.items():
        # Of values that are alike enough to score, the one that was asked for.
        best = max(values, key=lambda v: (_score(session, product, {**chosen, name: v}), v in goal.options), default=None)
        if best is not None and _score(session, product, {**chosen, name: best}) > _score(session, product, chosen):
            chosen[name] = best
    return chosen


def _score(session: Session, product: Product, options: dict[str, str]) -> float:
    return reward(product, session.nouns_of_goal, session.goal, options, session.mode).total


def _target(session: Session) -> int:
    place = session.catalogue.index(session.goal.asin)
    assert place is not None  # a session refuses a goal without its article
    return place


class _Customer:
    """Does what it is told to, and keeps a list of it; one who dawdles does more than that."""

    def __init__(self, session: Session, rng: np.random.Generator, dawdling: bool) -> None:
        self._session, self._rng, self._dawdling = session, rng, dawdling
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
        query = suggestions(self._session.goal.instruction)[0]
        return f"search[{query}]", "click[back to search]"

    def _act(self, action: str) -> None:
        self._session.act(action)
        self.done.append(action)
