"""A small training whose every step on the disk is recorded, and its resume from what a power cut leaves of it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import pickle
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sameness import differences

from agents import train
from agents.runs import checkpoint

from .journal import Cut, Journal, after, cuts, lay

SETTINGS = (
    *("env=alfworld", "algo=gigpo", "iterations=3", "checkpoint.every=1", "threads=1", "device=cpu", "tracker.console=null"),
    *("env.max_steps=6", "env.train_games=6", "env.eval_games=2", "env.test_games=2", "model.tiny.hidden=32"),
    *("warmstart.steps=20", "warmstart.batch=4", "warmstart.demonstrations=8", "warmstart.suboptimal_share=1"),
    *("rollout.groups=2", "rollout.group_size=2", "optim.warmup=1", "evaluation.every=2", "evaluation.episodes=2"),
)
"""Small enough for seconds; with a warm start, so that its cache is cut too."""
RUN = Path("runs", "it")


@dataclass(frozen=True)
class Outcome:
    """What a resume came to."""

    cut: Cut
    step: str
    """What was going on."""
    promised: int | None
    """The iteration of the newest checkpoint that counted."""
    found: int | None
    """That of the newest whole one afterwards; None for none."""
    begun: bool
    """Whether there was a run to go on with."""
    problems: list[str]
    """Empty where all is as if the power had not failed."""


def recorded(folder: Path, settings: Sequence[str]) -> None:
    """Train below `folder`/disk and write the journal. Only for a process that does nothing else."""
    disk = folder.resolve() / "disk"
    disk.mkdir(parents=True)
    os.environ["STEPCREDIT_CACHE"] = str(disk / "cache")
    journal, save = Journal(disk), checkpoint.save

    def saved(target: Path, *arguments: object) -> None:
        save(target, *arguments)  # type: ignore[arg-type]
        journal.mark(checkpoint.iteration_of(target))

    checkpoint.save = saved  # type: ignore[assignment]
    code = journal.record(lambda: train.main([*settings, f"out={disk / RUN.parent}", f"run={RUN.name}"]))
    (folder / "journal").write_bytes(pickle.dumps(journal))
    sys.exit(code)


def record(folder: Path, settings: Sequence[str] = SETTINGS) -> Journal:
    """The journal of a training, which lies below `folder`/disk. Raises CalledProcessError."""
    script = Path(__file__).parents[1] / "power_cut.py"
    done = subprocess.run([sys.executable, script, "--record", folder, *settings], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()
    journal: Journal = pickle.loads((folder / "journal").read_bytes())
    return journal


def distinct(journal: Journal, seeds: int) -> list[Cut]:
    """The cuts that leave different things behind; of those that leave the same, the last one, when most was promised."""
    found: dict[str, Cut] = {}
    for cut in cuts(journal, seeds):
        digest = hashlib.sha256()
        for path, content in sorted(after(journal, cut).items()):
            digest.update(f"{path} {content is None} {len(content or b'')} ".encode() + (content or b""))
        found[digest.hexdigest()] = cut
    return sorted(found.values(), key=lambda cut: (cut.moment, cut.fate))


def resume(journal: Journal, cut: Cut, folder: Path, settings: Sequence[str] = SETTINGS) -> Outcome:
    """Lay out in a new `folder` what the cut leaves, go on there as a user would, and compare with the run as it was."""
    lay(after(journal, cut), folder)
    run, moment = folder / RUN, journal.moments[cut.moment]
    promised: int | None = moment.mark
    problems: list[str] = []
    config = run / "config.yaml"
    begun = config.is_file() and config.stat().st_size > 0
    with _environment(STEPCREDIT_CACHE=str(folder / "cache")), _warnings(problems):
        try:
            newest = checkpoint.load_latest(run)
            found = None if newest is None else newest.iteration
        except checkpoint.CheckpointError:
            found = None
        if promised is not None and (found is None or found < promised):
            problems.append(f"checkpoint {promised} counted, and the newest whole one is {found}")
        code, said = _command(f"resume={run}")
        over = code == 2 and "nothing is left to do" in said
        if not begun:
            if code != 2 or "Traceback" in said:
                problems.append(f"resume of a run that had not begun: exit code {code}: {said}")
            shutil.rmtree(run, ignore_errors=True)
            code, said = _command(*settings, f"out={run.parent}", f"run={run.name}")
        if code and not over:
            problems.append(f"exit code {code}: {said}")
        else:
            problems += differences(journal.root / RUN, run)
    return Outcome(cut, moment.step, promised, found, begun, problems)


def _command(*words: str) -> tuple[int, str]:
    """agents.train in this process: exit code and what it said. One that no command should end with: 70."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            return train.main(words), said.getvalue()
        except Exception:
            return 70, f"{said.getvalue()}{traceback.format_exc()}"


@contextlib.contextmanager
def _warnings(into: list[str]) -> Iterator[None]:
    """Of anything that is damaged or missing: where a file system keeps its promises, nothing is."""

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            into.append(record.getMessage())

    logger, collecting = logging.getLogger("stepcredit"), Collecting(logging.WARNING)
    logger.addHandler(collecting)
    try:
        yield
    finally:
        logger.removeHandler(collecting)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
