"""Random play that is timed: episodes of possible actions, through gymnasium or through the pool, and what a row says of them.

Chance depends on the task and on the episode's number, so that an environment's rows play the same episodes.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gymnasium

from envs.base import TextEnv
from envs.pool import Mode, Pool, Slot

Rounds = Sequence[Sequence[str]]
"""Task ids of the episodes of each round. The first round is not counted: it opens and warms what is opened and warmed once."""


@dataclass
class Row:
    """How fast one thing is."""

    source: str
    """Where the tasks come from."""
    what: str
    steps_per_second: float
    times_official: float | None = None
    load_ms: float | None = None
    reset_ms: float | None = None


def median_speed(rounds: Rounds, play: Callable[[Sequence[str]], int]) -> float:
    """Steps in a second of processor time; `play` plays an episode of each task and returns how many steps that took."""
    speeds = []
    for ids in rounds:
        start = time.process_time()
        speeds.append(play(ids) / (time.process_time() - start))
    return statistics.median(speeds[1:])


def play(env: gymnasium.Env[str, str], ids: Sequence[str]) -> int:
    """An episode of each task, one after the other; returns the number of steps."""
    steps = 0
    for number, task in enumerate(ids):
        rng = random.Random(f"{task} {number}")
        _, info = env.reset(seed=0, options={"task": task})
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(_choice(info["admissible_actions"], rng))
            over = terminated or truncated
            steps += 1
    return steps


async def play_slot(slot: Slot, task: str, number: int) -> int:
    """The same episode as `play`'s, in a pool."""
    rng, steps = random.Random(f"{task} {number}"), 0
    _, info = await slot.reset(seed=0, task=task)
    over = False
    while not over:
        _, _, terminated, truncated, info = await slot.step(_choice(info["admissible_actions"], rng))
        over = terminated or truncated
        steps += 1
    return steps


def pool_speed(rounds: Rounds, make: Callable[[], TextEnv], mode: Mode) -> float:
    """Steps in a second of wall time with all episodes of a round under way at once, in two workers."""

    async def episode(pool: Pool, task: str, number: int) -> int:
        with pool.slot() as slot:
            return await play_slot(slot, task, number)

    async def measure() -> list[float]:
        speeds = []
        async with Pool(make, workers=2, mode=mode) as pool:
            for ids in rounds:
                start = time.perf_counter()
                steps = await asyncio.gather(*(episode(pool, task, number) for number, task in enumerate(ids)))
                speeds.append(sum(steps) / (time.perf_counter() - start))
        return speeds

    return statistics.median(asyncio.run(measure())[1:])


def _choice(actions: Sequence[str], rng: random.Random) -> str:
    return actions[int(rng.random() * len(actions))]
