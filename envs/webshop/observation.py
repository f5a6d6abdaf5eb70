"""How a page reads: as text, as rich text with buttons marked, as HTML, or as nothing but its URL.

Kept from the official pages because agents see it: an option reads as clicked if its value stands in double quotes anywhere in
the URL, its query too, and does not if JSON must escape it.
"""

from __future__ import annotations

import json
from typing import Literal

from envs.webshop import html
from envs.webshop.pages import Part, View

Mode = Literal["text", "text_rich", "html", "url"]
BASE_URL = "http://127.0.0.1:3000"
_ASCII_SPACES = " \n\t\f\r"


def render(view: View, mode: Mode) -> str:
    """The observation of a page."""
    if mode == "text":
        return " [SEP] ".join([part.text.strip() for part in visible(view)])
    if mode == "text_rich":
        return _rich(view)
    if mode == "url":
        return f"{BASE_URL}/{'/'.join(address(view))}"
    return html.render(view)


def visible(view: View) -> list[Part]:
    """The parts whose text the official parser keeps: of nothing but spaces one, of spaces with a line break nothing."""
    kept = []
    for part in view.parts:
        if part.text.strip(_ASCII_SPACES):
            kept.append(part)
        elif part.text and "\n" not in part.text:
            kept.append(Part(part.role, " "))
    return kept


def _rich(view: View) -> str:
    url = render(view, "url")
    lines: list[str] = []
    clicked: list[str] = []
    for role, text in visible(view):
        if role == "button":
            lines.append(f"[button] {text} [button_]\n")
        elif role == "link":
            word = "clicked button" if text in view.visited else "button"
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


def address(view: View) -> list[str]:
    """The parts of the page's path, not quoted. Options are JSON on an item's page, and spelled as in Python on others."""
    if view.page == "search":
        return [view.name]
    if view.page == "results":
        return ["search_results", view.name, *_list_address(view)]
    assert view.product is not None
    asin, options = view.product.asin, str(view.options)
    if view.page == "item":
        return ["item_page", view.name, asin, *_list_address(view), json.dumps(view.options)]
    if view.page == "sub_page":
        return ["item_sub_page", view.name, asin, *_list_address(view), str(view.sub_page), options]
    return ["done", view.name, asin, options]


def _list_address(view: View) -> tuple[str, str]:
    return view.query.replace(" ", "+"), str(view.number)
