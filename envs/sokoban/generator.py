"""Levels from random numbers: a room is dug out by a random walk, and boxes are pulled off their targets.

A small room is played backwards as a whole (`distances`): a length is drawn first, then one of the positions that need as many
moves, so that short and long levels are about equally frequent. In a larger one boxes are pulled at random, and A* counts the
moves. Every level can be solved, and begins with no box on a target.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from envs.sokoban.board import BACK, Level, Position, Room, bits, cells
from envs.sokoban.distances import MOST
from envs.sokoban.search import GaveUp, reach, search

DUG = (0.5, 1.0)
"""Share of the cells within the walls that are dug out, at least and at most."""
TURNS = 0.35
"""Probability that the digger turns."""


def dug(height: int, width: int, boxes: int, rng: np.random.Generator) -> Room:
    """A room whose floor is connected, with targets anywhere on it."""
    inside = (height - 2) * (width - 2)
    fewest = max(round(DUG[0] * inside), 2 * boxes + 1)
    wanted = int(rng.integers(fewest, round(DUG[1] * inside) + 1))
    row, column = int(rng.integers(1, height - 1)), int(rng.integers(1, width - 1))
    floor = {row * width + column}
    ways = ((-1, 0), (1, 0), (0, -1), (0, 1))
    down, right = ways[int(rng.integers(4))]
    while len(floor) < wanted:
        if rng.random() < TURNS:
            down, right = ways[int(rng.integers(4))]
        row, column = min(max(row + down, 1), height - 2), min(max(column + right, 1), width - 2)
        floor.add(row * width + column)
    targets = rng.choice(sorted(floor), size=boxes, replace=False)
    return Room(height, width, bits(floor), bits(int(cell) for cell in targets))


def digest(room: Room) -> int:
    """A number that tells rooms apart; those that are turned or mirrored images of each other have the same."""
    lines = [["_#."[_kind(room, row * room.width + column)] for column in range(room.width)] for row in range(room.height)]
    images = []
    for _ in range(4):
        lines = [list(line) for line in zip(*lines[::-1])]
        images += ["\n".join(map("".join, lines)), "\n".join("".join(line[::-1]) for line in lines)]
    return int.from_bytes(hashlib.sha256(min(images).encode()).digest()[:8], "big")


def begun(
    room: Room, known: Mapping[Position, int] | None, shortest: int, longest: int, rng: np.random.Generator
) -> tuple[Level, int] | None:
    """A level of this room, and the moves it needs, from `shortest` to `longest`; None if none was found.

    known: the distances of a small room, or None.
    """
    if known is None:
        start = _pulled(room, int(rng.integers(shortest, longest + 1)), rng)
        if start[1] & room.targets:
            return None
        try:
            solution = search(room, start)
        except GaveUp:
            return None
        found = solution is not None and shortest <= len(solution) <= longest
        return (Level(room, start), len(solution or ())) if found else None
    by_length: dict[int, list[Position]] = defaultdict(list)
    for position, moves in known.items():
        if shortest <= moves <= longest and not position[1] & room.targets:
            by_length[moves].append(position)
    if not by_length:
        return None
    moves = sorted(by_length)[int(rng.integers(len(by_length)))]
    starts = sorted(by_length[moves])
    return Level(room, starts[int(rng.integers(len(starts)))]), moves


def small(room: Room) -> bool:
    """Whether all of a room is played backwards."""
    return room.positions <= MOST


def _pulled(room: Room, pulls: int, rng: np.random.Generator) -> Position:
    """A position out of which the solved room was reached backwards: the player walks anywhere, and pulls a box."""
    free = list(cells(room.floor & ~room.targets))
    position = free[int(rng.integers(len(free)))], room.targets
    for _ in range(pulls):
        options = [after for cell in reach(room, position) for after in _pulls(room, (cell, position[1]))]
        if not options:
            break
        position = options[int(rng.integers(len(options)))]
    within = list(reach(room, position))
    return within[int(rng.integers(len(within)))], position[1]


def _pulls(room: Room, position: Position) -> list[Position]:
    player, boxes = position
    found = []
    for action, back in BACK.items():
        box, to = room.ahead[action][player], room.ahead[back][player]
        if box >= 0 and boxes >> box & 1 and to >= 0 and not boxes >> to & 1:
            found.append((to, boxes ^ (1 << box | 1 << player)))
    return found


def _kind(room: Room, cell: int) -> int:
    """0 floor, 1 wall, 2 target."""
    return 2 if room.targets >> cell & 1 else 0 if room.floor >> cell & 1 else 1
