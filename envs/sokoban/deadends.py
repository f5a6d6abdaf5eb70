"""Positions that cannot be solved any more, told without a search: boxes on dead squares, and frozen boxes off their targets.

Sound: what is called a dead end is one. Not complete: other dead ends are missed; `distances` knows all of them, of small
rooms. The two rules are the usual ones of Sokoban solvers (simple deadlocks and freeze deadlocks).
"""

from __future__ import annotations

from envs.sokoban.board import BACK, Room, bits, cells

AXES = (("up", "down"), ("left", "right"))


def pushes(room: Room) -> list[dict[int, int]]:
    """For each target, by cell: how many pushes bring a box there that is alone in the room, wherever the player may stand.

    The cells that are missing from all of them are the dead squares.
    """
    return [_pushes_to(room, target) for target in cells(room.targets)]


def dead_squares(room: Room) -> int:
    """The set of cells from which a box reaches no target."""
    alive = bits(cell for reached in pushes(room) for cell in reached)
    return room.floor & ~alive


def is_dead_end(room: Room, boxes: int, dead: int) -> bool:
    """Whether boxes that stand like this can never be solved. dead: the room's dead squares."""
    if boxes & dead:
        return True
    off = boxes & ~room.targets
    return any(_frozen(room, box, boxes, dead, 0) for box in cells(off))


def _pushes_to(room: Room, target: int) -> dict[int, int]:
    """Played backwards: a box is pulled into each direction that has room for the player behind it."""
    found, layer = {target: 0}, [target]
    while layer:
        further = []
        for box in layer:
            for back in BACK.values():
                pulled = room.ahead[back][box]
                if pulled >= 0 and room.ahead[back][pulled] >= 0 and pulled not in found:
                    found[pulled] = found[box] + 1
                    further.append(pulled)
        layer = further
    return found


def _frozen(room: Room, box: int, boxes: int, dead: int, walls: int) -> bool:
    """Whether a box can move along neither axis, without a dead end. walls: boxes that are asked about already; whether those
    move depends on this one, so that they count as walls here."""
    walls |= 1 << box
    return all(_blocked(room, box, axis, boxes, dead, walls) for axis in AXES)


def _blocked(room: Room, box: int, axis: tuple[str, str], boxes: int, dead: int, walls: int) -> bool:
    one, other = (room.ahead[way][box] for way in axis)
    if one < 0 or other < 0 or (walls >> one | walls >> other) & 1:
        return True
    if dead >> one & dead >> other & 1:
        return True
    return any(boxes >> cell & 1 and _frozen(room, cell, boxes, dead, walls) for cell in (one, other))
