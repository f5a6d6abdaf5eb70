"""Training and evaluation from a script or a notebook: what the commands do, as functions whose results one can go on with."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from envs.common import streams
from envs.trajectory import Trajectory

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A training run on disk; docs/run-folder.md says what is in its folder. `Run("runs/<name>")` opens an older one."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def metrics(self) -> list[dict[str, float | None]]:
        """One dictionary an iteration, iteration 0 (before training) first; None for a number that does not exist."""
        from agents.runs.metrics import read_metrics

        file = self.folder / "metrics.jsonl"
        return read_metrics(file) if file.exists() else []

    @property
    def evaluation(self) -> dict[str, float | None]:
        """The newest evaluation during training, `success@<temperature>` and the rest; empty if there was none."""
        for line in reversed(self.metrics):
            found = {key.removeprefix("eval/"): value for key, value in line.items() if key.startswith("eval/")}
            if found:
                return found
        return {}

    @property
    def status(self) -> str | None:
        """running, finished, interrupted or failed; None where nothing was begun."""
        from agents.runs.folder import RunFolder

        return RunFolder(self.folder).get_status().get("status")

    def trajectories(self, iteration: int | None = None) -> Iterator[Trajectory]:
        """The episodes it was trained on, each step with its credit, of one iteration or of all."""
        from stepcredit.reading import read_trajectories

        return read_trajectories(self.folder, iteration)


@streams.guarded()
def train(*overrides: str, **settings: Any) -> Run:
    """Train as `python -m agents.train` does, to the end; returns the run.

        run = stepcredit.train("env=alfworld", "algo=gigpo", iterations=20, optim={"lr": 1e-4})
        run = stepcredit.train(resume=run, iterations=40)

    overrides: as on the command line; settings: the same as Python values, a section as a dictionary. Settings win. Nothing is
    remembered between calls, and the folder, the checkpoints and what is printed are those of the command.
    In a notebook training runs in a thread of its own. Ctrl-C (or Interrupt, or SIGTERM) ends it after its iteration, saved; a
    second one stops at once. Raises KeyboardInterrupt then, ConfigError for settings that cannot be run, RunFolderError for a
    folder that is taken.
    """
    from agents.config.loading import load
    from agents.train import train as run

    config = load([*overrides, *lines(settings)])
    stop = threading.Event()
    return Run(outside_event_loops(lambda: run(config, stop), stop).path)


@streams.guarded()
def evaluate(*overrides: str, **settings: Any) -> dict[str, Any]:
    """Success of a run's checkpoint, or of a model as it is, on held-out tasks, as `python -m agents.evaluate` does.

        stepcredit.evaluate(run=run, evaluation={"split": "test", "repeats": 2})
        stepcredit.evaluate("env=alfworld", "model=hub", model={"name": "Qwen/Qwen2.5-0.5B-Instruct"})

    Returns what is also written as JSON: under `temperatures` a dictionary by temperature ("1") with `types` (success with
    its interval, episodes, faults, ... for each kind of task and for `all`), `answers`, `pass@k`, `spread` (what other sampling
    seeds and other tasks would change) and `outcomes` by task; under `random` the success of random actions. Episodes are kept
    as they end: the same call goes on with what was interrupted.
    """
    from rich.console import Console

    from agents.config.loading import load_evaluate
    from agents.evaluate import evaluate as run

    config = load_evaluate([*overrides, *lines(settings)])
    return outside_event_loops(lambda: run(config, Console()))


def lines(settings: Mapping[str, Any], section: str = "") -> list[str]:
    """Settings as overrides: {"optim": {"lr": 1e-4}} is optim.lr=0.0001, and {"env": {"name": "x", ...}} chooses env=x."""
    found = []
    for key, value in settings.items():
        name = f"{section}{key}"
        if isinstance(value, Run):
            value = value.folder
        if isinstance(value, Mapping) and value:
            rest = dict(value)
            if name in ("env", "algo") and "name" in rest:
                found.append(f"{name}={_text(rest.pop('name'))}")
            found += lines(rest, f"{name}.")
        else:
            found.append(f"{name}={_text(value)}")
    return found


def _text(value: Any) -> str:
    """A value in Hydra's grammar."""
    from agents.config.overrides import assignment

    if hasattr(value, "item"):  # a scalar of numpy or torch
        value = value.item()
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str() | Path():
            return assignment("value", value).removeprefix("value=")
        case list() | tuple() | set():
            return f"[{','.join(map(_text, value))}]"
        case Mapping():
            return "{" + ",".join(f"{_text(str(key))}:{_text(one)}" for key, one in value.items()) + "}"
    raise TypeError(f"a setting is {value!r} ({type(value).__name__}); it must be text, a number, a list or a dictionary")


def outside_event_loops(work: Callable[[], T], stop: threading.Event | None = None) -> T:
    """Call `work` here, or, where this thread runs an event loop (a notebook), in a thread of its own.

    While that one works, Ctrl-C sets `stop`; without `stop`, or the second time, it raises Stopped in the thread.
    """
    from agents.runs.stopping import Stopped, heard

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name="stepcredit", daemon=True)

    def at_once(signal: str) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Stopped))

    with heard(stop, at_once):
        thread.start()
        while not done.done():
            wait([done], timeout=0.5)  # handlers of signals run in between, also where a signal does not wake the wait
        return done.result()
