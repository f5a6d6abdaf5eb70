"""What a tracker is: something that shows or keeps a run's numbers.

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
from pathlib import Path

from envs.trajectory import Trajectory


class Tracker:
    """Something that shows or keeps a run's numbers. By itself it does nothing; a subclass overrides what it shows."""

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
