"""Does what is missing of a study: trainings and audits, each a process, some at a time. What was cut off goes on."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from rich.console import Console

from agents.config.overrides import assignment
from agents.runs import checkpoint
from agents.runs.children import Child, Children
from agents.runs.folder import RunFolder
from agents.runs.metrics import read_metrics
from envs.common.files import read_json
from envs.common.structured import ConfigError
from envs.common.text import printable

from .plan import REFERENCE, Audit, Run, Study
from .results import Results

INTERVAL = 0.5
"""Seconds between looks at the processes."""
AROUND = 3
"""Iterations over which the success of a checkpoint is averaged: those that its policy and the next ones played."""

Piece = Run | Audit


class Stopped(Exception):
    """The user asked to stop; what was begun has been saved."""


class Execution:
    """Pieces of a study that are still to be done, and how. runs: the folder for run folders and audits."""

    def __init__(self, study: Study, results: Results, runs: Path, console: Console) -> None:
        self._study, self._results, self._runs, self._console = study, results, runs, console

    def run(self, jobs: int) -> list[str]:
        """Do everything that is missing, `jobs` pieces at a time; returns what failed, in words. Raises Stopped."""
        waiting, failed = list[Piece](), dict[str, str]()
        for piece in self.missing():
            if isinstance(piece, Run) and self._status(piece) == "finished":  # and the study ended before it was kept
                self._keep(piece)
            else:
                waiting.append(piece)
        going: dict[str, tuple[Piece, Child]] = {}
        self._console.print(f"{len(waiting)} pieces to do")
        with Children() as children:
            stop = children.came
            while going or (waiting and not stop):
                for piece in [] if stop else self._ready(waiting, going, failed)[: jobs - len(going)]:
                    waiting.remove(piece)
                    going[piece.name] = (piece, self._start(piece, children))
                for name, (piece, process) in list(going.items()):
                    if (code := process.poll()) is None:
                        continue
                    del going[name]
                    if code == 0:
                        self._keep(piece)
                        self._console.print(printable(f"{name}: done, {len(waiting) + len(going)} left"), soft_wrap=True)
                    elif not stop:
                        failed[name] = f"{name} ended with code {code}; see {self._log(piece)}"
                        self._console.print(printable(failed[name]), soft_wrap=True)
                if waiting and not going and not stop and not self._ready(waiting, going, failed):
                    break  # what is left waits for what failed
                time.sleep(INTERVAL if going else 0)
        if stop:
            raise Stopped
        return [*failed.values()]

    def missing(self) -> list[Piece]:
        """What has no result yet, in the order in which it should be done.

        Seed by seed, and in a seed setting by setting: a run and the audits of its policies, which are of no use without each
        other. Then the arms, which find the warm start of their seed in the cache.
        """
        wanted: dict[Piece, None] = {}
        for seed in sorted({*self._study.seeds, *self._study.arm_seeds}):
            for audit in self._study.audits:
                if audit.run.seed == seed and self._results.of_audit(audit) is None:
                    wanted[audit.run] = wanted[audit] = None
            for run in self._study.runs:
                if run.seed == seed and self._results.of_run(run) is None:
                    wanted[run] = None
        return [piece for piece in wanted if not self._is_done(piece)]

    def _is_done(self, piece: Piece) -> bool:
        """Whether a run has finished here, and has a result if it is one of those whose learning counts."""
        if isinstance(piece, Audit) or self._status(piece) != "finished":
            return False
        return piece not in self._study.runs or self._results.of_run(piece) is not None

    def _status(self, run: Run) -> str | None:
        status: str | None = self._folder(run).get_status().get("status")
        return status

    def _ready(self, waiting: list[Piece], going: dict[str, tuple[Piece, Child]], failed: dict[str, str]) -> list[Piece]:
        """The pieces whose turn it may be: an audit needs its run, and a run of another arm the reference's warm start."""
        blocked = {piece.name for piece, _ in going.values()} | {piece.name for piece in waiting} | set(failed)

        def may(piece: Piece) -> bool:
            if isinstance(piece, Audit):
                return piece.run.name not in blocked
            maker = Run(piece.setting, piece.start, REFERENCE, piece.seed)
            return piece == maker or maker.name not in blocked or self._folder(maker).metrics.exists()

        return [piece for piece in waiting if may(piece)]

    def _start(self, piece: Piece, children: Children) -> Child:
        command = self._command(piece)
        self._console.print(printable(f"{piece.name}: {' '.join(command)}"), soft_wrap=True)
        log = self._log(piece)
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        with log.open("ab") as file:
            return children.start(command[0], command[1:], stdout=file, stderr=subprocess.STDOUT, env=environment)

    def _command(self, piece: Piece) -> list[str]:
        if isinstance(piece, Run):
            folder = self._folder(piece)
            if self._status(piece) is not None:
                return ["agents.train", assignment("resume", folder.path)]
            return ["agents.train", *piece.words, assignment("run", folder.path.name), assignment("out", folder.path.parent)]
        folder = self._folder(piece.run)
        at = chosen(folder, piece.success)
        places = assignment("run", folder.path), f"checkpoint={at}", assignment("out", self._runs / "audits" / piece.name)
        return ["agents.audit", *places, *piece.words]

    def _keep(self, piece: Piece) -> None:
        if isinstance(piece, Audit):
            # With other settings the audit of a stage lies in another folder; the one that has just ended counts.
            found = max((self._runs / "audits" / piece.name).glob("*/audit.json"), key=lambda file: file.stat().st_mtime)
            self._results.keep_audit(piece, read_json(found, "delete it and give the same command"))
        elif piece in self._study.runs:
            self._results.keep_run(piece, self._folder(piece))

    def _folder(self, run: Run) -> RunFolder:
        return RunFolder(self._runs / run.name)

    def _log(self, piece: Piece) -> Path:
        return self._runs / "logs" / f"{piece.name}.log"


def chosen(folder: RunFolder, success: float) -> int:
    """The iteration of the run's checkpoint whose policy was nearest to a success. Raises ConfigError if there is none."""
    played = {row["iteration"]: row["train/success"] for row in read_metrics(folder.metrics) if row["iteration"] > 0}
    found = {}
    for at in checkpoint.complete(folder.checkpoints):
        around = [played[number] for number in range(at + 1, at + 1 + AROUND) if number in played]
        if at and around:
            found[at] = sum(around) / len(around)
    if not found:
        raise ConfigError(f"{folder.path} has no checkpoint after which it played on; was it cut off early?")
    return min(found, key=lambda at: abs(found[at] - success))
