"""Where a run's numbers go: metrics.jsonl always; terminal, services and other packages' trackers if configured.

A tracker that fails is left out with a warning, whatever it raises: training is worth more than its display.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from agents.config.secrets import masked
from agents.config.sections import TensorboardConfig, TrackerConfig
from agents.runs.console import Console
from agents.runs.metrics import MetricsFile, read_metrics
from agents.runs.mlflow import Mlflow
from agents.runs.stopping import Stopped
from agents.runs.tracker import Tracker, made
from agents.runs.trackio import Trackio
from agents.runs.wandb import Wandb
from envs.common.text import first_line
from envs.trajectory import Trajectory

log = logging.getLogger("stepcredit.tracking")


class Tensorboard(Tracker):
    """TensorBoard event files."""

    def __init__(self, config: TensorboardConfig, folder: Path, resume_at: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Points after the checkpoint are hidden, as in metrics.jsonl.
        purge = None if resume_at is None else resume_at + 1
        self._writer = SummaryWriter(str(folder / "tensorboard"), flush_secs=config.flush_s, purge_step=purge)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self, status: str) -> None:
        self._writer.close()


class Trackers:
    """All trackers of a run as one; the methods are those of Tracker."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = list(trackers)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._each("log", step, {name: float(value) for name, value in metrics.items()})

    def episodes(self, step: int, trajectories: Sequence[Trajectory]) -> None:
        self._each("episodes", step, trajectories)

    def progress(self, stage: str, done: int, total: int, **metrics: float) -> None:
        self._each("progress", stage, done, total, metrics)

    def say(self, message: str) -> None:
        self._each("say", message)

    def artifact(self, path: Path) -> None:
        self._each("artifact", path)

    def close(self, status: str) -> None:
        self._each("close", status)
        self._trackers = []

    def _each(self, method: str, *arguments: Any) -> None:
        for tracker in list(self._trackers):
            try:
                getattr(tracker, method)(*arguments)
            except Stopped:  # by the user, while the tracker was at work
                raise
            except BaseException as exc:  # libraries end the program (SystemExit) where their server or reader is gone
                # metrics.jsonl is the record of the run: without it there is nothing to go on with.
                if isinstance(tracker, MetricsFile):
                    raise
                why = f"{type(exc).__name__}: {masked(first_line(exc))}"
                log.warning("tracker %s failed and is left out from here on: %s", type(tracker).__name__, why)
                self._trackers.remove(tracker)


def open_trackers(
    config: TrackerConfig, folder: Path, settings: Mapping[str, Any], iterations: int, resume_at: int | None = None
) -> Trackers:
    """The trackers of the run in `folder`. settings: as others may see them; resume_at: the checkpoint's iteration."""
    trackers: list[Tracker] = [MetricsFile(folder / "metrics.jsonl", resume_at)]
    optional: list[Callable[[], Tracker]] = []
    if config.console is not None:
        past = read_metrics(folder / "metrics.jsonl")
        optional.append(partial(Console, config.console, folder.name, iterations, past))
    if config.wandb is not None:
        optional.append(partial(Wandb, config.wandb, folder, settings))
    if config.tensorboard is not None:
        optional.append(partial(Tensorboard, config.tensorboard, folder, resume_at))
    if config.trackio is not None:
        optional.append(partial(Trackio, config.trackio, folder, settings, resume_at is not None))
    if config.mlflow is not None:
        optional.append(partial(Mlflow, config.mlflow, folder, settings))
    optional += [partial(_plugin, name, own, folder, settings, resume_at) for name, own in config.plugins.items()]
    for open_one in optional:
        try:
            trackers.append(open_one())
        except Stopped:
            raise
        except BaseException as exc:  # a service that is down must not cost a run
            log.warning("a tracker could not be opened and is left out: %s: %s", type(exc).__name__, masked(str(exc)))
    return Trackers(trackers)


def _plugin(name: str, own: Mapping[str, Any], folder: Path, settings: Mapping[str, Any], resume_at: int | None) -> Tracker:
    """A tracker of another package; own: its settings."""
    opened = made(name, own)
    opened.begin(folder, settings, resume_at)
    return opened
