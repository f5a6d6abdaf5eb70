"""How alike texts are: TF-IDF vectors, whose products are cosines. Smoothed, as scikit-learn's defaults are."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algorithms.base import Bools, Floats, Ints

WORD = re.compile(r"\b\w\w+\b")
APART: tuple[Callable[[str], list[str]], ...] = (str.splitlines, str.split, lambda piece: WORD.findall(piece.lower()))
"""From a text to its words, by way of lines and of what stands between white space. Texts share most of these; each different
one is taken apart once."""


def tfidf(texts: Sequence[str], parts: Sequence[Ints], times: Sequence[Ints], most: int) -> list[Floats]:
    """Vectors [M, words of the part] of the texts [M] of each part, of length 1, or 0 where a text has no word.

    texts [U]; parts: numbers of texts [M]; times: how often each of them stands in the part [M]. The parts make one corpus. If
    it has no word, there are no vectors. Words have at least two letters or digits, in lower case; the `most` frequent ones
    count (of equally frequent ones the first in the alphabet). Weight: how often the word stands in the text, times
    ln((1 + n) / (1 + texts with the word)) + 1, of n texts.
    """
    words, word, size = _words(texts)
    corpus = np.bincount(np.concatenate(parts), np.concatenate(times), len(texts))  # [U]
    kept = _most(words, np.bincount(word, np.repeat(corpus, size), len(words)), most)
    column = np.where(kept, np.cumsum(kept) - 1, -1)[word]
    having = np.zeros(kept.sum())
    counts: list[Floats] = []
    occurring: list[Ints] = []
    for part, often in zip(parts, times, strict=True):
        here = column[places(size, part)]
        cell = np.repeat(np.arange(len(part)) * len(having), size[part]) + here
        found = np.bincount(cell[here >= 0], minlength=len(part) * len(having)).reshape(len(part), len(having))
        occurring.append(np.flatnonzero(found.any(axis=0)))  # a part has few of all words
        counts.append(found[:, occurring[-1]].astype(np.float64))
        having[occurring[-1]] += often @ (counts[-1] > 0)
    weight = np.log((1 + corpus.sum()) / (1 + having)) + 1
    return [_unit(found * weight[which]) for found, which in zip(counts, occurring, strict=True)] if words else []


def numbered(items: Iterable[str]) -> tuple[Ints, list[str]]:
    """The number of each item in order of appearance, and the different items."""
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    return np.fromiter(map(numbers.__getitem__, items), dtype=np.int64), list(numbers)


def places(size: Ints, chosen: Ints) -> Ints:
    """Where things stand, in a row of `size` things of each kind: the places of all of the chosen kinds, kind by kind."""
    here = size[chosen]
    return np.repeat((np.cumsum(size) - size)[chosen] - np.cumsum(here) + here, here) + np.arange(here.sum())


def _words(texts: Sequence[str]) -> tuple[list[str], Ints, Ints]:
    """Different words; numbers of those that stand in the texts, text by text; how many stand in each text [U]."""
    different, part, text = list(texts), np.arange(len(texts)), np.arange(len(texts))
    for take_apart in APART:
        apart = [take_apart(one) for one in different]
        size = np.fromiter(map(len, apart), dtype=np.int64)
        inner, different = numbered(chain.from_iterable(apart))
        text, part = np.repeat(text, size[part]), inner[places(size, part)]
    return different, part, np.bincount(text, minlength=len(texts))


def _most(words: list[str], total: NDArray[Any], most: int) -> Bools:
    """Whether each word is among the `most` frequent."""
    kept = np.ones(len(words), dtype=bool)
    kept[sorted(range(len(words)), key=lambda one: (-total[one], words[one]))[most:]] = False
    return kept


def _unit(rows: Floats) -> Floats:
    length = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return np.divide(rows, length, out=rows, where=length > 0)
