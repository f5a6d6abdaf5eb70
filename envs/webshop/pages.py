"""What a shop's page shows, straight from a session's state, and how that reads as text, rich text or URL.

A page is a list of parts from top to bottom. The official server renders HTML and parses it again for every look; this gives
the same characters without either. `html.py` renders the same parts for browsers; what a click does is left to `engine.py`.

Kept from the official pages because agents see it: "Next >" is offered beyond the last page; there are never reviews; an option
reads as clicked if its value stands in double quotes anywhere in the URL, its query too, and does not if JSON must escape it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from envs.webshop.engine import Session

Mode = Literal["text", "text_rich", "html", "url"]
Role = Literal[
    "logo", "label", "instruction", "button", "count", "link", "title", "price", "rating", "group", "option", "feature", "note"
]
"""What a part is: "group" names the options that follow it, "link" is the number of an article that opens its page."""

SEARCH, BACK, PREVIOUS, NEXT, BUY = "Search", "Back to Search", "< Prev", "Next >", "Buy Now"
SUB_PAGES = ("Description", "Features", "Reviews", "Attributes")
BASE_URL = "http://127.0.0.1:3000"

_ASCII_SPACES = " \n\t\f\r"


class Part(NamedTuple):
    """One piece of text on a page."""

    role: Role
    text: str


# -- what a page shows ---------------------------------------------------------------------------------------------------------


def parts(session: Session) -> list[Part]:
    """The page that the session is on, from top to bottom."""
    if session.page == "search":
        return [Part("logo", "WebShop"), *_instruction(session, "Instruction: "), Part("button", SEARCH)]
    if session.page == "done":
        return _done(session)
    top = [*_instruction(session, "Instruction:"), Part("button", BACK)]
    if session.page == "results":
        return top + _results(session)
    top.append(Part("button", PREVIOUS))
    return top + (_item(session) if session.page == "item" else _sub_page(session))


def _instruction(session: Session, label: str) -> list[Part]:
    return [Part("label", label), Part("instruction", session.goal.instruction)]


def _results(session: Session) -> list[Part]:
    found = [Part("count", f"Page {session.number} (Total results: {len(session.results)})")]
    if session.number > 1:
        found.append(Part("button", PREVIOUS))
    found.append(Part("button", NEXT))
    for product in session.shown:
        found += (Part("link", product.asin), Part("title", product.title), Part("price", product.price_tag))
    return found


def _item(session: Session) -> list[Part]:
    product = session.product
    assert product is not None
    shown = []
    for name, values in product.options.items():
        shown.append(Part("group", name))
        shown += [Part("option", value) for value in values]
    shown += (Part("title", product.title), Part("price", f"Price: {product.price_tag}"), Part("rating", "Rating: N.A."))
    shown += [Part("button", name) for name in SUB_PAGES if name != "Attributes" or session.show_attributes]
    shown.append(Part("button", BUY))
    return shown


def _sub_page(session: Session) -> list[Part]:
    product = session.product
    assert product is not None
    if session.sub_page == "Description":
        return [Part("note", product.description)]
    if session.sub_page == "Features":
        return [Part("feature", f" {bullet}") for bullet in product.bullets]
    if session.sub_page == "Attributes":
        kinds = (product.department, product.query, product.category)
        return [Part("feature", f" {attribute}") for attribute in product.attributes] + [Part("note", kind) for kind in kinds]
    return []  # reviews


def _done(session: Session) -> list[Part]:
    assert session.product is not None
    assert session.bought is not None
    # Word for word as officially, "instuction" and all: the official server leaves most of this page's fields empty.
    options = json.dumps(session.options, sort_keys=True)
    for character in "<>&'":  # as JSON is made safe to stand in HTML
        options = options.replace(character, f"\\u{ord(character):04x}")
    nothing = "None"
    bought = ["asin", session.product.asin, "options", options]
    bought += ["attrs", nothing, "category", nothing, "query", nothing, "product category", nothing]
    goal = ["asin", "options", "attrs", "price upper", "instuction text", "category", "product category", "query"]
    score = ["Your score (min 0.0, max 1.0)", str(session.bought.total), "Reward Details ", nothing]
    code = ["Your code: ", nothing, " (Paste it in your MTurk interface.)"]
    notes = [*code, "Purchased", *bought, "Target", *goal, "Goal ", nothing, "Reward", *score]
    return [Part("title", "Thank you for shopping with us!")] + [Part("note", note) for note in notes]


def clickables(session: Session) -> list[str]:
    """What can be clicked, in official order: buttons, articles, options; a text that stands for two things is listed once."""
    shown = session.parts
    buttons = [part.text.lower() for part in shown if part.role == "button"]
    links = [part.text.lower() for part in shown if part.role == "link"]
    return list(dict.fromkeys(buttons + links + [part.text for part in shown if part.role == "option"]))


# -- how it reads --------------------------------------------------------------------------------------------------------------


def render(session: Session, mode: Mode) -> str:
    """The observation of the page that the session is on."""
    if mode == "text":
        return " [SEP] ".join([part.text.strip() for part in visible(session)])
    if mode == "text_rich":
        return _rich(session)
    if mode == "url":
        return f"{BASE_URL}/{'/'.join(address(session))}"
    from envs.webshop import html  # which is built on this module

    return html.render(session)


def visible(session: Session) -> list[Part]:
    """The parts whose text the official parser keeps: of nothing but spaces one, of spaces with a line break nothing."""
    kept = []
    for part in session.parts:
        if part.text.strip(_ASCII_SPACES):
            kept.append(part)
        elif part.text and "\n" not in part.text:
            kept.append(Part(part.role, " "))
    return kept


def _rich(session: Session) -> str:
    url = render(session, "url")
    lines: list[str] = []
    clicked: list[str] = []
    for role, text in visible(session):
        if role == "button":
            lines.append(f"[button] {text} [button_]\n")
        elif role == "link":
            word = "clicked button" if text in session.visited else "button"
            lines.append(f"\n[{word}] {text} [{word}_]\n")
        elif role == "option":
            word = "button"
            if f'"{text}"' in url:
                word = "clicked button"
                clicked.append(f"You have clicked {text}.\n")
            lines.append(f"  [{word}] {text} [{word}_]\n")
        else:
            lines.append(f"{text}\n")
    return "".join([*reversed(clicked), *lines])


def address(session: Session) -> list[str]:
    """The parts of the page's path, not quoted. Options are JSON on an item's page, and spelt as in Python on others."""
    if session.page == "search":
        return [session.name]
    if session.page == "results":
        return ["search_results", session.name, *_list_address(session)]
    assert session.product is not None
    asin, options = session.product.asin, str(session.options)
    if session.page == "item":
        return ["item_page", session.name, asin, *_list_address(session), json.dumps(session.options)]
    if session.page == "sub_page":
        return ["item_sub_page", session.name, asin, *_list_address(session), str(session.sub_page), options]
    return ["done", session.name, asin, options]


def _list_address(session: Session) -> tuple[str, str]:
    return session.query.replace(" ", "+"), str(session.number)
