"""A page as HTML, as an agent reads it.

Readers of the official pages find what they look for in ours (#instruction-text h4, #search_input, .btn, .product-link,
input[type=radio] and #product-image), and the text between the tags is the text of the page's parts, no more and no less.
Nothing needs a script. What a browser sends goes by POST to the address that the page came from, as one field: `action` is an
action as `Session.act` takes it, `search_query` what to search for, `option` the value chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from envs.webshop.pages import SEARCH, Role, View

_AROUND: dict[Role, tuple[str, str]] = {
    "logo": ("<h1>", "</h1>\n"),
    "label": ('<div id="instruction-text"><h4>', "<br>"),
    "instruction": ("", "</h4></div>\n"),
    "count": ("<h3>", "</h3>\n"),
    "title": ("<h2>", "</h2>\n"),
    "price": ('<p class="price">', "</p>\n"),
    "rating": ('<p class="rating">', "</p>\n"),
    "group": ("<h4>", "</h4>\n"),
    "feature": ("<li>", "</li>\n"),
    "note": ("<p>", "</p>\n"),
}
_BLOCKS: dict[Role, str] = {
    "button": "nav",
    "feature": "ul",
    **dict.fromkeys(("link", "title", "price", "rating"), "article"),
    **dict.fromkeys(("group", "option"), "section"),
}
"""Tags that parts stand in together. A line break between tags is no text to an official reader."""


def render(view: View) -> str:
    """The page as a whole document. All that comes from the catalogue or the agent is escaped."""
    head = '<meta charset="utf-8">\n<title>WebShop</title>'
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{"".join(body(view))}</body>\n</html>\n'


def body(view: View) -> Iterator[str]:
    """What stands between the tags of its body."""
    group, block = "", ""
    if view.page not in ("search", "done"):
        yield '<form id="act" method="post"></form>\n'
    for number, (role, text) in enumerate(view.parts):
        if block != _BLOCKS.get(role, "") or role == "link":
            yield f"</{block}>\n" if block else ""
            block = _BLOCKS.get(role, "")
            yield f"<{block}>\n" if block else ""
        if role == "button":
            yield _button(text)
        elif role == "link":
            yield f'<input type="submit" form="act" id="link_{number}" name="action" value="{escape(f"click[{text}]")}">'
            yield f'<label for="link_{number}"><a class="product-link">{escape(text)}</a></label>\n'
        elif role == "option":
            chosen = view.options.get(group.lower()) == text
            yield f'<input type="radio" name="{escape(group)}" value="{escape(text)}"{" checked" * chosen}>'
            yield f'<input type="submit" form="act" id="option_{number}" name="option" value="{escape(text)}">'
            yield f'<label for="option_{number}">{escape(text)}</label>\n'
        else:
            if role == "group":
                group = text
            elif role == "title" and view.page == "item" and view.product and view.product.image:
                yield f'<img id="product-image" src="{escape(view.product.image)}" alt="" referrerpolicy="no-referrer">\n'
            before, after = _AROUND[role]
            yield f"{before}{escape(text)}{after}"
    yield f"</{block}>\n" if block else ""


def _button(text: str) -> str:
    if text != SEARCH:
        return f'<button class="btn" form="act" name="action" value="{escape(f"click[{text}]")}">{escape(text)}</button>\n'
    field = '<input id="search_input" type="text" name="search_query" autofocus>'
    return f'<form method="post">{field}<button class="btn">{text}</button></form>\n'
