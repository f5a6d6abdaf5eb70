"""Starts that are kept for one split: a tenth of all for eval and a tenth for test, so that training never begins like them.

Other seeds are no other start: ten thousand tasks of KeyRoom-S5 have some seven hundred. With `env.held_out_starts` the seeds
of a task are the first ones of a sequence of its own whose start belongs to its split.
"""

from __future__ import annotations

import hashlib

from envs.base import Split, TaskError
from envs.minihack.game import Game, Seeds
from envs.minihack.looks import Place
from envs.minihack.scene import Scene

TRIES = 300
"""Starts after which a level is said to have none for a split; where a tenth belong to it, they fail once in 10^13 tasks."""


def start(scene: Scene) -> tuple[bytes, Place]:
    """What is first seen: the map, and where the agent stands."""
    return scene.chars.tobytes(), scene.place


def belongs(scene: Scene) -> Split:
    """The split that a start is kept for."""
    digest = hashlib.blake2b(repr(start(scene)).encode(), digest_size=8).digest()
    return {0: "eval", 1: "test"}.get(int.from_bytes(digest, "big") % 10, "train")  # type: ignore[return-value]


def seeds(game: Game, task_id: str, split: Split) -> Seeds:
    """The task's first seeds whose start belongs to the split. Resets `game`. Raises TaskError where there seem to be none."""
    for number in range(TRIES):
        found = Seeds.of(task_id, number)
        if belongs(game.reset(found)) == split:
            return found
    raise TaskError(
        f"task {task_id}: none of {TRIES} starts of level {game.level} is kept for the split {split}: it has too few different "
        "ones to hold any out. Set env.held_out_starts=false"
    )
