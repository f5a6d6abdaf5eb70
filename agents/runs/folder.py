"""The folder of one run, `runs/<name>/`: where each file is and how it is written; docs/run-folder.md describes it for users.

Every file is either replaced as a whole or appended a line at a time, and is on the disk before what builds on it is begun
(envs.common.disk): neither a kill nor a power cut leaves one unreadable.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shlex
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import orjson

from agents.config import loading
from agents.config.commands import TrainConfig
from agents.config.overrides import assignment, command_line
from agents.config.secrets import masked
from agents.runs import machine
from envs import trajectory_file
from envs.base import Split
from envs.common import disk
from envs.common.files import regular
from envs.common.structured import ConfigError, suggestion
from envs.trajectory import Trajectory

Status = Literal["running", "finished", "interrupted", "failed"]
log = logging.getLogger("stepcredit.runs")
MOST_NAMED = 20
"""Tasks that the last lines of a run name; status.json names all."""


class RunFolderError(RuntimeError):
    """The run's folder cannot be used as asked. The message says why and what to do."""


class RunFolderGone(OSError):
    """Somebody has deleted or renamed the folder of a run that is going on. The message says what to do."""


class RunFolder:
    """Paths inside a run's folder, and the small files that describe the run."""

    def __init__(self, path: str | Path) -> None:
        self.named = Path(path)
        """As the user named it, for what is typed."""
        self.path = self.named.absolute()
        """Wherever an environment in this process changes to."""
        self.config = self.path / "config.yaml"
        self.splits = self.path / "splits.json"
        self.metrics = self.path / "metrics.jsonl"
        self.status = self.path / "status.json"
        self.warnings = self.path / "warnings.txt"
        self.traceback = self.path / "traceback.txt"
        self.checkpoints = self.path / "checkpoints"
        self.plots = self.path / "plots"
        self.model = self.path / "model"
        self.starts = self.path / "starts.jsonl"
        """Where and with what the run was started, and resumed: a line each."""
        self.tokenizer = self.path / "tokenizer"
        """Written at the start, so that the episodes of a run that is not over can be read."""
        self.begun = False
        """This process has said in status.json that it is running; a resume that is refused before leaves that file alone."""
        self.set_aside: list[str] = []
        """Tasks that are played no more, because their environment failed again and again; status.json names them."""
        self._new = False
        """This process made the run."""
        self._made = False
        """... and the folder for it."""

    @classmethod
    def open(cls, config: TrainConfig) -> RunFolder:
        """The folder for `config`: a new one, or with `resume` the old one. Nothing is made or changed before `begin`.

        Raises RunFolderError where no run could begin.
        """
        if config.resume:
            folder = cls(config.resume)
            folder._refuse_if_alive()
            folder._warn_of_other_hosts()
        else:
            name = config.run or f"{config.env.name}-{config.algo['name']}-{time.strftime('%Y%m%d-%H%M%S')}"
            if {"", ".", ".."} & set(name.split("/")):
                raise RunFolderError(f"run is '{name}', which names no folder inside out={config.out}: choose another name")
            folder = cls(Path(config.out) / name)
        try:
            if not config.resume and folder.config.exists():
                raise folder._taken()
            above = next(path for path in (folder.path, *folder.path.parents) if path.exists())
            if not above.is_dir():
                raise NotADirectoryError(f"{above} is no folder")
            if not os.access(above, os.W_OK | os.X_OK):
                raise PermissionError(f"nothing may be written in {above}")
        except OSError as exc:
            raise folder._unwritable(exc) from exc
        return folder

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """The folder of a run that is there, whatever its state. Raises ConfigError, with the runs near it."""
        run = cls(path)
        if not run.path.is_dir() or not (run.config.exists() or run.trajectories(0).parent.is_dir()):
            places = [run.path, run.path.parent] if run.path.is_dir() else [run.path.parent]
            near = sorted(str(found.parent) for place in places for found in place.glob("*/trajectories"))
            known = f" Runs near it: {', '.join(near)}." if near else ""
            raise ConfigError(f"{run.path} is not the folder of a run.{known}{suggestion(str(run.path), near)}")
        return run

    def begin(self, config: TrainConfig, splits: Mapping[Split, Sequence[str]], hashes: Mapping[Split, str]) -> None:
        """Make the folder, or go on in it: all that a start may be refused for lies behind. Raises RunFolderError."""
        try:
            if not config.resume:
                self._made = not self.path.exists()
                disk.folder(self.path)
                self._claim()
                self._new = True
            with self._alone():
                if config.resume:
                    self._refuse_if_alive()
                self.set_status("running")
            disk.write(self.config, loading.to_yaml(config).encode())
            content = {name: {"hash": hashes[name], "count": len(ids), "ids": list(ids)} for name, ids in splits.items()}
            disk.write(self.splits, orjson.dumps(content, option=orjson.OPT_INDENT_2))
            with self.starts.open("ab") as file:
                file.write(orjson.dumps({"time": _now(), **machine.about()}) + b"\n")
                disk.flush(file)
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def refuse_if_gone(self) -> None:
        """Raise RunFolderGone instead of beginning a second folder, without settings, where this run's was."""
        if self.begun and not self.config.exists():
            raise RunFolderGone(
                f"{self.named} was deleted or renamed while the run was going on, which ends it: nothing could go on from what "
                "it would write now. If it was renamed, go on from its newest checkpoint: "
                f"{command_line('agents.train')} resume=<the new name>"
            )

    def discard(self) -> None:
        """Take back a new run that failed before it had anything worth keeping: numbers, episodes or a checkpoint."""
        kept = [self.checkpoints, self.path / "trajectories"]
        if not self._new or any(map(os.path.exists, kept)) or (self.metrics.exists() and self.metrics.stat().st_size):
            return
        # In a folder that was there before, what others put there stays.
        if self._made:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            shutil.rmtree(self.tokenizer, ignore_errors=True)
            for file in (self.config, self.status, self.splits, self.starts, self.metrics):
                file.unlink(missing_ok=True)
        self.begun = False

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.resolve().name

    @property
    def resume_command(self) -> str:
        """What a user types to go on."""
        return command_line("agents.train", assignment("resume", self.named))

    def last_lines(self) -> str:
        """Where everything of the run is that there is so far, and what a user types to evaluate it and to look at it."""
        places = {"model": "model", "plots": "plots", "table": "metrics.jsonl", "trajectories": "trajectories"}
        lines = [f"{name:<14}{self.named / place}" for name, place in places.items() if (self.path / place).exists()]
        if self.metrics.exists():
            lines.append(f"{'report on it':<14}{command_line('agents.report', str(self.named))}")
        if self.checkpoints.exists():
            held_out = ["evaluation.split=test"] if self.get_splits().get("test", {}).get("ids") else []
            lines.append(f"{'evaluate it':<14}{command_line('agents.evaluate', assignment('run', self.named), *held_out)}")
        if (self.path / "trajectories").exists():
            lines.append(f"{'replay it':<14}{command_line('agents.replay', str(self.named))}")
        if self.set_aside:
            named = ", ".join(self.set_aside[:MOST_NAMED]) + (", ..." if len(self.set_aside) > MOST_NAMED else "")
            lines.append(f"{'set aside':<14}{len(self.set_aside)} tasks that failed again and again ({self.warnings}): {named}")
        return "\n".join(lines)

    def add_warning(self, message: str) -> None:
        """Record what was said of the run: a line, with the time."""
        self.refuse_if_gone()
        with self.warnings.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {masked(' '.join(message.split()))}\n")
            disk.flush(file)

    def trajectories(self, iteration: int) -> Path:
        """The file with an iteration's episodes."""
        return self.path / "trajectories" / f"iteration_{iteration:06d}.jsonl.gz"

    def branches(self, iteration: int) -> Path:
        """The file with what was branched from an iteration's episodes; there is one if the method asks for branches."""
        return self.path / "trajectories" / f"branches_{iteration:06d}.jsonl.gz"

    def iterations(self) -> list[int]:
        """Those that have a file of episodes."""
        names = (
            path.name.split(".")[0].rpartition("_")[2] for path in self.trajectories(0).parent.glob("iteration_*.jsonl.gz")
        )
        return sorted(int(name) for name in names if name.isdigit())

    def write_trajectories(self, iteration: int, trajectories: Iterable[Trajectory]) -> Path:
        """Write an iteration's episodes, one JSON object a line, gzipped."""
        return self._write_episodes(self.trajectories(iteration), trajectories)

    def write_branches(self, iteration: int, trajectories: Iterable[Trajectory]) -> Path:
        """Write what was branched from an iteration's episodes, apart from these, so that nobody counts it among them."""
        return self._write_episodes(self.branches(iteration), trajectories)

    def _write_episodes(self, path: Path, trajectories: Iterable[Trajectory]) -> Path:
        self.refuse_if_gone()
        disk.folder(path.parent, above=False)
        trajectory_file.write(path, trajectories)
        return path

    def refuse_other_tasks(self, splits: Mapping[Split, Sequence[str]], hashes: Mapping[Split, str]) -> None:
        """Raise RunFolderError if these are not the splits that the run began with."""
        older = self.path / "panels.json"
        if older.exists() and not self.splits.exists():
            older.rename(self.splits)  # of a run of an earlier version
        before = self.get_splits()
        for name, ids in splits.items():
            if name in before and (before[name]["hash"] != hashes[name] or before[name]["ids"] != list(ids)):
                raise RunFolderError(
                    f"split '{name}' has other tasks than when the run began ({self.splits}): its results could not be "
                    "compared. Restore the data or the environment's settings, or start a new run"
                )

    def set_status(self, status: Status, reason: str | None = None, **details: Any) -> None:
        """Say in status.json where the run stands; `details` are further plain values (iteration, checkpoint, ...)."""
        self.refuse_if_gone()
        self.begun = True
        content = {
            "status": status,
            "reason": reason,
            "resume": None if status == "finished" else self.resume_command,
            "time": _now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            **({"set_aside": self.set_aside} if self.set_aside else {}),
            **details,
        }
        disk.write(self.status, orjson.dumps(content, option=orjson.OPT_INDENT_2))

    def get_status(self) -> dict[str, Any]:
        """What status.json says; empty if there is none that can be read."""
        return _read(self.status)

    def get_splits(self) -> dict[str, dict[str, Any]]:
        """What splits.json says; empty if there is none that can be read."""
        found = _read(self.splits)
        whole = all(isinstance(split, dict) and {"hash", "ids"} <= split.keys() for split in found.values())
        return found if whole else {}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Of processes that go on with the run at the same moment, each waits here for the one before it."""
        with self.config.open("rb") as held:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def _claim(self) -> None:
        """Of runs that were started together under one name, one gets the folder."""
        try:
            self.config.touch(exist_ok=False)
        except FileExistsError:
            raise self._taken() from None

    def _taken(self) -> RunFolderError:
        if not self.config.stat().st_size:
            return RunFolderError(
                f"{self.named} is of a run that was stopped before it had begun (its config.yaml is empty): delete that "
                "folder, or choose another run="
            )
        resume = shlex.quote(assignment("resume", self.named))
        return RunFolderError(f"{self.named} already holds a run; go on with {resume}, or choose another run=")

    def _unwritable(self, exc: OSError) -> RunFolderError:
        return RunFolderError(f"{self.named} cannot be written: {exc}; choose another place with out=<folder>")

    @property
    def writer(self) -> int | None:
        """The process of this machine that still writes the run."""
        status = self.get_status()
        pid, here = status.get("pid"), status.get("host") == socket.gethostname()
        return pid if status.get("status") == "running" and here and _alive(pid, status.get("started")) else None

    @property
    def elsewhere(self) -> bool:
        """Whether another machine says that it writes the run; nobody here can tell whether it still does."""
        status = self.get_status()
        return status.get("status") == "running" and status.get("host") != socket.gethostname()

    def _refuse_if_alive(self) -> None:
        if self.writer not in (None, os.getpid()):
            raise RunFolderError(f"{self.named} is still being written by process {self.writer}; stop that one first")

    def _warn_of_other_hosts(self) -> None:
        """They may share the disk, or have been lost."""
        if self.elsewhere:
            status = self.get_status()
            log.warning(
                "%s says that %s runs it (process %s): if that is still so, stop one of the two, which write over each other",
                self.status,
                status.get("host"),
                status.get("pid"),
            )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _read(file: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none."""
    try:
        found = orjson.loads(regular(file).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _alive(pid: Any, started: Any) -> bool:
    """Whether the process still runs: its number may have gone to another program since."""
    if type(pid) is not int or not 0 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    if started is not None and (now := _started(pid)) is not None:
        return bool(now == started)
    command = Path(f"/proc/{pid}/cmdline")
    return not command.exists() or b"agents" in command.read_bytes()


def _started(pid: int) -> str | None:
    """When a process began, as no other one of that number on this host did; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return f"{boot} {fields[19]}" if fields[0] != "Z" else "ended"
