"""Demonstrations: a shortest solution, or its pushes with needless walks between them.

A walk changes nothing for good, so that whoever strays or dawdles can still solve the level, and may only run out of time.
"""

from __future__ import annotations

import numpy as np

from envs.sokoban.search import reach, walk
from envs.sokoban.tasks import Task

IDLENESS = 0.65
"""Probability that a suboptimal demonstration takes a needless step before a useful one, and again after that."""


def demonstration(task: Task, rng: np.random.Generator, detours: float, suboptimal: bool, limit: int) -> list[str]:
    """Moves, at most `limit`, that solve the level.

    Before each push it walks somewhere else first with probability `detours`, or less often if time is short; one that is
    `suboptimal` also wanders about on its way, and may run out of moves. limit: at least what a shortest solution takes.
    """
    solution = task.solution()
    for share in (detours, detours / 2, 0.0):
        actions = _strayed(task, solution, rng, share, suboptimal)
        if len(actions) <= limit or suboptimal:
            return actions[:limit]
    return solution


def _strayed(task: Task, solution: list[str], rng: np.random.Generator, detours: float, idle: bool) -> list[str]:
    """The pushes of a solution, each after a walk of its own."""
    room, planned = task.level.room, task.level.start
    position = planned
    actions: list[str] = []
    for action in solution:
        after = room.moved(planned, action)
        assert after is not None
        if after[1] != planned[1]:
            if detours and rng.random() < detours:
                within = list(reach(room, position))
                place = within[int(rng.integers(len(within)))]
                actions += walk(room, position, place)
                position = place, position[1]
            while position[0] != planned[0]:
                step = _idle_step(task, position, rng) if idle else None
                step = step or walk(room, position, planned[0])[0]
                actions.append(step)
                position = room.ahead[step][position[0]], position[1]
            actions.append(action)
            position = after
        planned = after
    return actions


def _idle_step(task: Task, position: tuple[int, int], rng: np.random.Generator) -> str | None:
    """A step that pushes nothing, or None: on to something useful."""
    if rng.random() >= IDLENESS:
        return None
    room, (player, boxes) = task.level.room, position
    free = [action for action, ahead in room.ahead.items() if ahead[player] >= 0 and not boxes >> ahead[player] & 1]
    return free[int(rng.integers(len(free)))] if free else None
