"""A worker that is a thread: for environments that wait or compute outside the interpreter's lock.

A thread cannot be killed. A hung one is abandoned (it ends by itself once its call returns, without touching anything) and a
new thread takes over its other environments, whose episodes go on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from envs.base import TextEnv
from envs.pool.seats import Command, Outcome, Seats
from envs.pool.worker import EpisodeError, Worker

log = logging.getLogger(__name__)


class ThreadWorker(Worker):
    """A daemon thread with its environments."""

    def __init__(self, make: Callable[[], TextEnv], lost: Callable[[Worker, bool], None]) -> None:
        super().__init__(lost)
        self._run = _Run(Seats(make), self._wake)
        self._run.commands.put(("warm_up",))

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        super().attach(loop)
        self._receive()

    def ask_to_end(self) -> None:
        self._run.commands.put(None)

    def close(self, deadline: float) -> None:
        super().close(deadline)
        self.ask_to_end()
        self._run.thread.join(max(0.0, deadline - time.monotonic()))
        if self._run.thread.is_alive():
            self._run.abandon(force=True)
            log.warning("an environment hangs in a thread, which cannot be ended; mode=processes can end it")

    def _send(self, command: Command) -> None:
        self._run.commands.put(command)

    def _wake(self) -> None:
        """Called in the worker's thread: an answer is there."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop was closed meanwhile: the next one receives on attach
                self._loop.call_soon_threadsafe(self._receive)

    def _receive(self) -> None:
        while self._run.outcomes:
            self._answered(self._run.outcomes.popleft())

    def _give_up(self, detail: str) -> None:
        hung = self.jobs[0]
        if hung.seat is None:
            self._run.abandon(force=True)
            self._settle("timeout", detail)
            return
        if not self._run.abandon():
            self._receive()  # it answered in this very moment
            return
        log.warning("an environment hangs in a thread, which is abandoned: %s", detail)
        self.jobs.popleft().fail(EpisodeError("timeout", detail))
        self.jobs = deque(job for job in self.jobs if job.seat in self.seats)  # the others were given up meanwhile
        kept = {seat.number for seat in self.seats if seat is not hung.seat}
        self._run = _Run(self._run.seats.hand_over(kept, hung.seat.number), self._wake)
        for job in self.jobs:
            self._run.commands.put(job.command)
        self._run_clock()


class _Run:
    """The thread and what it shares with the event loop. After `abandon` it starts no command and reports nothing."""

    def __init__(self, seats: Seats, wake: Callable[[], None]) -> None:
        self.seats = seats
        self.commands: SimpleQueue[Command | None] = SimpleQueue()
        self.outcomes: deque[Outcome] = deque()
        self._wake = wake
        self._lock = threading.Lock()
        self._abandoned = False
        self.thread = threading.Thread(target=self._serve, name="environment worker", daemon=True)
        self.thread.start()

    def abandon(self, force: bool = False) -> bool:
        """Give the thread up; False if it has just answered what it was at (then `force` decides)."""
        with self._lock:
            if self.outcomes and not force:
                return False
            self._abandoned = True
            return True

    def _serve(self) -> None:
        while (command := self.commands.get()) is not None:
            with self._lock:
                if self._abandoned:
                    return
            outcome = self.seats.run(command)
            with self._lock:
                if self._abandoned:
                    return
                if command[0] != "release":
                    self.outcomes.append(outcome)
                    self._wake()
        self.seats.close()
