"""A worker that is a process: for environments that compute in Python, may hang, or may bring their process down.

It is a fresh interpreter that imports the environment and nothing of the training program. It leads its own process group:
what it started dies with it, and Ctrl-C reaches it only through the parent. A hung or dead one costs its other episodes
`worker_lost`. POSIX only (process groups, passed descriptors).
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

from envs.pool.seats import Command, Outcome, describe
from envs.pool.worker import Worker
from envs.pool.worker_main import HEADER, frame

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from envs.pool.worker_main import main; main(int(sys.argv[1]))"
)


class ProcessWorker(Worker):
    """A worker process. `maker`: the pickled function that makes an environment."""

    def __init__(self, maker: bytes, lost: Callable[[Worker, bool], None]) -> None:
        super().__init__(lost)
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), json.dumps(sys.path)],
                stdin=subprocess.PIPE,  # never written to: it tells the worker that its parent is dead
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={"OMP_NUM_THREADS": "1", **os.environ},
            )
        self._socket.setblocking(False)
        self._end = weakref.finalize(
            self, _end, os.getpid(), self._process, self._socket
        )  # also at exit, if nobody closes the pool
        self._outbox: list[Command] = []
        self._unsent = bytearray(HEADER.pack(len(maker)) + maker)
        self._unread = bytearray()
        self._push()

    @property
    def pid(self) -> int:
        return self._process.pid

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        super().attach(loop)
        loop.add_reader(self._socket, self._receive)
        self._flush()

    def ask_to_end(self) -> None:
        if self._end.alive:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def close(self, deadline: float) -> None:
        busy = bool(self.jobs)
        super().close(deadline)
        if not self._end.alive:
            return
        self._leave_loop()
        self.ask_to_end()
        if not busy:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, deadline - time.monotonic()))
        self._end()

    def _send(self, command: Command) -> None:
        """Commands of one turn of the event loop travel together."""
        if not self._end.alive:
            return
        self._outbox.append(command)
        if len(self._outbox) == 1 and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if not self._end.alive or self._loop is None:
            return
        if self._outbox:
            self._unsent += frame(self._outbox)
            self._outbox = []
        if self._push():
            self._loop.remove_writer(self._socket)
        else:
            self._loop.add_writer(self._socket, self._flush)
        if self._clock is None:
            self._run_clock()

    def _push(self) -> bool:
        """Send what the socket takes now; False if something is left."""
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return False
        except OSError:  # it is dead; reading says so, after what it still answered
            self._unsent.clear()
        return True

    def _run_clock(self) -> None:
        """A job's clock does not run before it is sent: the event loop may be held up in between."""
        unsent = sum(command[0] != "release" for command in self._outbox)
        if len(self.jobs) > unsent:
            super()._run_clock()
        else:
            self._stop_clock()

    def _receive(self) -> None:
        while self._end.alive:
            try:
                chunk = self._socket.recv(1 << 20)
            except BlockingIOError:
                return
            except OSError:
                chunk = b""
            if not chunk:
                self._died()
                return
            self._unread += chunk
            while self._end.alive and (outcome := self._next()) is not None:
                self._answered(outcome)

    def _next(self) -> Outcome | None:
        """The next complete answer, if there is one."""
        if len(self._unread) < HEADER.size:
            return None
        end = HEADER.size + HEADER.unpack_from(self._unread)[0]
        if len(self._unread) < end:
            return None
        body = bytes(self._unread[HEADER.size : end])
        del self._unread[:end]
        try:
            return pickle.loads(body)
        except Exception as error:
            message, trace = describe(error)
            return False, (f"the worker's answer cannot be read: {message}", trace)

    def _died(self) -> None:
        self._leave_loop()
        self._end()
        code = self._process.returncode
        if code is None or code >= 0:
            self._settle("crash", f"the worker process ended with exit code {code}")
        else:
            hint = " (was memory short?)" if -code == signal.SIGKILL else ""
            self._settle("crash", f"the worker process was killed by {signal.Signals(-code).name}{hint}")

    def _give_up(self, detail: str) -> None:
        self._leave_loop()
        self._end()
        self._settle("timeout", detail)

    def _leave_loop(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)


def _end(owner: int, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
    """Kill the process and all that it started, and leave neither a zombie nor a descriptor."""
    if os.getpid() != owner:  # a fork of the owner ends: the workers are not its own
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # only a process stuck in the kernel outlives SIGKILL
        process.wait(5.0)
    channel.close()
    if process.stdin is not None:
        process.stdin.close()
