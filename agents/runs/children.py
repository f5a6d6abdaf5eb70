"""Processes of this project that another one starts and waits for: signals are passed on, and nobody is left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from types import FrameType, TracebackType
from typing import Any

from envs.common.ending import SIGNALS

Child = subprocess.Popen[bytes]
PR_SET_PDEATHSIG = 1
"""Linux: the signal that a process gets when its parent dies."""


class Children:
    """A context within which signals that ask this process to end are passed on to its children, and so is Ctrl-Z.

    When it is left, children that still run are interrupted and waited for. Where this process is killed, they are terminated
    (on Linux); a training takes either as the wish to be saved.
    """

    def __init__(self) -> None:
        self.came: list[int] = []
        """Signals that asked to end."""
        self._running: list[Child] = []
        self._before: dict[int, Any] = {}

    def start(self, module: str, words: Sequence[str], **settings: Any) -> Child:
        """`python -m module words` in a session of its own, so that Ctrl-C reaches it once. settings: of subprocess.Popen.

        The folder of the start is on the child's path only if it is on this one's: packages there may have our names.
        """
        interpreter = [sys.executable, *["-P"] * {"", os.getcwd()}.isdisjoint(sys.path)]
        begin = partial(_begin, os.getpid(), _libc())
        command = [*interpreter, "-m", module, *words]
        child = subprocess.Popen(command, start_new_session=True, preexec_fn=begin, **settings)
        self._running = [one for one in self._running if one.poll() is None] + [child]
        if self.came:  # while it was being started
            child.send_signal(self.came[-1])
        return child

    def __enter__(self) -> Children:
        handlers: dict[int, Any] = dict.fromkeys(SIGNALS, self._end) | {signal.SIGTSTP: self._pause}
        for number, handler in handlers.items():
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self.came:
            self._send(signal.SIGINT)
        for child in self._running:
            child.wait()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _send(self, number: int) -> None:
        for child in self._running:
            child.send_signal(number)  # nothing, if it has ended

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.came.append(number)
        self._send(number)

    def _pause(self, number: int, frame: FrameType | None) -> None:
        self._send(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._send(signal.SIGCONT)


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def _begin(parent: int, libc: ctypes.CDLL | None) -> None:
    """In the child, before its program."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it; the child hears it from us only
    if libc is not None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)
