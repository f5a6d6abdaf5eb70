"""A session's page as an HTML document of our own, for people with a browser and for readers of the official pages.

Such readers find what they look for (#instruction-text h4, #search_input, .btn, .product-link, input[type=radio] and
#product-image), and the text between the tags is the text of the page's parts, no more and no less. Serving it is left to
others. What a browser sends goes to the page's own path: `action` (of buttons by POST, of links in the query) is an action as
`Session.act` takes it, `search_query` is what to search for, and the field after `option` has the option that was chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from envs.webshop import pages

if TYPE_CHECKING:
    from envs.webshop.engine import Session

_AROUND: dict[pages.Role, tuple[str, str]] = {
    "logo": ("<h1>", "</h1>\n"),
    "label": ('<div id="instruction-text"><h4>', "<br>"),
    "instruction": ("", "</h4></div>\n"),
    "count": ("<h3>", "</h3>\n"),
    "title": ("<h2>", "</h2>\n"),
    "price": ('<p class="price">', "</p>\n"),
    "rating": ('<p class="rating">', "</p>\n"),
    "group": ("<h4>", "</h4>\n"),
    "feature": ('<p class="feature">', "</p>\n"),
    "note": ("<p>", "</p>\n"),
}
_INSIDE: dict[str, tuple[pages.Role, ...]] = {"</article>\n": ("title", "price"), "</form>\n": ("option",), "": ()}
"""Parts that belong to the block which ends with this tag. A line break between tags is no text to an official reader."""
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
form { display: inline-block; margin: 0.25rem 0.25rem 0.25rem 0; }
form.option { display: block; }
h1, h2, h3, h4 { line-height: 1.25; margin: 0.75rem 0 0.25rem; }
p { margin: 0.25rem 0; white-space: pre-line; }
article { border-top: 1px solid #8886; padding: 0.5rem 0; }
article h2 { font-size: 1rem; font-weight: normal; }
img { max-width: 16rem; max-height: 16rem; }
.btn, label, #search_input { border: 1px solid #888; border-radius: 0.4rem; padding: 0.3rem 0.8rem; font: inherit; }
.btn, label { background: #8882; cursor: pointer; }
label { display: inline-block; margin: 0.15rem 0; }
input[type=radio] { position: absolute; opacity: 0; }
input[type=radio]:checked + label { background: #2a6fdb; color: white; }
input[type=radio]:focus-visible + label { outline: 2px solid; }
#search_input { width: min(30rem, 100%); }
#instruction-text { background: #8881; border-radius: 0.4rem; padding: 0.25rem 1rem 0.75rem; }
.price { font-weight: bold; }
"""


def render(session: Session) -> str:
    """The whole document. All that comes from the catalogue or the agent is escaped."""
    head = f'<meta charset="utf-8">\n<title>WebShop</title>\n<style>{_STYLE}</style>'
    body = "".join(_body(session))
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}</body>\n</html>\n'


def _body(session: Session) -> Iterator[str]:
    path = "/" + "/".join(quote(part, safe="+", errors="replace") for part in pages.address(session))
    name, end = "", ""
    for number, (role, text) in enumerate(session.parts):
        if end and role not in _INSIDE[end]:
            yield end
            end = ""
        if role == "link":
            yield "<article>\n"
            action = quote(f"click[{text}]", errors="replace")
            yield f'<a class="product-link" href="{escape(path)}?action={action}">{escape(text)}</a>\n'
            end = "</article>\n"
        elif role == "button":
            yield _button(session, path, text)
        elif role == "option":
            checked = " checked" if session.options.get(name.lower()) == text else ""
            attributes = f'id="radio_{number}" name="{escape(name)}" value="{escape(text)}"{checked}'
            yield f'<input type="radio" {attributes}><label for="radio_{number}">{escape(text)}</label>\n'
        else:
            if role == "group":
                name, end = text, "</form>\n"
                yield f'<form class="option" method="post" action="{escape(path)}" onchange="this.submit()">\n'
                yield '<input type="hidden" name="option">\n'
            elif role == "title" and session.page == "item" and session.product and session.product.image:
                yield f'<img id="product-image" src="{escape(session.product.image)}" alt="" referrerpolicy="no-referrer">\n'
            before, after = _AROUND[role]
            yield f"{before}{escape(text)}{after}"
    yield end


def _button(session: Session, path: str, text: str) -> str:
    field = '<input id="search_input" type="text" name="search_query" autofocus>\n' if session.page == "search" else ""
    name = "" if field else f' name="action" value="{escape(f"click[{text}]")}"'
    button = f'<button class="btn" type="submit"{name}>{escape(text)}</button>'
    return f'<form method="post" action="{escape(path)}">{field}{button}</form>\n'
