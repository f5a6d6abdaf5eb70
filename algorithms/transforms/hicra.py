"""HICRA (arXiv 2509.03646): tokens that plan get more of a reward and less of a blame.

Planning tokens are those of strategic grams: short runs of words that many successes share. They are found in the successful
episodes of the run so far, or given as a list. The paper clusters n-grams by meaning; here those are alike that share words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, ClassVar

import numpy as np

from algorithms.batch import Batch, Bools, Floats, Need
from algorithms.transforms import Changed, Transform
from envs.common.structured import Fraction, NonNegative, Positive

Gram = tuple[str, ...]
WORD = re.compile(r"\w+(?:'\w+)?")
COMPARED = 1000
"""Most frequent grams among which groups of alike ones are looked for."""


@dataclass
class HICRA(Transform):
    """A + alpha |A| on the tokens of strategic grams."""

    alpha: NonNegative = 0.2
    """Share of |A| that is added (paper)."""
    grams: list[str] = field(default_factory=list)
    """Strategic grams, for example [let's try,check whether]; []: found in the run's successful episodes."""
    shortest: Positive = 3
    """Words of the shortest gram that is looked for (paper)."""
    longest: Positive = 5
    """Of the longest one (paper)."""
    most: Positive = 20
    """Groups of alike grams that count as strategic: those that most successes share."""
    least: Fraction = 0.1
    """Share of the successes so far in which a gram must stand."""
    alike: Fraction = 0.5
    """Grams are alike that share this part of their words."""
    remembered: Positive = 20_000
    """Most grams whose number is kept; the rarest are forgotten."""

    needs: ClassVar[frozenset[Need]] = frozenset({"token_text"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shortest > self.longest:
            raise ValueError(f"shortest is {self.shortest}; it must be at most longest={self.longest}")
        if empty := [gram for gram in self.grams if not words(gram)]:
            raise ValueError(f"grams holds {empty[0]!r}, which has no word")
        self._counts: Counter[Gram] = Counter()
        self._successes = 0
        self._found: frozenset[Gram] | None = None

    def learn(self, batch: Batch) -> None:
        """Count in how many successes each gram stands. Raises ValueError without batch.token_text."""
        if self.grams:
            return
        for number, responses in episodes(batch):
            if batch.success[number]:
                self._successes += 1
                said = (of for response in responses for of in runs(words(response), self.shortest, self.longest))
                self._counts.update(set(said))
        if len(self._counts) > self.remembered:
            self._counts = Counter(dict(ranked(self._counts)[: self.remembered]))
        self._found = None

    def apply(self, batch: Batch, values: Floats, defined: Bools, done: float) -> Changed:
        """Raises ValueError without batch.token_text."""
        return Changed(values + self.alpha * np.abs(values) * self.planning(batch), defined)

    def strategic(self) -> frozenset[Gram]:
        """The grams that count: those given, or those found so far."""
        if self._found is None:
            given = frozenset(tuple(words(gram)) for gram in self.grams)
            enough = self.least * self._successes
            often = [gram for gram, number in ranked(self._counts)[:COMPARED] if number >= enough]
            self._found = given or frozenset(first_groups(often, self.most, self.alike))
        return self._found

    def planning(self, batch: Batch) -> Bools:
        """[T] whether the token is part of a strategic gram."""
        grams = self.strategic()
        known: dict[Gram, Bools] = {}
        pieces = [tuple(one) for one in of_steps(batch)]
        for one in pieces:
            if one not in known:
                known[one] = marked(one, grams)
        return np.concatenate([known[one] for one in pieces]) if pieces else np.zeros(0, dtype=bool)

    def state(self) -> dict[str, Any]:
        """Successes, and in how many of them each gram stands."""
        return {"successes": self._successes, "counts": {" ".join(gram): number for gram, number in self._counts.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        self._successes, self._found = int(state["successes"]), None
        self._counts = Counter({tuple(gram.split()): int(number) for gram, number in state["counts"].items()})


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return [found.lower() for found in WORD.findall(text)]


def runs(said: Sequence[str], shortest: int, longest: int) -> Iterator[Gram]:
    """All runs of words of these lengths."""
    for n in range(shortest, longest + 1):
        yield from (tuple(said[place : place + n]) for place in range(len(said) - n + 1))


def ranked(counts: Counter[Gram]) -> list[tuple[Gram, int]]:
    """Most frequent first, of equally frequent ones the longer, then by their words."""
    return sorted(counts.items(), key=lambda one: (-one[1], -len(one[0]), one[0]))


def first_groups(grams: Iterable[Gram], most: int, alike: float) -> Iterator[Gram]:
    """The grams, most frequent first, that belong to the first groups: a gram joins the first group whose first member it
    shares the part `alike` of their words with, or begins one while there are fewer than `most`."""
    firsts: list[frozenset[str]] = []
    for gram in grams:
        of = frozenset(gram)
        joins = any(len(of & first) >= alike * len(of | first) for first in firsts)
        if not joins and len(firsts) < most:
            firsts.append(of)
            joins = True
        if joins:
            yield gram


def marked(pieces: Sequence[str], grams: frozenset[Gram]) -> Bools:
    """Which pieces of a text touch a word of one of the grams."""
    found = list(WORD.finditer("".join(pieces)))
    said = [one[0].lower() for one in found]
    inside = np.zeros(len(said), dtype=bool)
    for n in {len(gram) for gram in grams}:
        for place in range(len(said) - n + 1):
            if tuple(said[place : place + n]) in grams:
                inside[place : place + n] = True
    ends = np.cumsum([len(piece) for piece in pieces])
    begins = np.concatenate([[0], ends[:-1]])
    marks = np.zeros(len(pieces), dtype=bool)
    for word in np.flatnonzero(inside).tolist():
        first, last = found[word].span()
        marks |= (begins < last) & (ends > first)
    return marks


def of_steps(batch: Batch) -> Iterator[list[str]]:
    """[S] the texts of each step's tokens. Raises ValueError without batch.token_text."""
    if batch.token_text is None:
        raise ValueError("HICRA needs batch.token_text, what each sampled token says, which is not there")
    first = 0
    for n in batch.tokens.tolist():
        yield batch.token_text[first : first + n]
        first += n


def episodes(batch: Batch) -> Iterator[tuple[int, list[str]]]:
    """Each episode's number and the texts of its responses."""
    of = zip(batch.episode.tolist(), map("".join, of_steps(batch)), strict=True)
    for number, responses in groupby(of, key=lambda one: one[0]):
        yield number, [text for _, text in responses]
