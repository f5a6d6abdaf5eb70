"""HTML elements and whole pages as functions. Text is escaped where it enters, so that only this file has to be right about it.

A page is one file without network, outside images or frameworks: a content security policy admits exactly the style and the
script that are written in it, by hash.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path

from envs.common import disk
from envs.common.structured import ConfigError


class PageError(RuntimeError):
    """The page cannot be written. The message says why and what to do."""


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


def document(title: str, style: str, *body: str | None, script: str = "") -> str:
    """A whole page in light and dark."""
    sources = {"default": "'none'", "style": _hash(style), "script": _hash(script) if script else "'none'"}
    policy = "; ".join([*(f"{kind}-src {source}" for kind, source in sources.items()), "base-uri 'none'", "form-action 'none'"])
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        Markup(f"<style>{style}</style>"),
    )
    end = Markup(f"<script>{script}</script>") if script else None
    return f'<!DOCTYPE html>\n<html lang="en">{head}{tag("body", *body, end)}</html>\n'


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def write(target: Path, page: str) -> None:
    """Make or replace a page. Raises ConfigError for what is there and is no page, PageError."""
    try:
        _refuse_other_file(target)
        disk.folder(target.parent)
        disk.write(target, page.encode())
    except OSError as exc:
        raise PageError(f"{target} cannot be written ({exc.strerror}): choose another place with --html FILE") from exc


def _refuse_other_file(target: Path) -> None:
    """Raise ConfigError for what is there and is no page: a device, a link, a run's metrics."""
    if target.is_dir():
        raise ConfigError(f"{target} is a folder: name a file with --html FILE")
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise ConfigError(f"{target} is no regular file and would be replaced: choose another place with --html FILE")
    if target.exists() and target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{target} exists and is no .html file: choose another name with --html FILE")
