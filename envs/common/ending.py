"""Signals that ask a process to end: which they are, and processes that leave them to the one that started them.

Ctrl-C is SIGINT; a terminal that is closed sends SIGHUP; `kill`, docker and clusters send SIGTERM, and clusters before they
take a machine away SIGUSR1, SIGUSR2 or SIGXCPU, often to every process of a job.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

NOTICES = [getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU") if hasattr(signal, name)]
"""Sent ahead of the end."""
SIGNALS = [signal.SIGINT, signal.SIGTERM, *NOTICES]


def left_to_parent() -> None:
    """Do nothing at any of them from here on: the parent does, and ends this process when it needs it no more.

    What this process starts itself is not concerned: programs, because no signal is ignored, and forks.
    """
    this = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != this:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, handle)
