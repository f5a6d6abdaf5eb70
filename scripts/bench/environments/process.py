"""WebShop in processes of its own: seconds until a fresh one has the shop open, and the memory that one and many of them hold.

Run as a program, this file is that fresh process: settings and task ids come as JSON, and what was measured goes back as JSON.
Memory is read where Linux tells it, in /proc. Private is what a process has written (anonymous memory); Pss adds its share of
what it has mapped, so that the sum over processes is what they hold together.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any


@dataclass
class Opening:
    """How long a fresh process takes; wall time, and of import and opening processor time too."""

    source: str
    index: str
    """cold: the search index is not there yet and is built; warm: it is there."""
    import_s: float
    import_cpu_s: float
    open_s: float
    open_cpu_s: float
    first_query_ms: float


@dataclass
class Size:
    """What processes hold, in MB."""

    source: str
    processes: int
    after: str
    private_mb: float
    pss_mb: float


def measure(settings: dict[str, Any], ids: Sequence[str]) -> dict[str, Any]:
    """What a fresh process says that opens the shop and plays an episode of each task. Raises TaskError."""
    from envs.base import TaskError

    if not Path("/proc/self/smaps_rollup").is_file():
        raise TaskError("memory is read in /proc/PID/smaps_rollup, which is not there: measure on Linux")
    command = [sys.executable, "-m", "environments.process", json.dumps([settings, list(ids)])]
    said = json.loads(subprocess.run(command, cwd=Path(__file__).parents[1], check=True, stdout=subprocess.PIPE).stdout)
    if "error" in said:
        raise TaskError(said["error"])
    return said


def opening(source: str, index: str, measured: Sequence[dict[str, Any]]) -> Opening:
    """The row of several such processes: medians."""
    keys = ("import_s", "import_cpu_s", "open_s", "open_cpu_s", "first_query_ms")
    return Opening(source, index, *(statistics.median(one[key] for one in measured) for key in keys))


def sizes(source: str, measured: dict[str, Any]) -> list[Size]:
    """The rows of one such process."""
    return [Size(source, 1, after, *memory) for after, memory in measured["memory"].items()]


def size_of_workers(source: str, settings: dict[str, Any], task_ids: Sequence[str], workers: int, episodes: int) -> Size:
    """The row of a pool's processes, each of which has played."""
    import envs
    from environments.play import play_slot
    from envs.pool import Pool

    async def visits(pool: Pool, worker: int) -> Any:
        slot = pool.slot()  # kept until all have played: the next one goes to another worker
        for number in range(worker * episodes, (worker + 1) * episodes):
            await play_slot(slot, task_ids[number % len(task_ids)], number)
        return slot

    async def measured() -> list[tuple[float, float]]:
        async with Pool(partial(envs.make, "webshop", **settings), workers=workers, mode="processes") as pool:
            await asyncio.gather(*(visits(pool, worker) for worker in range(workers)))
            return [memory(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]

    held = asyncio.run(measured())
    assert len(held) == workers
    private, pss = map(sum, zip(*held))
    return Size(source, workers, f"{episodes} episodes each", private, pss)


def memory(pid: str = "self") -> tuple[float, float]:
    """Private memory and Pss of a process, in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(number) for name, number, _ in map(str.split, lines)}
    return kib["Anonymous:"] * 1024 / 1e6, kib["Pss:"] * 1024 / 1e6


def main() -> None:
    """The fresh process. Imports nothing of the environment before it measures that."""
    settings, ids = json.loads(sys.argv[1])
    held = {"start": memory()}
    import_s, import_cpu_s = _seconds(lambda: importlib.import_module("envs.webshop.env"))
    held["import"] = memory()
    from envs.base import TaskError
    from envs.webshop.config import WebShopConfig
    from envs.webshop.env import WebShopEnv

    env = WebShopEnv(WebShopConfig(**settings))
    try:
        open_s, open_cpu_s = _seconds(lambda: env.shop)
    except TaskError as error:
        print(json.dumps({"error": str(error)}))
        return
    held["opening the shop"] = memory()
    first_query_s, _ = _seconds(lambda: env.shop.search(env.shop.goals[0].instruction.lower()))
    if ids:
        from environments.play import play

        play(env, ids)
        held[f"{len(ids)} episodes"] = memory()
    seconds = {"import_s": import_s, "import_cpu_s": import_cpu_s, "open_s": open_s, "open_cpu_s": open_cpu_s}
    print(json.dumps({**seconds, "first_query_ms": first_query_s * 1e3, "memory": held}))


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor time."""
    began = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began[0], time.process_time() - began[1]


if __name__ == "__main__":
    main()
