"""Plays one customer's visit to a shop: the pages, clicks and quirks of WebShop, without a server.

What pages show is left to `pages.py`, what a purchase is worth to `reward.py`, finding products to the search that is handed
in. Nothing here is random. Equality with the official server is measured by `scripts/check_parity.py`. It differs on purpose in
this: after a purchase the visit is over; "< Prev" goes by the page that is shown, where the official server looks for a page's
name in the URL and is misled by a query such as "item_page"; the queries "<r>", "<a>", "<c>" and "<q>", there for its
programmers, are queries like any other; what would crash it (an article whose number has small letters) works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from envs.base import TaskError
from envs.webshop.pages import SUB_PAGES, Page, View
from envs.webshop.products import Catalogue, Goal, Product
from envs.webshop.reward import Mode, Reward, reward

SHOWN_RESULTS = 50
"""A search finds no more than this."""
PER_PAGE = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action did."""

    valid: bool
    """False if it was not understood or not possible; nothing has changed then."""
    reward: float = 0.0
    done: bool = False


def parse(action: str) -> tuple[str, str | None]:
    """Name and argument of `name[argument]`; (action, None) if it is none.

    Equal to `re.match(r"(.+)\\[(.+)\\]", action)`, but linear in the length: the last bracket that closes, the last that opens
    at least one character before it, all in the first line.
    """
    line = action.partition("\n")[0]
    closing = line.rfind("]")
    opening = line.rfind("[", 1, closing - 1) if closing >= 3 else -1
    return (action, None) if opening < 0 else (line[:opening], line[opening + 1 : closing])


class Session:
    """One visit: where the customer is and what is chosen. State is there to be read; only `start` and `act` write it."""

    __slots__ = (
        "_results_key",
        "_view",
        "bought",
        "catalogue",
        "goal",
        "mode",
        "name",
        "nouns_of_goal",
        "number",
        "options",
        "page",
        "product",
        "query",
        "results",
        "search",
        "show_attributes",
        "shown",
        "sub_page",
        "visited",
    )

    nouns_of_goal: tuple[str, ...]
    """Of the title of the product that the goal is about, as `reward` takes them."""
    page: Page
    query: str
    """Of the last search; empty before the first."""
    results: Sequence[int]
    """Places in the catalogue of what the last search found."""
    number: int
    """Of the page of results, from 1."""
    shown: list[Product]
    """On that page."""
    product: Product | None
    """On an item's page and what follows it."""
    sub_page: str | None
    options: dict[str, str]
    """Value chosen of each option, in the order of first choice."""
    visited: set[str]
    """Articles looked at since the search page; only rich text tells."""
    bought: Reward | None

    def __init__(
        self,
        catalogue: Catalogue,
        search: Callable[[str], Sequence[int]],
        goal: Goal,
        name: str,
        mode: Mode = "official",
        show_attributes: bool = False,
    ) -> None:
        """`search` gives places in the catalogue, best first; `name` stands in URLs. Raises TaskError for a foreign goal."""
        place = catalogue.index(goal.asin)
        if place is None:
            raise TaskError(
                f"goal {name}: the catalogue {catalogue.hash} has no product {goal.asin}; load both from the same files"
            )
        self.catalogue, self.search, self.goal, self.name = catalogue, search, goal, name
        self.mode, self.show_attributes = mode, show_attributes
        self.nouns_of_goal = catalogue[place].nouns
        self.start()

    # -- playing --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Back to the search page, as if nothing had happened."""
        self.query, self.results, self.number, self.shown = "", (), 0, []
        self._results_key = ""
        self.visited, self.bought = set(), None
        self._show("search", None)

    def act(self, action: str) -> Outcome:
        """Execute `search[words]` or `click[text on the page]`; what stands in brackets may be in any case of letters."""
        if self.page == "done":
            return Outcome(valid=False, done=True)
        name, argument = parse(action)
        if argument is None:
            return Outcome(valid=False)
        argument = argument.lower()
        if name == "search":
            self._search(argument)
            return Outcome(valid=True)
        if name != "click" or argument == "search" or argument not in self.clickables:
            return Outcome(valid=False)
        self._click(argument)
        return Outcome(True, self.bought.total, True) if self.bought else Outcome(valid=True)

    def _search(self, query: str) -> None:
        self.query, self.results = query, tuple(self.search(query)[:SHOWN_RESULTS])
        self._results_key = blake2b(repr(self.results).encode(), digest_size=8).hexdigest()
        self._show_results(1)

    def _click(self, text: str) -> None:
        """Buttons come first: an option whose value is a button's text cannot be chosen, officially neither."""
        if text == "back to search":
            self.start()
        elif self.page == "results":
            if text in ("< prev", "next >"):
                self._show_results(self.number + (1 if text == "next >" else -1))
            else:
                self._open(next(product for product in reversed(self.shown) if product.asin.lower() == text))
        elif self.page == "sub_page":
            self._show("item", self.product)
        elif text == "buy now":
            self._buy()
        elif text == "< prev":
            self._show_results(self.number)
        elif text.capitalize() in SUB_PAGES:
            self._show("sub_page", self.product, text.capitalize())
        else:
            self._choose(text)

    def _show_results(self, number: int) -> None:
        self.number = number
        self.shown = [self.catalogue[place] for place in self.results[(number - 1) * PER_PAGE : number * PER_PAGE]]
        self._show("results", None)

    def _open(self, product: Product) -> None:
        self.visited.add(product.asin)
        self._show("item", product)

    def _choose(self, value: str) -> None:
        """Of a value that two options share, the last option gets it."""
        assert self.product is not None
        name = next(name for name, values in reversed(self.product.options.items()) if value in values)
        self.options[name.lower()] = value
        self._show("item", self.product)

    def _buy(self) -> None:
        assert self.product is not None
        self.bought = reward(self.product, self.nouns_of_goal, self.goal, self.options, self.mode)
        self._show("done", self.product)

    def _show(self, page: Page, product: Product | None, sub_page: str | None = None) -> None:
        self.page, self.product, self.sub_page = page, product, sub_page
        if product is None:
            self.options = {}
        self._view: View | None = None

    # -- reading --------------------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """What the page shows; made once a page."""
        if self._view is None:
            self._view = View(
                page=self.page,
                name=self.name,
                instruction=self.goal.instruction,
                show_attributes=self.show_attributes,
                query=self.query,
                total=len(self.results),
                number=self.number,
                shown=self.shown,
                product=self.product,
                sub_page=self.sub_page,
                options=dict(self.options),
                visited=frozenset(self.visited),
                score=self.bought.total if self.bought else None,
            )
        return self._view

    @property
    def clickables(self) -> list[str]:
        """What can be clicked on the page; to be read only."""
        return self.view.clickables

    @property
    def state_key(self) -> str:
        """Equal keys mean equal purchases to come for equal actions; a query's words and the order of choices are not in it.

        Rich text also marks articles that were looked at, and a URL spells the query: there, pages of one key may differ.
        """
        asin = self.product.asin if self.product else None
        return repr((self.page, self._results_key, self.number, asin, self.sub_page, sorted(self.options.items())))
