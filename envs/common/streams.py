"""Standard output and error that never raise: what cannot be shown is lost, and the program goes on.

A reader may go away (`| head`, `| tee` at Ctrl-C), a disk be full, a terminal or a stream be closed. Whoever prints need not
think of it while `guarded` lasts: libraries, tables that redraw themselves and handlers of signals neither. A reader who does
not read (a pager, Ctrl-S) is waited for, until the program is asked to end.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 2.0
"""Seconds that a reader who does not read holds up a program that was asked to end."""
LOOK = 0.2
"""Seconds after which it is looked whether it was."""
_ending = threading.Event()
_lost: dict[str, OSError] = {}
"""Why a stream shows nothing any more, by its name."""


class _Display(io.RawIOBase):
    """A descriptor of which every write succeeds. After the first that does not, the descriptor leads to the null device."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name, self._descriptor = f"<{name}>", descriptor
        self._stream = name

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        while True:
            try:
                self._wait()
                # There is room for so much, and a larger piece would be waited for in the system.
                return os.write(self._descriptor, data[: select.PIPE_BUF])
            except BlockingIOError:  # another program that has this pipe or terminal does not wait for it
                continue
            except OSError as error:
                self.lose(error)

    def _wait(self) -> None:
        """Until something can be written. Raises TimeoutError where the program was asked to end and nobody reads."""
        until = None
        while not select.select([], [self._descriptor], [], LOOK)[1]:
            if _ending.is_set():
                until = until or time.monotonic() + PATIENCE
                if time.monotonic() > until:
                    raise TimeoutError(errno.ETIMEDOUT, "nobody read it")

    def lose(self, error: OSError) -> None:
        """Show nothing from here on, neither from Python nor from what writes to the descriptor itself."""
        _lost.setdefault(self._stream, error)
        nothing = os.open(os.devnull, os.O_WRONLY)
        if nothing == self._descriptor:  # which somebody has closed
            os.set_inheritable(nothing, True)
            return
        os.dup2(nothing, self._descriptor)
        os.close(nothing)


class _Stream(io.TextIOWrapper):
    """One that stays open, whoever closes it: others print, too."""

    def close(self) -> None:
        self.flush()


@contextmanager
def guarded() -> Iterator[None]:
    """Within, sys.stdout and sys.stderr never raise. Streams of somebody else's (a notebook's, a test's) are left alone."""
    _open_closed()
    _ending.clear()
    before: dict[str, tuple[Any, io.TextIOWrapper]] = {}
    try:
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            old = getattr(sys, name)
            if old is None or (type(old) is io.TextIOWrapper and _leads_to(old, descriptor)):
                before[name] = old, _guard(name, descriptor, old)
                setattr(sys, name, before[name][1])
        yield
    finally:
        for name, (old, guard) in before.items():
            guard.flush()
            if name == "stdout":
                _tell_loss()
            setattr(sys, name, old)


def hurry() -> None:
    """The program was asked to end: who does not read what it prints holds it up no more."""
    _ending.set()


def lost(name: str) -> OSError | None:
    """Why stdout or stderr shows nothing any more; None while it does."""
    return _lost.get(name)


def code() -> int:
    """Exit code of a command whose work is what it prints: 1 if that could not be written. A reader who left is no failure."""
    sys.stdout.flush()
    return int(_failed())


def _failed() -> bool:
    error = lost("stdout")
    return error is not None and not isinstance(error, BrokenPipeError)


def _tell_loss() -> None:
    if _failed():
        reason = "the terminal was closed" if _lost["stdout"].errno == errno.EIO else _lost["stdout"].strerror
        print(f"warning: not all that was to be shown could be written to standard output: {reason}", file=sys.stderr)


def _leads_to(stream: io.TextIOWrapper, descriptor: int) -> bool:
    if stream.closed or isinstance(getattr(stream.buffer, "raw", None), _Display):
        return False
    try:
        return stream.fileno() == descriptor
    except OSError:  # it is in memory
        return False


def _guard(name: str, descriptor: int, old: io.TextIOWrapper | None) -> io.TextIOWrapper:
    if old is None:  # closed from the start: the descriptor may be another file's by now
        return open(os.devnull, "w", encoding="utf-8")
    display = _Display(name, descriptor)
    try:
        old.flush()
    except OSError as error:
        display.lose(error)
    at_lines = old.line_buffering or old.write_through
    errors = "backslashreplace" if old.errors == "strict" else old.errors  # letters that the terminal's encoding has not
    return _Stream(io.BufferedWriter(display), encoding=old.encoding, errors=errors, line_buffering=at_lines)


def _open_closed() -> None:
    """Open what was closed from the start (`>&-`): else the next file that is opened gets what is printed written into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
