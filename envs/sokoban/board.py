"""The rules of Sokoban: rooms that never change, and positions of player and boxes in them.

A cell is a number, row by row from the top left. Sets of cells are the bits of an integer, so that a position is two numbers,
and a move two look-ups. Levels are drawn with the usual symbols (XSB), but floor as `_`, since blanks are easily lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import comb

WALL, FLOOR, TARGET, BOX, PLACED, PLAYER, PLAYER_ON_TARGET = "#", "_", ".", "$", "*", "@", "+"
LEGEND = {
    WALL: "wall",
    FLOOR: "floor",
    TARGET: "target",
    BOX: "box",
    PLACED: "box on a target",
    PLAYER: "you",
    PLAYER_ON_TARGET: "you on a target",
}
ACTIONS = ("up", "down", "left", "right")
"""Moves; one towards a box pushes it. Where this order matters, it is that of gym-sokoban."""
WAYS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
"""Rows and columns that a move goes."""
NOWHERE = -1
"""In place of a cell: a wall stands there."""
BACK = {"up": "down", "down": "up", "left": "right", "right": "left"}

Position = tuple[int, int]
"""The player's cell, and the set of the boxes' cells."""


def cells(bits: int) -> Iterator[int]:
    """The cells of a set, in ascending order."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def bits(cells: Iterable[int]) -> int:
    """The set of some cells."""
    found = 0
    for cell in cells:
        found |= 1 << cell
    return found


@dataclass(frozen=True)
class Room:
    """Walls and targets, which nothing moves. Raises ValueError if floor lies on the border: there must be walls."""

    height: int
    width: int
    floor: int
    """The set of cells without a wall."""
    targets: int
    ahead: dict[str, tuple[int, ...]] = field(init=False, repr=False, compare=False)
    """By action: from each cell of floor to the cell that lies in this direction, or NOWHERE."""

    def __post_init__(self) -> None:
        border = bits(cell for cell in range(self.height * self.width) if self._on_the_border(cell))
        if self.floor & border or self.floor >> self.height * self.width:
            raise ValueError("the border of a level must be walls")
        if self.targets & ~self.floor:
            raise ValueError("a target lies in a wall")
        steps = {way: down * self.width + right for way, (down, right) in WAYS.items()}
        ahead = {way: tuple(self._next(cell, step) for cell in range(self.height * self.width)) for way, step in steps.items()}
        object.__setattr__(self, "ahead", ahead)

    def moved(self, position: Position, action: str) -> Position | None:
        """The position after a move; None if it changes nothing: a wall is in the way, or a box that cannot be pushed."""
        player, boxes = position
        ahead = self.ahead[action]
        to = ahead[player]
        if to < 0:
            return None
        if not boxes >> to & 1:
            return to, boxes
        beyond = ahead[to]
        if beyond < 0 or boxes >> beyond & 1:
            return None
        return to, boxes ^ (1 << to | 1 << beyond)

    def moves(self, position: Position) -> list[str]:
        """The actions that change something. There is always one: the way back."""
        player, boxes = position
        found = []
        for action, ahead in self.ahead.items():
            to = ahead[player]
            if to >= 0:
                if boxes >> to & 1:
                    beyond = ahead[to]
                    if beyond < 0 or boxes >> beyond & 1:
                        continue
                found.append(action)
        return found

    def placed(self, boxes: int) -> int:
        """How many boxes are on targets."""
        return (boxes & self.targets).bit_count()

    def place(self, cell: int) -> tuple[int, int]:
        """Row and column of a cell, counted from 1 at the top left."""
        row, column = divmod(cell, self.width)
        return row + 1, column + 1

    @cached_property
    def positions(self) -> int:
        """How many positions there are with as many boxes as targets."""
        count, boxes = self.floor.bit_count(), self.targets.bit_count()
        return comb(count, boxes) * (count - boxes)

    @cached_property
    def _ground(self) -> tuple[str, ...]:
        return tuple(
            TARGET if self.targets >> cell & 1 else FLOOR if self.floor >> cell & 1 else WALL
            for cell in range(self.height * self.width)
        )

    def drawn(self, position: Position, between: str = "") -> str:
        """The position as lines of symbols, `between` each two of a line."""
        player, boxes = position
        symbols = list(self._ground)
        for cell in cells(boxes):
            symbols[cell] = PLACED if symbols[cell] == TARGET else BOX
        symbols[player] = PLAYER_ON_TARGET if symbols[player] == TARGET else PLAYER
        width = self.width
        return "\n".join([between.join(symbols[first : first + width]) for first in range(0, len(symbols), width)])

    def _next(self, cell: int, step: int) -> int:
        return cell + step if self.floor >> cell & 1 and self.floor >> cell + step & 1 else NOWHERE

    def _on_the_border(self, cell: int) -> bool:
        row, column = divmod(cell, self.width)
        return row in (0, self.height - 1) or column in (0, self.width - 1)


@dataclass(frozen=True)
class Level:
    """A room and the position in which an episode begins."""

    room: Room
    start: Position

    @classmethod
    def read(cls, drawing: str) -> Level:
        """A level out of its drawing. Raises ValueError where it is none: the message says why."""
        lines = drawing.strip("\n").split("\n")
        if len({len(line) for line in lines}) != 1:
            raise ValueError("the lines of a level must be equally long")
        symbols = "".join(lines)
        if strange := set(symbols) - LEGEND.keys():
            raise ValueError(f"a level has no symbol {min(strange)!r}; allowed: {' '.join(LEGEND)}")
        players, boxes = _where(symbols, PLAYER, PLAYER_ON_TARGET), _where(symbols, BOX, PLACED)
        room = Room(
            *(len(lines), len(lines[0])),
            *(bits(_where(symbols, *(LEGEND.keys() - {WALL}))), bits(_where(symbols, TARGET, PLACED, PLAYER_ON_TARGET))),
        )
        if len(players) != 1 or not boxes or len(boxes) != room.targets.bit_count():
            raise ValueError(
                f"a level has one player, and as many boxes as targets; this one has {len(players)}, {len(boxes)} and "
                f"{room.targets.bit_count()}"
            )
        return cls(room, (players[0], bits(boxes)))


def _where(symbols: str, *wanted: str) -> Sequence[int]:
    return [cell for cell, symbol in enumerate(symbols) if symbol in wanted]
