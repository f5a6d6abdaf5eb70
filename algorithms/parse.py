"""The parse of a response as agents write it: elements between tags, lines, sentences, phrases, words, characters, tokens.

A tree by nesting. Of each token is kept at which level a part of the text begins with it, so that whoever walks the trees of
many responses walks all of them at once. No language is known: what a part is, marks and white space say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from algorithms.base import Bools, Ints

TAG = re.compile(r"<(?P<ends>/?)(?P<name>[A-Za-z_][\w-]*)(?:\s[^<>]*)?(?P<empty>/?)>(?:[^\S\n]*\n+)?")
"""A tag and the line break behind it."""
GAP = r"(?=[^\S\n]+\S)"
"""White space before what stands on the same line: it belongs to what follows, as it does in tokens."""
PARTS = (
    re.compile(r"(?<=\n)(?!\n)"),  # lines
    re.compile(rf"(?:(?<=[.!?])|(?<=[.!?][\"')\]])){GAP}"),  # sentences
    re.compile(  # phrases, and what stands in brackets
        rf"(?:(?<=[,;:])|(?<=[,;:][\"'])){GAP}|(?<=[^\s(\[{{])(?=[^\S\n]*[(\[{{])|(?<=[)\]}}])(?=[^\S\n]*\w)"
    ),
    re.compile(rf"(?<=\S){GAP}"),  # words
)
"""Where parts of a text without tags begin, from large ones to small ones."""
RESPONSE, LINE = 0, 1_000_000
"""Levels: the response; from LINE on its PARTS; between them the elements, an outer one above those in it."""
CHARACTER, TOKEN = LINE + len(PARTS), LINE + len(PARTS) + 1


def levels(pieces: Sequence[str]) -> Ints:
    """[T] the largest part of a response that begins with each of its tokens, which add `pieces` [T] to its text.

    A part begins before the token that holds its first character, and before all tokens of this character if there are several:
    those that say nothing by themselves have empty pieces. Tokens behind the text (the end token) belong to its last word.
    """
    length = np.array([len(piece) for piece in pieces], dtype=np.int64)
    says, place = length > 0, np.arange(len(length))
    behind = np.append(True, says[:-1])[: len(length)]  # the token before it is complete
    begins = np.maximum.accumulate(np.where(behind, place, 0))  # [T] the first token of the same character
    found = np.where(behind, CHARACTER, TOKEN)
    ends = np.cumsum(length)
    at, level = np.array([*cuts("".join(pieces))], dtype=np.int64).reshape(-1, 2).T
    inside = at < (ends[-1] if len(ends) else 0)
    token = np.searchsorted(ends, at[inside], side="right")
    np.minimum.at(found, begins[token], level[inside])
    found[:1] = RESPONSE
    return found


def cuts(text: str) -> Iterator[tuple[int, int]]:
    """Where parts begin, as places in the text, and their levels. An element that is not closed ends with the one around it."""
    around: list[str] = []
    for tag in TAG.finditer(text):
        name, depth = tag["name"], len(around)
        if tag["ends"] and name in around:
            depth = len(around) - 1 - around[::-1].index(name)
            del around[depth:]
            first, after = 2 * depth + 2, 2 * depth + 1
        elif tag["ends"] or tag["empty"]:  # an element without content
            first = after = 2 * depth + 1
        else:
            around.append(name)
            first, after = 2 * depth + 1, 2 * depth + 2
        yield tag.start(), first
        yield tag.end(), after
    for number, part in enumerate(PARTS):
        yield from ((found.start(), LINE + number) for found in part.finditer(text))


def constituents(level: Ints, most: int) -> Bools:
    """[T] whether a macro action begins with each token of responses with these levels [T], one response after another.

    Depth first: a part of at most `most` tokens is one, a larger one is descended into. A part of one token joins the macro
    action before it, if that is in the same larger part and has fewer than `most` tokens.
    """
    place = np.arange(len(level))
    alone, open_ = np.zeros(len(level), dtype=bool), np.ones(len(level), dtype=bool)
    begins = np.zeros(len(level), dtype=bool)
    for at in np.unique(level):
        first = np.flatnonzero(level <= at)
        size = np.diff(first, append=len(level))
        small = (size <= most) & open_[first]
        begins[first[small]] = True
        alone[first[small]] = (size[small] == 1) & (level[first[small]] == at) & (at > RESPONSE)
        open_ &= ~np.repeat(small, size)
    start = np.maximum.accumulate(np.where(begins & ~alone, place, 0))
    return (place - start) % most == 0
