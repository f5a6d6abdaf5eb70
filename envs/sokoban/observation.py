"""A position in words: drawn with symbols, by rows and columns, or both. What is said is chosen in the settings.

    Board:
    # # # # # #
    # _ _ @ _ #
    # _ $ _ _ #
    # _ _ . _ #
    # _ _ _ _ #
    # # # # # #
    Legend: # wall, _ floor, . target, $ box, * box on a target, @ you, + you on a target
    Last action: left

The lines begin with the names given here; `read` takes a level out of such a text again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from envs.sokoban import board
from envs.sokoban.board import Level, Position, Room, bits, cells
from envs.sokoban.config import SokobanConfig

TASK, BOARD, LEGEND, SIZE, YOU, BOXES, TARGETS, WALLS = (
    *("Task", "Board", "Legend", "Size", "You", "Boxes", "Targets", "Walls inside"),
)
LAST, STATE = "Last action", "State"
SOLVED, STUCK = "solved", "cannot be solved any more"
SYMBOLS = ", ".join(f"{symbol} {meaning}" for symbol, meaning in board.LEGEND.items())
_DRAWN = re.compile(rf"{BOARD}:\n((?:[{re.escape(''.join(board.LEGEND))} ]+(?:\n|$))+)")
_PLACE = re.compile(r"row (\d+) column (\d+)")
_ROWS = re.compile(rf"{SIZE}: (\d+) rows, (\d+) columns")


def render(room: Room, position: Position, config: SokobanConfig, last: str | None, state: str | None) -> str:
    """The text of a position. last: what was done, None after a reset; state: what is to be said of the level, if anything."""
    lines: list[str] = []
    if config.observation != "coordinates":
        lines += [f"{BOARD}:", room.drawn(position, between=" ")]
        if config.legend:
            lines.append(f"{LEGEND}: {SYMBOLS}")
    if config.observation != "grid":
        lines += located(room, position)
    if state is not None:
        lines.append(f"{STATE}: {state}")
    if config.last_action and last is not None:
        lines.append(f"{LAST}: {last}")
    return "\n".join(lines)


def located(room: Room, position: Position) -> list[str]:
    """The position by rows and columns, which count from 1 at the top left."""
    player, boxes = position
    inside = bits(
        cell
        for cell in range(room.height * room.width)
        if 0 < cell // room.width < room.height - 1 and 0 < cell % room.width < room.width - 1
    )
    return [
        f"{SIZE}: {room.height} rows, {room.width} columns; row 1 is the top, column 1 the left; the border is wall",
        f"{YOU}: {_placed(room, [player])}",
        f"{BOXES}: {_placed(room, cells(boxes))}",
        f"{TARGETS}: {_placed(room, cells(room.targets))}",
        f"{WALLS}: {_placed(room, cells(inside & ~room.floor)) or 'none'}",
    ]


def frame(room: Room, position: Position, state: str) -> str:
    """The position for people who look at an episode, and how it stands."""
    return f"{room.drawn(position)}\n{state}" if state else room.drawn(position)


def read(text: str) -> Level | None:
    """The level that an observation shows; None if it shows none."""
    drawn = _DRAWN.search(text)
    if drawn:
        return Level.read(drawn.group(1).replace(" ", ""))
    size = _ROWS.search(text)
    if not size:
        return None
    height, width = int(size.group(1)), int(size.group(2))
    named = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    places = {
        name: bits((int(row) - 1) * width + int(column) - 1 for row, column in _PLACE.findall(named[name]))
        for name in (YOU, BOXES, TARGETS, WALLS)
    }
    inside = bits(row * width + column for row in range(1, height - 1) for column in range(1, width - 1))
    room = Room(height, width, inside & ~places[WALLS], places[TARGETS])
    return Level(room, (places[YOU].bit_length() - 1, places[BOXES]))


def _placed(room: Room, where: Iterable[int]) -> str:
    return "; ".join(f"row {row} column {column}" for row, column in map(room.place, where))
