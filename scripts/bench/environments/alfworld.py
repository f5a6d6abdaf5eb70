"""ALFWorld: our engine alone, what the gymnasium environment and the pool add, and the official engine where it is there."""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import gymnasium

import envs
from environments.play import Row, median_speed, play, pool_speed
from envs.alfworld import tasks
from envs.alfworld.config import ALFWorldConfig
from envs.alfworld.engine import Engine
from envs.alfworld.game import parse_game
from envs.pool import Mode

STEPS = 50
"""Steps of an episode."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line beside what all environments have."""
    parser.add_argument(
        "--games", type=Path, metavar="DIR", help="folder of official games, measured beside the generated ones"
    )


def measure(options: argparse.Namespace) -> dict[str, list[Any]]:
    """Rows by the title of their table. Raises TaskError."""
    configs = {f"generated, {size}": ALFWorldConfig(size=size) for size in ("small", "full")}
    if options.games:
        configs["official"] = ALFWorldConfig(source="official", data=str(options.games))
    rows: list[Row] = []
    for source, config in configs.items():
        task_ids = tasks.split_tasks(config, "train")
        chosen = task_ids[:: max(1, len(task_ids) // options.number)][: options.number]
        rows += _rows(source, config, chosen, options.repeats, options.pool)
    return {"ALFWorld, one process": rows}


def _rows(source: str, config: ALFWorldConfig, ids: Sequence[str], repeats: int, pool: bool) -> list[Row]:
    """All rows for one kind of games."""
    contents = [tasks.contents(config, task) for task in ids]
    load = _median(repeats, lambda: [parse_game(data, task) for data, task in zip(contents, ids)]) / len(ids)
    engines = [Engine(parse_game(data, task)) for data, task in zip(contents, ids)]
    reset = _median(repeats, lambda: [engine.reset() for engine in engines]) / len(ids)
    rounds = [ids] * (repeats + 1)
    rows = [Row(source, "engine", median_speed(rounds, lambda _: _play(engines)), None, load * 1e3, reset * 1e3)]

    settings: dict[str, Any] = {"source": config.source, "size": config.size, "data": config.data, "max_steps": STEPS}
    env = gymnasium.make("stepcredit/ALFWorld-v0", **settings)
    rows.append(Row(source, "gymnasium.make", median_speed(rounds, partial(play, env))))
    if pool:
        make = partial(envs.make, "alfworld", **settings)
        rows += [Row(source, f"pool, {mode}", pool_speed(rounds, make, mode)) for mode in get_args(Mode)]
    official = _official(source, contents[:3], ids[:3])
    if official:
        rows.append(official)
        for row in rows:
            row.times_official = row.steps_per_second / official.steps_per_second
    return rows


def _median(repeats: int, work: Callable[[], Any]) -> float:
    """Seconds that `work` takes; a first run is thrown away."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:])


def _play(engines: Sequence[Engine]) -> int:
    rng = random.Random(0)
    for engine in engines:
        engine.reset()
        for _ in range(STEPS):
            admissible = engine.admissible
            engine.step(admissible[int(rng.random() * len(admissible))])
    return len(engines) * STEPS


def _official(source: str, contents: Sequence[dict[str, Any]], ids: Sequence[str]) -> Row | None:
    try:
        from envs.alfworld.textworld_backend import TextWorldEngine, require

        require()
    except ImportError:
        return None
    start = time.process_time()
    engines = [TextWorldEngine(data, task) for data, task in zip(contents, ids)]
    load = (time.process_time() - start) / len(ids)
    start = time.process_time()
    for engine in engines:
        engine.reset()
    reset = (time.process_time() - start) / len(ids)
    start = time.process_time()
    rng = random.Random(0)
    for engine in engines:
        for _ in range(STEPS // 2):
            engine.step(engine.admissible[int(rng.random() * len(engine.admissible))])
    seconds = time.process_time() - start
    for engine in engines:
        engine.close()
    return Row(source, "official engine", len(ids) * (STEPS // 2) / seconds, None, load * 1e3, reset * 1e3)
