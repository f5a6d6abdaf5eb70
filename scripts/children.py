"""Processes that a script starts: they get the signals that it gets, and it waits for them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def forwarding(going: Callable[[], Iterable[subprocess.Popen[bytes]]]) -> Iterator[list[int]]:
    """Within, Ctrl-C and SIGTERM are passed on to the processes; the list holds those that came. Leaves no process behind."""
    came: list[int] = []

    def interrupt() -> None:
        for process in going():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)

    def asked(number: int, frame: FrameType | None) -> None:
        came.append(number)
        interrupt()

    before: dict[int, Any] = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        interrupt()
        for process in going():
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
