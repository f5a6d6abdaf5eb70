"""HTML elements as functions. Text is escaped where it enters, so that only this file has to be right about it."""

from __future__ import annotations

from html import escape


class Markup(str):
    """Text that is HTML already; every other text is data."""

    __slots__ = ()


def tag(name: str, *children: str | None, **attributes: str | int | float | bool | None) -> Markup:
    """An element. `class_` stands for class, `data_x` for data-x; an attribute that is None or False is left out."""
    words = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            words.append(f'{key}="{escape(f"{value:g}" if isinstance(value, float) else str(value))}"')
    return Markup(f"<{' '.join(words)}>{join(*children)}</{name}>")


def join(*children: str | None) -> Markup:
    """Several pieces as one."""
    return Markup("".join(one if isinstance(one, Markup) else escape(one) for one in children if one is not None))
