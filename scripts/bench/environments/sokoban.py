"""Sokoban: the rules alone, and what words, state keys and the pool add."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import gymnasium

import envs
from environments.play import Row, median_speed, play, pool_speed
from envs.pool import Mode
from envs.sokoban.config import SokobanConfig
from envs.sokoban.tasks import split_tasks, task

SIZES = ("6x6-1", "7x7-2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line beside what all environments have."""
    parser.add_argument(
        "--sizes", nargs="+", default=SIZES, help=f"rows x columns - boxes to be measured (default: {' '.join(SIZES)})"
    )


def measure(options: argparse.Namespace) -> dict[str, list[Any]]:
    """Rows by the title of their table. Raises TaskError."""
    return {"Sokoban": [row for size in options.sizes for row in _size(size, options)]}


def _size(size: str, options: argparse.Namespace) -> list[Row]:
    height, width, boxes = map(int, size.replace("-", "x").split("x"))
    settings: dict[str, Any] = {"height": height, "width": width, "boxes": boxes, "max_steps": 15 * boxes}
    config = SokobanConfig(**settings)
    # The same levels in every round: their making is measured by itself.
    rounds = [split_tasks(config, "train")[: options.number] * 20] * (options.repeats + 1)
    rows = [Row(size, "rules", median_speed(rounds, partial(_rules, config)))]
    for observation in ("grid", "coordinates", "both"):
        env = gymnasium.make("stepcredit/Sokoban-v0", observation=observation, **settings)
        rows.append(Row(size, f"gymnasium.make, {observation}", median_speed(rounds, partial(play, env))))
    if options.pool:
        make = partial(envs.make, "sokoban", **settings)
        rows += [Row(size, f"pool, {mode}", pool_speed(rounds, make, mode)) for mode in get_args(Mode)]
    return rows


def _rules(config: SokobanConfig, ids: Sequence[str]) -> int:
    """An episode of each task without texts: moves that are possible, the next position, boxes on targets, whether it can still
    be solved. Returns the number of steps."""
    steps = 0
    for number, task_id in enumerate(ids):
        rng = random.Random(f"{task_id} {number}")
        level = task(config, task_id)
        room, position = level.level.room, level.level.start
        for _ in range(config.max_steps):
            actions = room.moves(position)
            after = room.moved(position, actions[int(rng.random() * len(actions))])
            assert after is not None
            steps += 1
            if after[1] != position[1]:
                level.solvable(after)
                if room.placed(after[1]) == config.boxes:
                    break
            position = after
    return steps
