"""A training in a process of its own, which tells what it is doing, and is killed at a chosen moment of it.

The process is a fork of this one, which has imported everything: what is killed is a run at work, and an import costs more than
such a run. Moments are told in seconds of computing, so that other work on the machine shifts nothing.
"""

from __future__ import annotations

import inspect
import itertools
import multiprocessing
import os
import shutil
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401  # imported once, here
import torch
import transformers  # noqa: F401

from agents import train
from agents.runs.folder import RunFolder
from agents.training import begin, measures
from agents.training.trainer import Trainer

OPENING, WARM_START, ROLLOUT, BRANCHES, UPDATE = "opening", "warm start", "rollout", "branches", "update"
EVALUATION, CHECKPOINT, BETWEEN, END = "evaluation", "checkpoint", "numbers and weights", "model and plots"
STAGES = (OPENING, WARM_START, ROLLOUT, BRANCHES, UPDATE, EVALUATION, CHECKPOINT, BETWEEN, END)
"""In this order. `BETWEEN` is what an iteration does beside the others, `END` what a run does after its last iteration."""
PLACES: tuple[tuple[Any, str, str], ...] = (
    (begin, "warm_up", WARM_START),
    (Trainer, "run", END),
    (Trainer, "_before_training", BETWEEN),
    (Trainer, "_iterate", BETWEEN),
    (Trainer, "_collected", ROLLOUT),
    (Trainer, "_branched", BRANCHES),
    (Trainer, "_learn", UPDATE),
    (Trainer, "_evaluate", EVALUATION),
    (measures, "of_random_actions", EVALUATION),
    (Trainer, "_save", CHECKPOINT),
)
"""Who does it; the innermost counts."""
SAID = "said.txt"
TURN = struct.Struct("<Bd")
"""What a process tells when it turns to a stage: its number, and the seconds computed so far."""
FORK = multiprocessing.get_context("fork")

torch.set_num_threads(1)  # threads of this process would be missing in its forks


@dataclass(frozen=True)
class Moment:
    """When to kill a process."""

    stage: str
    turn: int
    """How many times it has turned to this stage before."""
    seconds: float
    """That it has computed since it turned to it."""


@dataclass(frozen=True)
class End:
    """How a process ended."""

    code: int
    """Negative: by this signal."""
    turns: Sequence[tuple[str, float]]
    """The stages that it turned to, each with the seconds that it had computed then."""

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    def moments(self) -> dict[str, list[Moment]]:
        """By stage: the ends of its times, before which such a process is at that stage."""
        found: dict[str, list[Moment]] = {}
        for (stage, begun), (_, over) in itertools.pairwise(self.turns):
            times = found.setdefault(stage, [])
            times.append(Moment(stage, len(times), over - begun))
        return found


@dataclass(frozen=True)
class Training:
    """A run and its cache in a folder of their own."""

    folder: Path
    settings: Sequence[str]

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "it"

    @property
    def said(self) -> str:
        """All that was printed."""
        return (self.folder / SAID).read_text(encoding="utf-8")

    @property
    def warnings(self) -> set[str]:
        return {line for line in self.said.splitlines() if line.startswith("WARNING")}

    @property
    def finished(self) -> bool:
        return RunFolder(self.run).get_status().get("status") == "finished"

    def go_on(self, moment: Moment | None = None) -> End:
        """Begin or resume, as a user would, until the end, or the moment at which to kill the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.run / "config.yaml"
        begun = config.is_file() and config.stat().st_size > 0
        if not begun:  # killed while it took the folder: the next start says so, and that the folder is to be deleted
            shutil.rmtree(self.run, ignore_errors=True)
        words = [f"resume={self.run}"] if begun else [*self.settings, f"out={self.run.parent}", f"run={self.run.name}"]
        reading, writing = os.pipe()
        process = FORK.Process(target=_trained, args=(words, self.folder, writing))
        process.start()
        os.close(writing)
        turns: list[tuple[str, float]] = []
        with open(reading, "rb", buffering=0) as told:
            while turn := told.read(TURN.size):
                number, computed = TURN.unpack(turn)
                turns.append((STAGES[number], computed))
                if (
                    moment
                    and STAGES[number] == moment.stage
                    and Counter(stage for stage, _ in turns)[moment.stage] > moment.turn
                ):
                    _kill(process, computed + moment.seconds)
                    moment = None
        process.join()
        assert process.exitcode is not None
        return End(process.exitcode, turns)


def _kill(process: ForkProcess, seconds: float) -> None:
    """Once it has computed so long, if it has not ended by then."""
    while process.is_alive():
        assert process.pid is not None
        left = seconds - time.clock_gettime(~process.pid << 3 | 2)  # the clock of clock_getcpuclockid
        if left <= 0:
            process.kill()
            return
        process.join(left)  # one thread cannot compute faster than time goes by


def _trained(words: Sequence[str], folder: Path, writing: int) -> None:
    """The process's program."""
    with (folder / SAID).open("ab") as said:
        for descriptor in (1, 2):
            os.dup2(said.fileno(), descriptor)
    os.environ["STEPCREDIT_CACHE"] = str(folder / "cache")
    doing = [OPENING]

    def turn(stage: str) -> None:
        os.write(writing, TURN.pack(STAGES.index(stage), time.process_time()))

    def telling(function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @contextmanager
        def during() -> Iterator[None]:
            doing.append(stage)
            turn(stage)
            try:
                yield
            finally:
                doing.pop()
                turn(doing[-1])

        def call(*arguments: Any, **named: Any) -> Any:
            with during():
                return function(*arguments, **named)

        async def called(*arguments: Any, **named: Any) -> Any:
            with during():
                return await function(*arguments, **named)

        return called if inspect.iscoroutinefunction(function) else call

    for owner, name, stage in PLACES:
        setattr(owner, name, telling(getattr(owner, name), stage))
    turn(OPENING)
    sys.exit(train.main(words))
