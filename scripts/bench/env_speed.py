"""Measures ALFWorld's speed in one process: python scripts/bench/env_speed.py [--games DIR] [--json FILE]

Random play over several games with the possible commands read at every step: our engine alone, then what the gymnasium
environment and the pool add, and the official engine where it is installed. Figures are medians of repeats: processor time, and
wall clock for the pool's rows, where two workers and this process share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
from rich.console import Console
from rich.table import Table

import envs
from envs.alfworld import tasks
from envs.alfworld.engine import Engine
from envs.alfworld.env import ALFWorldConfig
from envs.alfworld.game import parse_game
from envs.base import TaskError
from envs.pool import Pool

STEPS = 50
"""Steps of an episode."""


@dataclass
class Row:
    """One line of the table."""

    games: str
    what: str
    steps_per_second: float
    load_ms: float | None = None
    reset_ms: float | None = None


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", type=Path, help="folder of official games, measured beside the generated ones")
    parser.add_argument("--number", type=int, default=12, help="games of each kind (default 12)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--no-pool", action="store_true", help="leave the pool out")
    arguments = parser.parse_args(argv)
    console = Console()
    console.width = max(console.width, 110)
    configs = {f"generated, {size}": ALFWorldConfig(size=size) for size in ("small", "full")}
    if arguments.games:
        configs["official"] = ALFWorldConfig(source="official", data=str(arguments.games))
    rows: list[Row] = []
    try:
        for name, config in configs.items():
            panel = tasks.panel(config, "train").task_ids
            chosen = panel[:: max(1, len(panel) // arguments.number)][: arguments.number]
            rows += measure(name, config, chosen, arguments.repeats, pool=not arguments.no_pool)
    except TaskError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 2
    console.print(_table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0


def measure(name: str, config: ALFWorldConfig, ids: Sequence[str], repeats: int, pool: bool) -> list[Row]:
    """All rows for one kind of games."""
    contents = [tasks.contents(config, task) for task in ids]
    load = _median(repeats, lambda: [parse_game(data, task) for data, task in zip(contents, ids)]) / len(ids)
    engines = [Engine(parse_game(data, task)) for data, task in zip(contents, ids)]
    reset = _median(repeats, lambda: [engine.reset() for engine in engines]) / len(ids)
    episodes = len(ids) * STEPS
    rows = [Row(name, "engine", episodes / _median(repeats, lambda: _play_engines(engines)), load * 1e3, reset * 1e3)]

    settings: dict[str, Any] = {"source": config.source, "size": config.size, "data": config.data, "max_steps": STEPS + 1}
    env = gymnasium.make("stepcredit/ALFWorld-v0", **settings)
    rows.append(Row(name, "gymnasium.make", episodes / _median(repeats, lambda: _play_env(env, ids))))
    if pool:
        make = partial(envs.make, "alfworld", **settings)
        for mode in ("inline", "threads", "processes"):
            rows.append(Row(name, f"pool, {mode}", episodes / asyncio.run(_pool_seconds(make, mode, ids, repeats))))
    official = _official(name, contents[:3], ids[:3])
    return rows + ([official] if official else [])


def _median(repeats: int, work: Callable[[], Any]) -> float:
    """Seconds that `work` takes; a first run is thrown away."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:])


def _play_engines(engines: Sequence[Engine], steps: int = STEPS) -> None:
    rng = random.Random(0)
    for engine in engines:
        engine.reset()
        for _ in range(steps):
            admissible = engine.admissible
            engine.step(admissible[int(rng.random() * len(admissible))])


def _play_env(env: gymnasium.Env[str, str], ids: Sequence[str]) -> None:
    rng = random.Random(0)
    for task in ids:
        _, info = env.reset(seed=0, options={"task": task})
        for _ in range(STEPS):
            actions = info["admissible_actions"]
            _, _, terminated, _, info = env.step(actions[int(rng.random() * len(actions))])
            if terminated:  # as rare as luck; the steps are made up for in the next game
                _, info = env.reset(seed=0, options={"task": task})


async def _pool_seconds(make: Callable[[], Any], mode: Any, ids: Sequence[str], repeats: int) -> float:
    async def episode(pool: Pool, task: str) -> None:
        rng = random.Random(0)
        with pool.slot() as slot:
            _, info = await slot.reset(seed=0, task=task)
            for _ in range(STEPS):
                actions = info["admissible_actions"]
                _, _, terminated, _, info = await slot.step(actions[int(rng.random() * len(actions))])
                if terminated:
                    _, info = await slot.reset(seed=0, task=task)

    seconds = []
    async with Pool(make, workers=2, mode=mode) as pool:
        for _ in range(repeats + 1):
            start = time.perf_counter()
            await asyncio.gather(*(episode(pool, task) for task in ids))
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _official(name: str, contents: Sequence[dict[str, Any]], ids: Sequence[str]) -> Row | None:
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
    return Row(name, "official engine", len(ids) * (STEPS // 2) / seconds, load * 1e3, reset * 1e3)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(
        "games", "what", "steps/s", "us a step", "times official", "load ms", "reset ms", title="ALFWorld, one process"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        official = next((r.steps_per_second for r in rows if r.games == row.games and r.what == "official engine"), None)
        ratio = f"{row.steps_per_second / official:,.0f}" if official else "-"
        times = [f"{value:.2f}" if value is not None else "" for value in (row.load_ms, row.reset_ms)]
        table.add_row(row.games, row.what, f"{row.steps_per_second:,.0f}", f"{1e6 / row.steps_per_second:,.1f}", ratio, *times)
    return table


if __name__ == "__main__":
    sys.exit(main())
