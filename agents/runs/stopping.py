"""Signals that ask a process to end (envs.common.ending), which all mean the same here: stop, with what was done kept.

Only a process's main thread may handle signals; elsewhere nothing changes.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from envs.common import streams
from envs.common.ending import NOTICES, SIGNALS


class Stopped(KeyboardInterrupt):
    """Raised by a signal, wherever the program stands. Libraries may raise KeyboardInterrupt; this is from the user."""


def stop(name: str = "") -> NoReturn:
    """End what is done at once; `name` of the signal."""
    raise Stopped(f"stopped at once{f' by {name}' if name not in ('', 'SIGINT') else ''}")


@contextmanager
def heard(asked: threading.Event | None = None, at_once: Callable[[str], object] = stop) -> Iterator[list[str]]:
    """Within, the first signal sets `asked`, and the user is told; who looks at it then ends when he can.

    A further Ctrl-C, and without `asked` the first signal of any kind, calls `at_once` with the signal's name. Other signals
    ask for nothing new when they are repeated: clusters and `timeout` send them to all processes of a job, of which some pass
    them on. Yields the names of the signals that came.
    """
    came: list[str] = []

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        came.append(name)
        streams.hurry()
        if asked is None or (asked.is_set() and number == signal.SIGINT):
            at_once(name)
        elif not asked.is_set():
            asked.set()
            # Not here: what the signal interrupted may be printing itself.
            announcing.acquire()
            _thread.start_new_thread(_announce, (name, announcing))

    announcing = _thread.allocate_lock()
    with _handling(
        handle, [number for number in SIGNALS if number != signal.SIGINT or asked is not None or not _ignored(number)]
    ):
        yield came
    # A program that ends right after the signal would end before the user is told. Nobody need read it, though.
    announcing.acquire(timeout=streams.PATIENCE)


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Within, every other signal does what Ctrl-C does; event loops end their tasks by it."""

    def handle(number: int, frame: FrameType | None) -> None:
        if _ignored(signal.SIGINT):  # as in what a script has started with &
            stop(signal.Signals(number).name)
        signal.raise_signal(signal.SIGINT)

    with _handling(handle, [number for number in SIGNALS if number != signal.SIGINT]):
        yield


def _announce(name: str, announcing: _thread.LockType) -> None:
    by = "" if name == "SIGINT" else f"{name}: "
    print(f"\n{by}stopping after this iteration, then saving; Ctrl-C again stops at once", file=sys.stderr, flush=True)
    announcing.release()


def _ignored(number: int) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def _handling(handle: Callable[[int, FrameType | None], None], numbers: list[int]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.signal(number, handle) for number in numbers if not _somebody_elses(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _somebody_elses(number: int) -> bool:
    """Notices that are ignored (by nohup), or that a program around this one handles in its own way."""
    handler = signal.getsignal(number)
    return number in NOTICES and handler is not signal.SIG_DFL and getattr(handler, "__module__", "") != __name__
