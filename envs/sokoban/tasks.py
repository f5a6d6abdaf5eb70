"""Splits of Sokoban tasks, by ids that mean the same level on every machine: "6x6-1/train/000042".

The splits share out the rooms (walls and targets) by a hash of their content that knows no left and right. No room of one split
occurs in another, turned or mirrored, and so no position that an agent has trained in either: nothing changes a room.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from envs.base import SPLITS, Split, TaskError
from envs.common.seeding import generator
from envs.sokoban.board import Level, Position
from envs.sokoban.config import SokobanConfig
from envs.sokoban.deadends import dead_squares, is_dead_end
from envs.sokoban.distances import distances
from envs.sokoban.generator import begun, digest, dug, small
from envs.sokoban.search import descended, search

ROOT_SEED = 0
VERSION = 1
"""Of the generator: to be raised whenever an id comes to mean another level."""
SHARES: tuple[Split, ...] = ("train", "train", "eval", "test")
TRIES = 20_000
"""Rooms after which settings are said to have no levels."""
_ID = re.compile(rf"(\d+)x(\d+)-(\d+)/({'|'.join(SPLITS)})/(\d{{6}})")


@dataclass(frozen=True)
class Task:
    """A level, and what is known of it."""

    level: Level
    moves: int
    """That a shortest solution takes."""
    known: Mapping[Position, int] | None
    """Moves from every position that can be solved; None for a room with too many."""
    dead: int
    """The dead squares."""

    def solvable(self, position: Position) -> bool | None:
        """Whether a position can still be solved; None: not known."""
        if self.known is not None:
            return position in self.known
        return False if is_dead_end(self.level.room, position[1], self.dead) else None

    def solution(self) -> list[str]:
        """A shortest one, from the start."""
        room, start = self.level.room, self.level.start
        found = search(room, start) if self.known is None else descended(room, self.known, start)
        assert found is not None
        return found


def split_tasks(config: SokobanConfig, split: Split) -> tuple[str, ...]:
    """The ids of a split's tasks. Raises TaskError."""
    if split not in SPLITS:
        raise TaskError(f"split is '{split}'; allowed: {', '.join(SPLITS)}")
    count = {"train": config.train_tasks, "eval": config.eval_tasks, "test": config.test_tasks}[split]
    return tuple(f"{_kind(config)}/{split}/{number:06d}" for number in range(count))


def split_hash(config: SokobanConfig, split: Split) -> str:
    """16 hex digits: equal hashes mean equal levels in equal order."""
    parts = [str(VERSION), f"{config.shortest}-{config.longest}", *split_tasks(config, split)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def task(config: SokobanConfig, task_id: str) -> Task:
    """The level that an id denotes; levels are kept in memory. Raises TaskError."""
    found = _ID.fullmatch(task_id)
    if not found:
        raise TaskError(f"no task '{task_id}'; ids look like '{_kind(config)}/train/000042'")
    if not task_id.startswith(f"{_kind(config)}/"):
        raise TaskError(
            f"no task '{task_id}': with env.height={config.height}, env.width={config.width} and env.boxes={config.boxes} ids "
            f"look like '{_kind(config)}/train/000042'"
        )
    return _made(config.height, config.width, config.boxes, config.shortest, config.longest, task_id)


def split(task_id: str) -> str:
    """The split of a task that `task` knows."""
    return task_id.split("/")[1]


def _kind(config: SokobanConfig) -> str:
    return f"{config.height}x{config.width}-{config.boxes}"


@lru_cache(maxsize=4096)
def _made(height: int, width: int, boxes: int, shortest: int, longest: int, task_id: str) -> Task:
    """The first room of the task's own sequence that belongs to its split and has a level of that length."""
    rng = generator(ROOT_SEED, "sokoban", task_id)
    for _ in range(TRIES):
        room = dug(height, width, boxes, rng)
        if SHARES[digest(room) % len(SHARES)] != split(task_id):
            continue
        known = distances(room) if small(room) else None
        found = begun(room, known, shortest, longest, rng)
        if found is not None:
            level, moves = found
            return Task(level, moves, known, dead_squares(room))
    raise TaskError(
        f"task {task_id}: none of {TRIES} rooms has a level that needs env.shortest={shortest} to env.longest={longest} moves; "
        "lower env.shortest, raise env.longest, or change env.height, env.width or env.boxes"
    )
