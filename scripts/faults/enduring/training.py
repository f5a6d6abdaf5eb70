"""A long training in a process of its own, watched for memory and open files. It can be disturbed, stopped and gone on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agents.runs.checkpoint import iteration_of, latest
from agents.runs.folder import RunFolder

from .environments import FOLDER, ask

ROOT = Path(__file__).parents[3]
PROGRAM = "import sys, enduring.environments; from agents.train import main; sys.exit(main(sys.argv[1:]))"
PAUSE = 0.05
"""Seconds between two looks."""
TAIL = 1 << 16
"""Bytes at the end of the metrics that hold a whole line."""


class Ended(RuntimeError):
    """The training ended where it should not have. The message has what it said."""


@dataclass(frozen=True)
class Sample:
    """What a process held at an iteration."""

    process: int
    kind: str
    """trainer or worker."""
    iteration: int
    kilobytes: int
    """Resident memory."""
    files: int
    """Open descriptors."""


@dataclass
class Training:
    """Holds a run, the process that is at work on it, and all samples so far."""

    folder: Path
    settings: Sequence[str]
    samples: list[Sample] = field(default_factory=list)
    iteration: int = -1
    """The last one that has numbers."""
    lost: int = 0
    """Iterations that were done again, because their process ended before the next checkpoint."""
    _process: subprocess.Popen[bytes] | None = None
    _said: bytes = b""

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "runs" / "it")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The one at work, or the last one that was."""
        assert self._process is not None
        return self._process

    @property
    def said(self) -> str:
        """The end of what the process has printed."""
        return self._said[-2000:].decode(errors="replace")

    def start(self) -> None:
        """Begin, or go on from the newest checkpoint."""
        run, asking = self.run.path, self.folder / "asking"
        asking.mkdir(parents=True, exist_ok=True)
        words = [f"resume={run}"] if run.exists() else [*self.settings, f"out={run.parent}", f"run={run.name}"]
        paths = [str(ROOT), str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {"PYTHONPATH": os.pathsep.join(paths), "STEPCREDIT_CACHE": str(self.folder / "cache"), FOLDER: str(asking)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words],
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._said = b""
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)

    def goes_on(self) -> bool:
        """Let some time go by, and look: whether the process is still at work."""
        time.sleep(PAUSE)
        process = self.process
        ended = process.poll() is not None
        for stream in (process.stdout, process.stderr):
            if stream is not None and not stream.closed:
                self._said += stream.read() or b""
        before, self.iteration = self.iteration, self._last()
        if not ended and self.iteration > before:
            self._sample()
        return not ended

    def must_go_on(self) -> None:
        """Raises Ended."""
        if not self.goes_on():
            raise Ended(f"exit code {self.process.returncode}: {self.said}")

    def fail(self, failure: str) -> None:
        """Have a step of an environment fail, and return once it has. Raises Ended."""
        request = ask(self.folder / "asking", failure)
        while request.exists():
            self.must_go_on()

    def go_on_after(self, code: int) -> None:
        """Wait for the process to end with this exit code, and go on. Raises Ended."""
        while self.goes_on():
            pass
        if self.process.returncode != code:
            raise Ended(f"exit code {self.process.returncode} instead of {code}: {self.said}")
        newest = latest(self.run.path)
        at = None if newest is None else iteration_of(newest)
        assert at is not None
        self.lost += self.iteration - at
        self.start()

    def _last(self) -> int:
        """The iteration of the last whole line of the metrics."""
        try:
            with self.run.metrics.open("rb") as file:
                file.seek(max(0, self.run.metrics.stat().st_size - TAIL))
                lines = file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            lines = []
        return json.loads(lines[-1])["iteration"] if lines else -1

    def _sample(self) -> None:
        trainer = self.process.pid
        try:
            workers = Path(f"/proc/{trainer}/task/{trainer}/children").read_text().split()
            for process, kind in ((trainer, "trainer"), *((int(one), "worker") for one in workers)):
                status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
                files = len(os.listdir(f"/proc/{process}/fd"))
                self.samples.append(Sample(process, kind, self.iteration, int(status["VmRSS"].split()[0]), files))
        except (FileNotFoundError, KeyError):  # it has ended meanwhile
            pass
