"""How alike texts are: TF-IDF vectors, whose products are cosines. Smoothed, as scikit-learn's defaults are."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algorithms.base import Bools, Floats, Ints

WORD = re.compile(r"\b\w\w+\b")
APART: tuple[Callable[[str], list[str]], ...] = (str.splitlines, str.split, lambda piece: WORD.findall(piece.lower()))
"""From a text to its words, by way of lines and of what stands between white space. Texts share most of these; each different
one is taken apart once."""


@dataclass(eq=False)
class Vectors:
    """Of texts [U], each of length 1, or 0 if it has no word: an entry [E] for each different word of a text, text by text."""

    size: Ints
    """[U] entries of each text."""
    word: Ints
    """[E] number of the word."""
    weight: Floats
    """[E] what stands there."""

    def rows(self, chosen: Ints) -> Floats:
        """Those of the chosen texts [M] as a table: [M, words that stand in one of them]."""
        here = places(self.size, chosen)
        there = np.bincount(self.word[here]) > 0  # a task has few of all words
        table = np.zeros((len(chosen), there.sum()))
        table[np.repeat(np.arange(len(chosen)), self.size[chosen]), (np.cumsum(there) - 1)[self.word[here]]] = self.weight[here]
        return table


def tfidf(texts: Sequence[str], times: Ints, most: int) -> Vectors:
    """Vectors of texts [U] that stand `times` [U] each in the corpus.

    Words have at least two letters or digits, in lower case; the `most` frequent ones count (of equally frequent ones the first
    in the alphabet). Weight: how often the word stands in the text, times ln((1 + n) / (1 + texts with the word)) + 1, of n
    texts.
    """
    words, word, text = _words(texts)
    kept = _most(words, np.bincount(word, times[text], len(words)), most)
    # Entries are in the order of texts already, and a stable sort is the one that gains by that.
    entry = np.sort((text * len(words) + word)[kept[word]], kind="stable")
    first = np.flatnonzero(np.diff(entry, prepend=-1))
    often = np.diff(first, append=len(entry))
    text, word = np.divmod(entry[first], max(1, len(words)))
    having = np.bincount(word, times[text], len(words))
    weight = often * (np.log((1 + times.sum()) / (1 + having)) + 1)[word]
    weight /= np.sqrt(np.bincount(text, weight**2, len(texts)))[text]
    return Vectors(np.bincount(text, minlength=len(texts)), word, weight)


def numbered(items: Iterable[str]) -> tuple[Ints, list[str]]:
    """The number of each item in order of appearance, and the different items."""
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    return np.fromiter(map(numbers.__getitem__, items), dtype=np.int64), list(numbers)


def places(size: Ints, chosen: Ints) -> Ints:
    """Where things stand, in a row of `size` things of each kind: the places of all of the chosen kinds, kind by kind."""
    here = size[chosen]
    return np.repeat((np.cumsum(size) - size)[chosen] - np.cumsum(here) + here, here) + np.arange(here.sum())


def _words(texts: Sequence[str], ways: Sequence[Callable[[str], list[str]]] = APART) -> tuple[list[str], Ints, Ints]:
    """Different words; the number of each word that stands in the texts [W], text by text; the number of its text [W]."""
    take_apart, *further = ways
    size, piece, different = _apart(texts, take_apart)
    text = np.repeat(np.arange(len(texts)), size)
    if not further:
        return different, piece, text
    words, word, of = _words(different, further)
    size = np.bincount(of, minlength=len(different))
    return words, word[places(size, piece)], np.repeat(text, size[piece])


def _apart(texts: Sequence[str], take_apart: Callable[[str], list[str]]) -> tuple[Ints, Ints, list[str]]:
    """How many pieces each text has [U]; the number of each piece, text by text; the different pieces."""
    size: list[int] = []

    def pieces() -> Iterator[list[str]]:  # never those of all texts at once: making and keeping so many strings is what is slow
        for text in texts:
            found = take_apart(text)
            size.append(len(found))
            yield found

    number, different = numbered(chain.from_iterable(pieces()))
    return np.array(size, dtype=np.int64), number, different


def _most(words: list[str], total: NDArray[Any], most: int) -> Bools:
    """Whether each word is among the `most` frequent."""
    kept = np.ones(len(words), dtype=bool)
    kept[sorted(range(len(words)), key=lambda one: (-total[one], words[one]))[most:]] = False
    return kept
