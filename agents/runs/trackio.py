"""Trackio: a run's numbers in a database of this machine (`trackio show`), or in a Space of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.config.sections import TrackioConfig
from agents.runs.metrics import finite
from agents.runs.tracker import Tracker


class Trackio(Tracker):
    """Trackio; a resumed run goes on as the newest one of its name."""

    def __init__(self, config: TrackioConfig, folder: Path, settings: Mapping[str, Any], resumes: bool) -> None:
        import trackio

        self._run = trackio.init(
            project=config.project,
            name=folder.resolve().name,
            space_id=config.space,
            config=dict(settings),
            resume="allow" if resumes else "never",
            embed=False,
            # It would watch the machine in a thread of its own, beside the run's own clocks.
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({name: value for name, value in finite(metrics).items() if value is not None}, step=step)

    def close(self, status: str) -> None:
        self._run.finish()
