"""Text of unknown origin (an environment's, a model's, a folder's name) without power over a terminal or a reader's eyes."""

from __future__ import annotations

import unicodedata

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of control, format (zero width, direction, tags) and surrogate characters, and of separators of lines."""


class _Spelled(dict[int, str]):
    """By code point; filled as characters are met, since a table of all of Unicode takes long to make."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        hidden = unicodedata.category(character) in HIDDEN and character not in "\t\n"
        self[code] = character.encode("unicode_escape").decode() if hidden else character
        return self[code]


_spelled = _Spelled()


def printable(text: str) -> str:
    """`text` with its hidden characters, tab and newline apart, spelled out (`\\x1b`)."""
    return text.translate(_spelled)


def said(error: BaseException, longest: int = 2000) -> str:
    """What an error of anybody's says: in so many characters, and with power over nothing. "" if it says nothing."""
    try:
        text = str(error)
    except Exception:
        return "it raises another error where it is to say what it is"
    return printable(text if len(text) <= longest else f"{text[:longest]}...")


def first_line(error: BaseException, longest: int = 300) -> str:
    """What an error says first; "" if it says nothing."""
    return next(iter(said(error).strip().splitlines()), "")[:longest]
