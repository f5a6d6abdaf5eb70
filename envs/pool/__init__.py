"""Runs the environments of many episodes at a time for an asyncio rollout with one coroutine per episode.

    async with Pool(partial(envs.make, "alfworld"), workers=4, mode="processes", step_timeout=30) as pool:
        with pool.slot() as env:
            observation, info = await env.reset(seed=7, task="...")
            observation, reward, terminated, truncated, info = await env.step("look")

Modes: `inline` runs in the caller's thread and adds microseconds, but a hung environment hangs the run: its timeouts are not
kept. `threads` and `processes` keep them: a hung or dead worker is replaced, and the episode at fault gets an EpisodeError. Its
neighbors in the same worker go on (threads) or get `worker_lost` (processes; with as many workers as episodes nobody has
neighbors). Which worker an episode sits in changes nothing about what it sees.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Literal, Protocol, Self, TypeVar, get_args

from envs.base import Reseeded, TextEnv
from envs.pool.processes import ProcessWorker
from envs.pool.seats import Command, Reset, Result, Seats, describe
from envs.pool.threads import ThreadWorker
from envs.pool.worker import EpisodeError, Job, Kind, PoolError, Seat, Worker

__all__ = ["EpisodeError", "Kind", "Mode", "Pool", "PoolError", "Slot"]
Mode = Literal["inline", "threads", "processes"]
R = TypeVar("R")
CLOSE_GRACE = 2.0
"""Seconds that workers get to close their environments before they are ended by force."""


class Slot(Protocol):
    """One environment for one episode after the other."""

    async def reset(self, seed: int | None = None, task: str | None = None) -> Reset:
        """Begin an episode; returns observation and info. Raises EpisodeError, PoolError."""

    async def step(self, action: str) -> Result:
        """Observation, reward, terminated, truncated, info. Raises EpisodeError, after which only `reset` is possible."""

    async def reseed(self, seed: int) -> Reseeded:
        """Let chance go on by `seed` in the middle of the episode; what that changed. Raises EpisodeError as `step` does."""

    def release(self) -> None:
        """Give the environment back; may be called at any time and more than once."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Pool:
    """Environments in `workers` workers; slots are not limited, each new one goes to the worker with the fewest.

    `make` makes one environment; for processes it must be picklable and live in an importable module. Timeouts in seconds count
    from when the worker turns to the call (None: no limit). `counts` holds the EpisodeErrors by kind and `workers_replaced`.
    One pool may serve several event loops, one after the other.
    """

    def __init__(
        self,
        make: Callable[[], TextEnv],
        workers: int = 1,
        mode: Mode = "inline",
        step_timeout: float | None = 30.0,
        reset_timeout: float | None = 120.0,
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"pool mode is {mode!r}; allowed: {', '.join(get_args(Mode))}")
        if workers < 1:
            raise ValueError(f"pool workers is {workers}; it must be at least 1")
        for name, seconds in (("step_timeout", step_timeout), ("reset_timeout", reset_timeout)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"pool {name} is {seconds}; it must be above 0, or None for no limit")
        self.mode = mode
        self.counts: Counter[str] = Counter()
        self.timeouts = {"reset": reset_timeout, "step": step_timeout, "reseed": step_timeout}
        self._make = make
        self._maker = _pickled(make) if mode == "processes" else b""
        self._seats = Seats(make)
        self._numbers = itertools.count()
        self._size = 0 if mode == "inline" else workers
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._workers: list[Worker] = [self._start() for _ in range(self._size)]

    def slot(self) -> Slot:
        """A place for one episode after the other; release it, or use it in a `with`."""
        return _InlineSlot(self, self._seats, next(self._numbers)) if self.mode == "inline" else _WorkerSlot(self)

    def close(self) -> None:
        """End all workers; nothing of them is left, save a thread that hangs. Episodes under way get `worker_lost`."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + CLOSE_GRACE
        for worker in self._workers:
            worker.ask_to_end()
        for worker in self._workers:
            worker.close(deadline)
        self._seats.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    # -- for the slots --------------------------------------------------------------------------------------------------

    def _sit(self) -> Seat:
        """A seat in the worker with the fewest."""
        if self._closed:
            raise PoolError("the pool is closed")
        self._enter_loop()
        while len(self._workers) < self._size:  # some did not start: try again
            self._workers.append(self._start())
        worker = min(self._workers, key=lambda worker: len(worker.seats))
        seat = Seat(next(self._numbers), worker)
        worker.seats.add(seat)
        return seat

    async def _call(self, seat: Seat, command: Command) -> object:
        if self._closed:
            raise PoolError("the pool is closed")
        self._enter_loop()
        assert self._loop is not None
        job = Job(command, self.timeouts[command[0]], seat, self._loop.create_future())
        seat.worker.submit(job)
        assert job.future is not None
        return await job.future

    def _enter_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        self._loop = loop
        for worker in list(self._workers):
            worker.attach(loop)

    def _start(self) -> Worker:
        """Raises PoolError."""
        try:
            worker: Worker = (
                ThreadWorker(self._make, self._lost) if self.mode == "threads" else ProcessWorker(self._maker, self._lost)
            )
        except (OSError, RuntimeError) as error:  # of files, processes or threads there are too many
            raise PoolError(
                f"an environment worker cannot start: {error}. Lower env.pool.workers ({self._size} now), or raise what the "
                "system allows (ulimit -n, ulimit -u)"
            ) from error
        if self._loop is not None:
            worker.attach(self._loop)
        return worker

    def _lost(self, worker: Worker, started: bool) -> None:
        self._workers.remove(worker)
        if started:
            self.counts["workers_replaced"] += 1
            with suppress(PoolError):  # the next episode tries again, and is told
                self._workers.append(self._start())
        else:
            worker.close(time.monotonic() + 0.5)


class _WorkerSlot:
    """A slot whose environment lives in a worker."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._seat: Seat | None = None

    async def reset(self, seed: int | None = None, task: str | None = None) -> Reset:
        if self._seat is not None and self._seat.fault is not None:
            self.release()
        if self._seat is None:
            self._seat = self._pool._sit()
        return await self._call("reset", seed, task)  # type: ignore[return-value]

    async def step(self, action: str) -> Result:
        return await self._call("step", action)  # type: ignore[return-value]

    async def reseed(self, seed: int) -> Reseeded:
        return await self._call("reseed", seed)  # type: ignore[return-value]

    async def _call(self, operation: str, *arguments: object) -> object:
        seat = self._seat
        if seat is None:
            raise RuntimeError(f"{operation}() on a slot without an episode; call reset() first")
        try:
            if seat.fault is not None:
                raise seat.fault.again()
            return await self._pool._call(seat, (operation, seat.number, *arguments))
        except EpisodeError as error:
            self._pool.counts[error.kind] += not seat.counted
            seat.counted = True
            raise

    def release(self) -> None:
        if self._seat is not None:
            self._seat.worker.release(self._seat)
            self._seat = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class _InlineSlot:
    """A slot whose environment is called directly; no await ever waits."""

    def __init__(self, pool: Pool, seats: Seats, number: int) -> None:
        self._pool = pool
        self._seats = seats
        self._number = number
        self._begun = False
        self._fault: EpisodeError | None = None

    async def reset(self, seed: int | None = None, task: str | None = None) -> Reset:
        if self._pool._closed:
            raise PoolError("the pool is closed")
        self._begun, self._fault = True, None
        return self._answered(partial(self._seats.reset, self._number, seed, task))

    async def step(self, action: str) -> Result:
        return self._call("step", partial(self._seats.step, self._number, action))

    async def reseed(self, seed: int) -> Reseeded:
        return self._call("reseed", partial(self._seats.reseed, self._number, seed))

    def _call(self, name: str, operation: Callable[[], R]) -> R:
        if not self._begun:
            raise RuntimeError(f"{name}() on a slot without an episode; call reset() first")
        if self._fault is not None:
            raise self._fault.again()
        return self._answered(operation)

    def _answered(self, operation: Callable[[], R]) -> R:
        try:
            return operation()
        except KeyboardInterrupt:  # the user wants the rollout to end
            raise
        except BaseException as error:
            self._pool.counts["exception"] += 1
            self._fault = EpisodeError("exception", describe(error)[0])
            raise self._fault from error

    def release(self) -> None:
        self._seats.release(self._number)
        self._begun, self._fault = False, None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _pickled(make: Callable[[], TextEnv]) -> bytes:
    try:
        maker = pickle.dumps(make)
    except Exception as error:
        raise PoolError(
            f"mode=processes needs a picklable maker, e.g. functools.partial(envs.make, 'name'); this one is not: {error}"
        ) from error
    if b"__main__" in maker:
        raise PoolError("mode=processes cannot use a maker of the main program; put it into a module that can be imported")
    return maker
