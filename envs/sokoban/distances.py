"""How many moves every position of a small room is away from being solved: all of the game, played backwards.

A position that has no distance cannot be solved any more, which no rule of thumb tells as exactly. Rooms with more than MOST
positions are left to `search` and `deadends`.
"""

from __future__ import annotations

from envs.sokoban.board import BACK, Position, Room, cells

MOST = 30_000
"""Positions of a room that is played backwards as a whole; 30,000 take 0.1 s. A room of 6x6 cells has at most 240 with one box,
and 1,680 with two."""


def distances(room: Room) -> dict[Position, int]:
    """Moves from each position that can be solved to the nearest solved one, which has 0."""
    boxes = room.targets
    layer: list[Position] = [(player, boxes) for player in cells(room.floor & ~boxes)]
    found = dict.fromkeys(layer, 0)
    moves = 0
    while layer:
        moves += 1
        before: list[Position] = []
        for position in layer:
            for earlier in _before(room, position):
                if earlier not in found:
                    found[earlier] = moves
                    before.append(earlier)
        layer = before
    return found


def _before(room: Room, position: Position) -> list[Position]:
    """The positions from which one move leads to this one: by a step, or by a push."""
    player, boxes = position
    found = []
    for action, back in BACK.items():
        came = room.ahead[back][player]
        if came < 0 or boxes >> came & 1:
            continue
        found.append((came, boxes))
        pushed = room.ahead[action][player]
        if pushed >= 0 and boxes >> pushed & 1:
            found.append((came, boxes ^ (1 << pushed | 1 << player)))
    return found
