"""The shortest solution of a position: by the distances of a small room, else by A*.

A move is a step or a push; among solutions of equally many moves A* finds one with the fewest pushes. A node of the search is a
position after a push, so that walks do not count as nodes. Its estimate, the pushes that each box needs to the target nearest
to it, never exceeds the moves needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush

from envs.sokoban.board import ACTIONS, Position, Room, cells
from envs.sokoban.deadends import dead_squares, is_dead_end, pushes

MOST_NODES = 5_000
"""Of an A* search, after which it gives up: about a second in a room of 10x10 cells with four boxes."""


class GaveUp(Exception):
    """A search ended without an answer, after `MOST_NODES` nodes."""


def descended(room: Room, distances: Mapping[Position, int], position: Position) -> list[str] | None:
    """A shortest solution by the room's distances; None if there is none."""
    if position not in distances:
        return None
    actions: list[str] = []
    while moves := distances[position]:
        steps = ((action, room.moved(position, action)) for action in ACTIONS)
        action, position = next((a, after) for a, after in steps if after and distances.get(after) == moves - 1)
        actions.append(action)
    return actions


def search(room: Room, position: Position, most: int = MOST_NODES) -> list[str] | None:
    """A shortest solution by A*; None if there is none. Raises GaveUp."""
    reached, dead = pushes(room), dead_squares(room)
    needed = {cell: min(one[cell] for one in reached if cell in one) for cell in cells(room.floor & ~dead)}
    if is_dead_end(room, position[1], dead):
        return None

    def estimate(boxes: int) -> int:
        return sum(needed[cell] for cell in cells(boxes))

    best: dict[Position, tuple[int, int]] = {position: (0, 0)}
    """Moves and pushes of the best way known."""
    came: dict[Position, tuple[Position, int, str]] = {}
    """The position before, the cell that the player pushes from, and the push."""
    queue = [(estimate(position[1]), 0, 0, position)]
    closed: set[Position] = set()
    while queue:
        _, pushed, moves, position = heappop(queue)
        if position in closed:
            continue
        closed.add(position)
        if position[1] == room.targets:
            return _traced(room, came, position)
        if len(closed) > most:
            raise GaveUp
        for cell, walked in reach(room, position).items():
            for action, after in pushed_from(room, cell, position[1]):
                cost = (moves + walked + 1, pushed + 1)
                if (after in best and cost >= best[after]) or is_dead_end(room, after[1], dead):
                    continue
                best[after] = cost
                came[after] = (position, cell, action)
                heappush(queue, (cost[0] + estimate(after[1]), cost[1], cost[0], after))
    return None


def reach(room: Room, position: Position) -> dict[int, int]:
    """By cell that the player reaches without a push: how many steps away it is, the nearest first."""
    player, boxes = position
    found = {player: 0}
    layer, steps = [player], 0
    ways = tuple(room.ahead.values())
    while layer:
        steps += 1
        further = []
        for cell in layer:
            for ahead in ways:
                to = ahead[cell]
                if to >= 0 and to not in found and not boxes >> to & 1:
                    found[to] = steps
                    further.append(to)
        layer = further
    return found


def walk(room: Room, position: Position, to: int) -> list[str]:
    """The steps of a shortest way to a cell that the player reaches without a push."""
    steps = reach(room, (to, position[1]))
    player, actions = position[0], []
    while player != to:
        action = next(one for one, ahead in room.ahead.items() if steps.get(ahead[player]) == steps[player] - 1)
        actions.append(action)
        player = room.ahead[action][player]
    return actions


def pushed_from(room: Room, cell: int, boxes: int) -> list[tuple[str, Position]]:
    """The pushes that are possible from a cell, and the positions after them."""
    found = []
    for action, ahead in room.ahead.items():
        to = ahead[cell]
        if to >= 0 and boxes >> to & 1:
            after = room.moved((cell, boxes), action)
            if after is not None:
                found.append((action, after))
    return found


def _traced(room: Room, came: Mapping[Position, tuple[Position, int, str]], position: Position) -> list[str]:
    parts = []
    while position in came:
        position, cell, action = came[position]
        parts.append([*walk(room, position, cell), action])
    return [action for part in reversed(parts) for action in part]
