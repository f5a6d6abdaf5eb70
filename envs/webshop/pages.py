"""What a shop's page shows: a list of parts from top to bottom, made of what a visit lets a page see.

The official server renders HTML and parses it again for every look; this gives the same characters without either. How the
parts read is left to `observation.py` and `html.py`, what a click does to `engine.py`.

Kept from the official pages because agents see it: "Next >" is offered beyond the last page; there are never reviews.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from envs.webshop.products import Product

Page = Literal["search", "results", "item", "sub_page", "done"]
Role = Literal[
    "logo", "label", "instruction", "button", "count", "link", "title", "price", "rating", "group", "option", "feature", "note"
]
"""What a part is: "group" names the options that follow it, "link" is the number of an article that opens its page."""

SEARCH, BACK, PREVIOUS, NEXT, BUY = "Search", "Back to Search", "< Prev", "Next >", "Buy Now"
SUB_PAGES = ("Description", "Features", "Reviews", "Attributes")


class Part(NamedTuple):
    """One piece of text on a page."""

    role: Role
    text: str


@dataclass(frozen=True)
class View:
    """What a page shows of a visit, as it was when the page was opened."""

    page: Page
    name: str
    """Of the visit; stands in URLs."""
    instruction: str
    show_attributes: bool
    query: str
    """Of the last search; empty before the first."""
    total: int
    """Results of that search."""
    number: int
    """Of the page of results, from 1."""
    shown: Sequence[Product]
    """On that page."""
    product: Product | None
    """On an item's page and what follows it."""
    sub_page: str | None
    options: dict[str, str]
    """Value chosen of each option, in the order of first choice."""
    visited: frozenset[str]
    """Articles looked at since the search page; only rich text tells."""
    score: float | None
    """Of the purchase."""

    @cached_property
    def parts(self) -> list[Part]:
        """From top to bottom."""
        return _parts(self)

    @cached_property
    def clickables(self) -> list[str]:
        """What can be clicked, in official order ("search" is listed though clicking it does nothing): buttons, articles,
        options; a text that stands for two things is listed once."""
        buttons = [part.text.lower() for part in self.parts if part.role == "button"]
        links = [part.text.lower() for part in self.parts if part.role == "link"]
        return list(dict.fromkeys(buttons + links + [part.text for part in self.parts if part.role == "option"]))


def _parts(view: View) -> list[Part]:
    """The page from top to bottom."""
    if view.page == "search":
        return [Part("logo", "WebShop"), *_instruction(view, "Instruction: "), Part("button", SEARCH)]
    if view.page == "done":
        return _done(view)
    top = [*_instruction(view, "Instruction:"), Part("button", BACK)]
    if view.page == "results":
        return top + _results(view)
    top.append(Part("button", PREVIOUS))
    return top + (_item(view) if view.page == "item" else _sub_page(view))


def _instruction(view: View, label: str) -> list[Part]:
    return [Part("label", label), Part("instruction", view.instruction)]


def _results(view: View) -> list[Part]:
    found = [Part("count", f"Page {view.number} (Total results: {view.total})")]
    if view.number > 1:
        found.append(Part("button", PREVIOUS))
    found.append(Part("button", NEXT))
    for product in view.shown:
        found += (Part("link", product.asin), Part("title", product.title), Part("price", product.price_tag))
    return found


def _item(view: View) -> list[Part]:
    product = view.product
    assert product is not None
    shown = []
    for name, values in product.options.items():
        shown.append(Part("group", name))
        shown += [Part("option", value) for value in values]
    shown += (Part("title", product.title), Part("price", f"Price: {product.price_tag}"), Part("rating", "Rating: N.A."))
    shown += [Part("button", name) for name in SUB_PAGES if name != "Attributes" or view.show_attributes]
    shown.append(Part("button", BUY))
    return shown


def _sub_page(view: View) -> list[Part]:
    product = view.product
    assert product is not None
    if view.sub_page == "Description":
        return [Part("note", product.description)]
    if view.sub_page == "Features":
        return [Part("feature", f" {bullet}") for bullet in product.bullets]
    if view.sub_page == "Attributes":
        kinds = (product.department, product.query, product.category)
        return [Part("feature", f" {attribute}") for attribute in product.attributes] + [Part("note", kind) for kind in kinds]
    return []  # reviews


def _done(view: View) -> list[Part]:
    assert view.product is not None
    # Word for word as officially, "instuction" and all: the official server leaves most of this page's fields empty.
    options = json.dumps(view.options, sort_keys=True)
    for character in "<>&'":  # as JSON is made safe to stand in HTML
        options = options.replace(character, f"\\u{ord(character):04x}")
    nothing = "None"
    bought = ["asin", view.product.asin, "options", options]
    bought += ["attrs", nothing, "category", nothing, "query", nothing, "product category", nothing]
    goal = ["asin", "options", "attrs", "price upper", "instuction text", "category", "product category", "query"]
    score = ["Your score (min 0.0, max 1.0)", str(view.score), "Reward Details ", nothing]
    code = ["Your code: ", nothing, " (Paste it in your MTurk interface.)"]
    notes = [*code, "Purchased", *bought, "Target", *goal, "Goal ", nothing, "Reward", *score]
    return [Part("title", "Thank you for shopping with us!")] + [Part("note", note) for note in notes]
