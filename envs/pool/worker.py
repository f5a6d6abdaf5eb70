"""One worker as the rollout sees it: a queue of jobs, a clock on the job in turn, and what happens when it hangs or dies.

A worker does its jobs one after the other and answers in that order. So the first open job is the one it is at: only that one's
clock runs, and only that one is to blame. Everything here runs in the event loop's thread; which worker gets a job is left to
`envs.pool`, and what a job does to `envs.pool.seats`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from envs.pool.seats import Command, Outcome

Kind = Literal["timeout", "crash", "exception", "worker_lost"]
START_TIMEOUT = 120.0
"""Seconds for a worker to start, import the environment and make the first one."""


class EpisodeError(RuntimeError):
    """One episode cannot go on. `kind`: timeout (it hung), crash (it killed its worker, or that died of itself), exception (it
    raised, or answered what the contract forbids), worker_lost (another episode of the same worker hung or crashed). It is no
    failure of the agent and never a success."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: Kind = kind
        self.detail = detail

    def again(self) -> EpisodeError:
        """An equal error to be raised elsewhere (a raised one collects tracebacks)."""
        return EpisodeError(self.kind, self.detail)

    def __reduce__(self) -> tuple[type[EpisodeError], tuple[Kind, str]]:
        return type(self), (self.kind, self.detail)


class PoolError(RuntimeError):
    """No worker can be started or the environment cannot be made: no episode's fault, so the run must stop."""


@dataclass(slots=True, eq=False)
class Seat:
    """Where one slot's environment lives."""

    number: int
    worker: Worker
    fault: EpisodeError | None = None
    counted: bool = False
    """Whether the fault has been raised to its episode."""


@dataclass(slots=True, eq=False)
class Job:
    """A command under way. The start of a worker is a job without a seat and a future."""

    command: Command
    timeout: float | None
    seat: Seat | None = None
    future: asyncio.Future[Any] | None = None

    def fail(self, error: Exception) -> None:
        if self.seat is not None and isinstance(error, EpisodeError):
            self.seat.fault = error
        if self.future is not None and not self.future.done():
            self.future.set_exception(error)


class Worker(ABC):
    """The part that does not depend on thread or process: the queue and the clock."""

    def __init__(self, lost: Callable[[Worker, bool], None]) -> None:
        self.seats: set[Seat] = set()
        self.jobs: deque[Job] = deque([Job(("start",), START_TIMEOUT)])
        self._lost = lost
        """Told once when the worker is gone, with False if it did not even start."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock: asyncio.TimerHandle | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Go on in `loop`, after the loop used before (if any) was closed."""
        self._loop = loop
        self._run_clock()

    def submit(self, job: Job) -> None:
        """Queue a job behind those under way."""
        self.jobs.append(job)
        self._send(job.command)
        if len(self.jobs) == 1:
            self._run_clock()

    def release(self, seat: Seat) -> None:
        """Give `seat` up once its jobs under way are done; nothing is answered."""
        self.seats.discard(seat)
        self._send(("release", seat.number))

    @abstractmethod
    def ask_to_end(self) -> None:
        """Let the worker close its environments and end when it has done its jobs; does not wait."""

    def close(self, deadline: float) -> None:
        """End the worker for good, by force after `deadline` (on time.monotonic's clock)."""
        self._stop_clock()
        while self.jobs:
            self.jobs.popleft().fail(EpisodeError("worker_lost", "the pool was closed"))

    @abstractmethod
    def _send(self, command: Command) -> None: ...

    @abstractmethod
    def _receive(self) -> None:
        """Take all answers that are there."""

    @abstractmethod
    def _give_up(self, detail: str) -> None:
        """The job in turn hangs: end the worker, and settle its jobs and seats."""

    def _answered(self, outcome: Outcome) -> None:
        job = self.jobs.popleft()
        good, value = outcome
        if job.seat is None:
            if not good:
                self._not_started(value[0], value[1])
                return
        elif not good:
            error = EpisodeError("exception", value[0])
            error.add_note(value[1])
            job.fail(error)
        elif job.future is not None and not job.future.done():
            job.future.set_result(value)
        self._run_clock()

    def _settle(self, kind: Kind, detail: str) -> None:
        """The worker is gone while at the job in turn: that one gets `kind`, its neighbors `worker_lost`. If it was at none,
        nobody is to blame: all get `kind`, so that one that dies again and again does not go on for ever."""
        self._stop_clock()
        jobs, self.jobs = self.jobs, deque()
        if jobs and jobs[0].seat is None:
            self._not_started(detail, jobs=jobs)
            return
        if jobs:
            jobs.popleft().fail(EpisodeError(kind, detail))
            neighbor = EpisodeError("worker_lost", f"the worker of this episode is gone ({kind} of another one: {detail})")
        else:
            neighbor = EpisodeError(kind, f"{detail}, at no episode's step")
        for job in jobs:
            job.fail(neighbor.again())
        for seat in self.seats:
            seat.fault = seat.fault or neighbor
        self._lost(self, True)

    def _not_started(self, message: str, trace: str = "", jobs: Iterable[Job] = ()) -> None:
        error = PoolError(f"an environment worker cannot start: {message}")
        if trace:
            error.add_note(trace)
        jobs = [*jobs, *self.jobs]
        self.jobs.clear()
        for job in jobs:
            job.fail(error)
        for seat in self.seats:
            seat.fault = EpisodeError("worker_lost", str(error))
        self._lost(self, False)

    def _run_clock(self) -> None:
        self._stop_clock()
        if self._loop is not None and self.jobs and self.jobs[0].timeout is not None:
            self._clock = self._loop.call_later(self.jobs[0].timeout, self._overdue, self.jobs[0])

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _overdue(self, job: Job) -> None:
        self._receive()  # the answer may be there while the event loop itself was held up
        if self.jobs and self.jobs[0] is job:
            self._give_up(f"'{job.command[0]}' took more than {job.timeout:g} s")
