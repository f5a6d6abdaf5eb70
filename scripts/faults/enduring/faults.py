"""What is done to a long training, and what each costs it."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass

from .training import Training


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong."""

    do: Callable[[Training], None]
    """Returns once it has happened, and the training goes on. Raises Ended where it does not."""
    lost: str
    error: str | None = None
    """Pattern of the error of the episode that it cuts off, if it does."""
    iterations: int = 0
    """Of those since the newest checkpoint, 1: all may be lost."""
    ends_worker: bool = False


def _failing(failure: str, error: str, ends_worker: bool = False) -> Fault:
    return Fault(lambda training: training.fail(failure), "the episode", error, ends_worker=ends_worker)


def _kill(training: Training) -> None:
    training.process.kill()
    training.go_on_after(-signal.SIGKILL)


def _terminate(training: Training) -> None:
    training.process.terminate()
    training.go_on_after(130)


def _fill_disk(training: Training) -> None:
    """By the limit of what the process may write to a file."""
    _, hard = resource.prlimit(training.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(training.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    training.go_on_after(1)


def _leave(training: Training) -> None:
    stdout = training.process.stdout
    assert stdout is not None
    stdout.close()


EPISODES = {
    "an environment raises an exception": _failing("exception", "ZeroDivisionError: the floor gives way"),
    "an environment's process dies": _failing("crash", "ended with exit code 3", ends_worker=True),
    "an environment's process is killed": _failing("kill", "killed by SIGKILL", ends_worker=True),
    "an environment hangs": _failing("hang", "timeout", ends_worker=True),
    "an environment pays an infinite reward": _failing("reward", "reward is inf"),
    "an environment ends the program": _failing("exit", "SystemExit"),
}
"""Each cuts off one episode."""
STOPS = {
    "kill -9": Fault(_kill, "the iterations since the newest checkpoint", iterations=1),
    "SIGTERM": Fault(_terminate, "nothing"),
    "the disk is full": Fault(_fill_disk, "the iterations since the newest checkpoint", iterations=1),
}
"""Each ends the process, and the run is resumed."""
READER = "the reader of the output leaves"
FAULTS = EPISODES | STOPS | {READER: Fault(_leave, "the display, until the next resume")}


GENTLE = (*(name for name, fault in EPISODES.items() if not fault.ends_worker), READER)
"""None ends a process."""


def planned(count: int) -> list[str]:
    """So many faults in their order: now and then the reader leaves, and the process is stopped next.

    In the last third all processes go on, so that they become old enough to tell whether they grow.
    """
    rough = count - count // 3
    gap = max(4, rough // 6)
    plan: list[str] = []
    for number in range(rough):
        turn, place = divmod(number, gap)
        if place == gap - 1:
            plan.append([*STOPS][turn % len(STOPS)])
        elif place == gap - 2:
            plan.append(READER)
        else:
            plan.append([*EPISODES][(number - 2 * turn) % len(EPISODES)])
    return plan + [GENTLE[number % len(GENTLE)] for number in range(count - rough)]
