"""What NetHack shows at one moment, copied out of its shared arrays: the map, the message, what is carried, the status line.

Read by `observation`, `subgoals` and `oracle`; made by `game` and nothing else. A scene never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from envs.minihack.looks import BLANK, COLUMNS, LOOKS, ROWS, Place

FIELDS = np.array([10, 12, 14, 21, 22, 25])
"""Places in `stats` that tell states apart (hit points, depth, energy, hunger, burden, conditions): what happens next depends
on them, and the map does not show them."""
TIME = 20
"""Place of the game's clock in `stats`."""

WAYS: dict[str, tuple[int, int]] = {
    "north": (-1, 0),
    "east": (0, 1),
    "south": (1, 0),
    "west": (0, -1),
    "northeast": (-1, 1),
    "southeast": (1, 1),
    "southwest": (1, -1),
    "northwest": (-1, -1),
}
"""Rows and columns that a step goes."""
Item = tuple[str, str]
"""Letter and text of a thing that is carried: ("f", "skeleton key")."""
Waiting = Literal["direction", "question"]


@lru_cache(maxsize=4096)
def _written(inventory: tuple[Item, ...]) -> bytes:
    return repr(inventory).encode()


@dataclass(frozen=True, eq=False)
class Scene:
    """One moment. Rows count from the top, columns from the left; north is one row less."""

    glyphs: np.ndarray
    """int16 [21, 79]: NetHack's number of what is seen there."""
    chars: np.ndarray
    """uint8 [21, 79]: the character it is drawn with."""
    looks: np.ndarray
    """int32 [21, 79]: number of its character and NetHack's words for it, in `LOOKS`."""
    things: Mapping[Place, str]
    """NetHack's words where something else than ground is seen or remembered."""
    message: str
    inventory: tuple[Item, ...]
    picked_up: tuple[Item, ...]
    """Things carried now and not at the start."""
    stats: np.ndarray
    """int64 [27]: the status line (NLE's blstats)."""
    beneath: str = ""
    """NetHack's words for what the agent stands on, as it was seen before it went there; "" for nothing, or not known."""
    waiting: Waiting | None = None
    """What the game waits for: a direction, or the answer to a question in `message`. None: for a command."""

    @cached_property
    def place(self) -> Place:
        """Of the agent."""
        return int(self.stats[1]), int(self.stats[0])

    @property
    def time(self) -> int:
        """Turns of the game; a key press that takes no time leaves it."""
        return int(self.stats[TIME])

    def described(self, row: int, column: int) -> str:
        """NetHack's words for what is seen at a place: "closed door"; "" where nothing is known, or off the map."""
        return LOOKS.of[self.looks[row, column]][1] if 0 <= row < ROWS and 0 <= column < COLUMNS else ""

    @cached_property
    def known(self) -> dict[Place, tuple[str, str]]:
        """Character and NetHack's words of every place where something is seen or remembered, row by row."""
        (places,) = (self.chars.ravel() != ord(BLANK)).nonzero()
        return {place: LOOKS.of[self.looks[place]] for place in (divmod(at, COLUMNS) for at in places.tolist())}

    def showing(self, *words: str) -> set[Place]:
        """The places of things that are called so."""
        return {place for place, word in self.things.items() if word in words}

    @property
    def key(self) -> str:
        """16 hex digits of all that is seen but the clock and the message: equal keys look equal."""
        parts = [self.glyphs.tobytes(), self.stats[FIELDS].tobytes(), _written(self.inventory)]
        parts += [repr((self.place, self.beneath, self.waiting, self.message if self.waiting else "")).encode()]
        return hashlib.blake2b(b"\0".join(parts), digest_size=8).hexdigest()
