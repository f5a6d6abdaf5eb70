"""What the places of NetHack's map look like: a character, and NetHack's words for it, by numbers that are kept up to date."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

ROWS, COLUMNS = 21, 79
"""Size of the map."""
WIDTH = 80
"""Bytes of NetHack's words for a place."""
BLANK = " "
"""The character of a place of which nothing is known."""
GROUND = frozenset(("", "stone", "wall", "floor of a room", "dark part of a room", "corridor", "lit corridor"))
"""NetHack's words for where nothing is."""

Place = tuple[int, int]
"""Row and column."""


@lru_cache(maxsize=4096)
def text(words: bytes) -> str:
    """NetHack's words, which are the same few again and again."""
    return words.partition(b"\0")[0].decode("latin-1")


class Looks:
    """What a place can look like: a character, and NetHack's words for it. Each has a number, the same in all scenes of a
    process, so that a map is one small array."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, bytes], int] = {}
        self._lock = threading.Lock()
        self.of: list[tuple[str, str]] = []
        """Character and words, by number."""
        self.number(0, bytes(WIDTH))

    def number(self, character: int, words: bytes) -> int:
        """Of a look; words: all bytes that NLE has of them."""
        key = character, words
        if (found := self._numbers.get(key)) is None:
            with self._lock:  # games of other threads see new things too
                if (found := self._numbers.get(key)) is None:
                    self.of.append((chr(character), text(words)))
                    found = self._numbers[key] = len(self.of) - 1
        return found


LOOKS = Looks()


class Sight:
    """What a game's map looks like, kept up to date from NLE's arrays: of 1,659 places, few change in a step."""

    def __init__(self) -> None:
        # As after an update with zeros.
        self._words = np.zeros((ROWS * COLUMNS, WIDTH // 8), np.uint64)
        self._chars = np.zeros(ROWS * COLUMNS, np.uint8)
        self._looks = np.zeros((ROWS, COLUMNS), np.int32)
        self._things: dict[Place, str] = {}

    def update(self, chars: np.ndarray, descriptions: np.ndarray) -> tuple[np.ndarray, Mapping[Place, str]]:
        """`looks` and `things` of the scene with these chars and descriptions (uint8 [21, 79, 80], each ended by a zero)."""
        flat, words = chars.reshape(-1), descriptions.view(np.uint64).reshape(self._words.shape)
        (parts,) = (words != self._words).ravel().nonzero()
        (drawn,) = (flat != self._chars).nonzero()
        if places := [*{*(parts // self._words.shape[1]).tolist(), *drawn.tolist()}]:
            said, characters = words[places], flat[places]
            self._words[places], self._chars[places] = said, characters
            raw = said.tobytes()
            looks = [LOOKS.number(one, raw[WIDTH * n : WIDTH * (n + 1)]) for n, one in enumerate(characters.tolist())]
            self._looks.reshape(-1)[places] = looks
            for at, look in zip(places, looks):
                character, word = LOOKS.of[look]
                if character != BLANK and word not in GROUND:
                    self._things[divmod(at, COLUMNS)] = word
                elif self._things:
                    self._things.pop(divmod(at, COLUMNS), None)
        return self._looks.copy(), self._things.copy()
