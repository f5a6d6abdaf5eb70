"""Faults that are injected into real commands: readers that go away, full devices, closed streams and terminals, signals.

Each function runs a command with one fault and returns how it ended. What must be left is said by the tests that call it.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.runs.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[1]
GAMES = ["env=alfworld", "env.train_games=12", "env.eval_games=6", "env.test_games=6", "env.max_steps=4", "threads=1"]
LEARNING = [
    "model=tiny",
    "model.tiny.hidden=32",
    "model.tiny.layers=1",
    "warmstart.enabled=false",
    "rollout.groups=1",
    "rollout.group_size=2",
    "evaluation.before=false",
    "evaluation.after=false",
    "evaluation.every=0",
    "checkpoint.every=1000",
]
TINY = [*GAMES, *LEARNING]
"""A training whose iterations take a moment; only its end saves, so that what is saved late is seen."""
LONG = "iterations=1000000"


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what of its output was still read."""

    code: int
    out: str = ""
    err: str = ""


def module(name: str, *words: str) -> list[str]:
    """The command `python -m name words`."""
    return [sys.executable, "-m", name, *words]


def has_done(run: Path, iteration: int) -> Callable[[], bool]:
    """Whether a run has come as far as an iteration."""
    file = run / "metrics.jsonl"
    return lambda: file.exists() and any(row["iteration"] >= iteration for row in read_metrics(file))


def start(command: Sequence[str], **settings: Any) -> subprocess.Popen[str]:
    """The command as a terminal starts it: in a process group of its own, and Ctrl-C counts. settings: of Popen."""
    usual: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT, "text": True}
    if "preexec_fn" not in settings:
        usual |= {"process_group": 0, "preexec_fn": hear_signals}
    return subprocess.Popen(list(command), **{**usual, **settings})


def hear_signals() -> None:
    """A shell's background job ignores Ctrl-C and nohup's a closed terminal, and what they start inherits that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_until(met: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not met():
        assert process.poll() is None, f"ended early: {process.communicate()}"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether there is such a process; one that is dead and waits to be counted by a new parent is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def unread(process: subprocess.Popen[str]) -> int:
    """Bytes that wait in the pipe from its standard output."""
    assert process.stdout is not None
    return int.from_bytes(fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)), sys.byteorder)


def ended(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate()
    return Ended(process.returncode, out or "", err or "")


def reader_leaves(command: Sequence[str], after: str | None = None) -> Ended:
    """`command | head`: the reader leaves after a line that begins as said; None: before it has read anything."""
    process = start(command)
    assert process.stdout is not None
    assert process.stderr is not None
    read = [""]
    while after is not None and not (read[-1] and read[-1].startswith(after)):
        read.append(process.stdout.readline())
        assert read[-1], process.communicate()
    process.stdout.close()
    err = process.stderr.read()
    return Ended(process.wait(), "".join(read), err)


def device_full(command: Sequence[str], *streams: str) -> Ended:
    """`command > /dev/full`; streams: stdout, stderr or both."""
    with open("/dev/full", "w") as full:
        return ended(start(command, **dict.fromkeys(streams, full)))


def streams_closed(command: Sequence[str], *descriptors: int) -> Ended:
    """`command >&-`: the descriptors are closed when it starts."""
    closing = " ".join(f"{number}>&-" for number in descriptors)
    return ended(start(["/bin/sh", "-c", f'exec "$@" {closing}', "sh", *command]))


def teed_and_interrupted(command: Sequence[str], until: Callable[[], bool]) -> Ended:
    """`command | tee log`, then Ctrl-C, which a terminal sends to both."""
    writes = 'import sys\nfor line in sys.stdin: print(line, end="", flush=True)'
    process = start(command)
    tee = start([sys.executable, "-c", writes], stdin=process.stdout, stdout=subprocess.DEVNULL, process_group=process.pid)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    wait_until(until, process)
    os.killpg(process.pid, signal.SIGINT)
    tee.wait()
    err = process.stderr.read()
    return Ended(process.wait(), "", err)


def terminal_closed(command: Sequence[str], until: Callable[[], bool], nohup: bool = False) -> Ended:
    """The command in a terminal of its own, whose window is closed: it gets SIGHUP, and writing to it fails from then on."""
    ours, theirs = pty.openpty()

    def takes_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        hear_signals()
        if nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = start(command, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=takes_terminal)
    os.close(theirs)
    os.set_blocking(ours, False)
    shown = bytearray()
    while not until():
        assert process.poll() is None, shown.decode(errors="replace")
        with suppress(BlockingIOError):
            shown += os.read(ours, 1 << 16)
        time.sleep(0.02)
    os.close(ours)
    return Ended(process.wait(), shown.decode(errors="replace"))


def unread_and_signalled(command: Sequence[str], number: int) -> Ended:
    """`command | less`, and nobody turns the page: a signal comes when the pipe is full."""
    process = start(command)
    assert process.stdout is not None
    page = os.sysconf("SC_PAGESIZE")
    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 2 * page)
    wait_until(lambda: unread(process) > page, process)  # both pages are in use, and the next line has to wait
    process.send_signal(number)
    return Ended(process.wait(), "")


def signalled(command: Sequence[str], until: Callable[[], bool], number: int, whole_group: bool = False) -> Ended:
    """A signal to the command, or with `whole_group` to its process group, as from a terminal."""
    process = start(command)
    wait_until(until, process)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    return ended(process)
