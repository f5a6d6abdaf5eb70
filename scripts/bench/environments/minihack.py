"""MiniHack: what words, milestones and state keys cost beside the game itself, and what a pool makes of it.

Rows "MiniHack itself" take random commands in the bare game, whose arrays nobody reads; `times_official` compares with them.
What the game asks is answered by chance there, and with one of the answers in the others.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import gymnasium

import envs
from environments.play import Row, median_speed, play, pool_speed
from envs.minihack.config import MiniHackConfig
from envs.minihack.env import MiniHackEnv
from envs.minihack.game import KEYS, Game, Seeds, load
from envs.pool import Mode

LEVELS = ("KeyRoom-S5", "Room-Ultimate-15x15", "Quest-Medium")
MAX_STEPS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line beside what all environments have."""
    parser.add_argument("--levels", nargs="+", default=LEVELS, help=f"levels to be measured (default: {' '.join(LEVELS)})")


def measure(options: argparse.Namespace) -> dict[str, list[Any]]:
    """Rows by the title of their table. Raises TaskError."""
    return {"MiniHack": [row for level in options.levels for row in _level(level, options)]}


def _level(level: str, options: argparse.Namespace) -> list[Row]:
    task_ids = MiniHackEnv(MiniHackConfig([level])).tasks("train")
    rounds = [task_ids[options.number * n : options.number * (n + 1)] for n in range(options.repeats + 1)]
    commands = [*Game(level).actions.values()]
    official = median_speed(rounds, partial(_bare, _official(level), commands))
    rows = [Row(level, "MiniHack itself", official)]
    settings: dict[str, Any] = {"levels": [level], "max_steps": MAX_STEPS}
    short = {"map": "none", "legend": False}
    for what, own in (("cropped map", {}), ("full map", {"map": "full"}), ("no map", short)):
        env = gymnasium.make("stepcredit/MiniHack-v0", **settings, **own)
        speed = median_speed(rounds, partial(play, env))
        rows.append(Row(level, f"gymnasium.make, {what}", speed, speed / official))
    if options.pool:
        make = partial(envs.make, "minihack", **settings)
        rows += [Row(level, f"pool, {mode}", pool_speed(rounds, make, mode)) for mode in get_args(Mode)]
    return rows


def _official(level: str) -> Any:
    return load().make(f"MiniHack-{level}-v0", observation_keys=KEYS, fix_moon_phase=True).unwrapped


def _bare(official: Any, commands: Sequence[int], ids: Sequence[str]) -> int:
    """An episode of each task in the game alone; returns the number of steps."""
    steps = 0
    for number, task in enumerate(ids):
        rng = random.Random(f"{task} {number}")
        official.seed(*Seeds.of(task), reseed=False)
        official.reset()
        for _ in range(MAX_STEPS):
            _, _, over, _, _ = official.step(commands[int(rng.random() * len(commands))])
            steps += 1
            if over:
                break
    return steps
