"""What a tracker is: something that shows or keeps a run's numbers. Plug-ins: entry-point group `stepcredit.trackers`.

The trainer calls `log` once an iteration with flat names. Names the terminal and the plots know (all others are written too):
    train/success  train/reward  train/steps  train/valid      means over the iteration's episodes
    train/cut_off/context  train/faults                         episodes that outgrew the context (lost); cut off by a fault
    eval/success@<temperature>                                  share of held-out episodes won; cut_off and faults likewise
    eval/random_success                                         the same for random actions, iteration 0 only
    time/rollout  time/update  time/evaluation                  seconds of this iteration
    time/wall  time/cpu                                         seconds since the run began, resumed parts included
    tokens_per_s                                                sampled tokens a second of rollout
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from envs.common.registry import Registry, UnknownName
from envs.common.structured import ConfigError, build
from envs.trajectory import Trajectory


class Tracker:
    """Something that shows or keeps a run's numbers. By itself it does nothing; a subclass overrides what it shows.

    One of another package is a dataclass, whose fields are its settings: `tracker.plugins.<name>.<field>`.
    """

    def begin(self, folder: Path, settings: Mapping[str, Any], resume_at: int | None) -> None:
        """Of a plug-in, before all others: the run in `folder` begins, or goes on from iteration `resume_at`. settings: the
        run's, as others may see them."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """The metrics of iteration `step`; 0 is before training."""

    def episodes(self, step: int, trajectories: Sequence[Trajectory]) -> None:
        """The iteration's episodes."""

    def progress(self, stage: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """How far a stage within an iteration is (warm start, rollout, update, evaluation)."""

    def say(self, message: str) -> None:
        """Something to be read at once: a warning, or why a number is missing."""

    def artifact(self, path: Path) -> None:
        """A file or folder the run produced (a checkpoint, the model)."""

    def close(self, status: str) -> None:
        """The run ended as `status`: finished, interrupted or failed."""


_registry: Registry[type[Tracker]] = Registry("tracker", "stepcredit.trackers", lazy=True, base=Tracker)
register, names = _registry.register, _registry.names


def made(name: str, settings: Mapping[str, Any]) -> Tracker:
    """The tracker of another package, with its settings. Raises ConfigError."""
    try:
        cls = _registry.get(name)
    except (UnknownName, ImportError) as exc:
        raise ConfigError(f"tracker.plugins.{name}: {exc}") from exc
    if not is_dataclass(cls):
        raise ConfigError(f"tracker.plugins.{name}: {cls.__qualname__} is no dataclass, whose fields would be its settings")
    return build(cls, settings, f"tracker.plugins.{name}")
