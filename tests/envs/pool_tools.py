"""What the tests of the pool share: how a slot's faults are caught, and what is left of processes and threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from envs.base import TextEnv
from envs.pool import EpisodeError, Mode, Pool
from tests.envs.toys import CorridorConfig

MODES: list[Mode] = ["inline", "threads", "processes"]


def maker(env: type[TextEnv], **config: Any) -> Callable[[], TextEnv]:
    return partial(_make, env, config)


def _make(env: type[TextEnv], config: dict[str, Any]) -> TextEnv:
    return env(CorridorConfig(**config))  # type: ignore[arg-type, call-arg]


async def fault(call: Any) -> EpisodeError:
    with pytest.raises(EpisodeError) as caught:
        await call
    return caught.value


async def walk(pool: Pool, seed: int, steps: int = 12) -> list[Any]:
    """All that one episode sees."""
    with pool.slot() as env:
        seen: list[Any] = [await env.reset(seed=seed)]
        for step in range(steps):
            seen.append(await env.step(("right", "left", "right", "fly")[(seed + step) % 4]))
            if seen[-1][2] or seen[-1][3]:
                break
        return seen


def children() -> list[int]:
    """Processes started by this one that are alive or zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(entry.name))
    return found


def ends(pid: int) -> bool:
    """Whether the process is gone (or a zombie that awaits init) within some minutes."""
    for _ in range(6000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def environment_threads() -> int:
    return sum(thread.name == "environment worker" for thread in threading.enumerate())
