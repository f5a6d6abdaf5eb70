"""The study's results: a small JSON file a training and an audit, which stay when runs are deleted.

A file holds the words that made it. One that other words made counts as missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.runs.folder import RunFolder
from agents.runs.metrics import read_metrics
from envs.common import disk
from envs.common.files import read_json

from .plan import Audit, Run

EVAL = "eval/success@1"
DIGITS = 4


class Results:
    """Reads and writes the files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of_run(self, run: Run) -> dict[str, Any] | None:
        """How the training went; None if it has not been written, or was another training."""
        return self._read(f"learning/{run.name}", run.words)

    def of_audit(self, audit: Audit) -> dict[str, Any] | None:
        """What the audit found; None if it has not been written, or was another audit."""
        return self._read(f"audits/{audit.name}", [*audit.run.words, *audit.words])

    def keep_run(self, run: Run, folder: RunFolder) -> None:
        """Write how a finished training went, iteration by iteration."""
        rows = read_metrics(folder.metrics)
        trained = [row for row in rows if row["iteration"] > 0]
        found = {
            "steps": [row["env/steps"] for row in trained],
            "success": [row["train/success"] for row in trained],
            "episode_steps": [row["train/steps"] for row in trained],
            "evaluated": [[row["env/steps"], row[EVAL]] for row in rows if row.get(EVAL) is not None],
            "cpu": trained[-1]["time/cpu"] - rows[0]["time/cpu"],
            "tokens": sum((row.get("tokens/update") or 0) + (row.get("tokens/rollout") or 0) for row in trained),
        }
        self._write(f"learning/{run.name}", run.words, found)

    def keep_audit(self, audit: Audit, found: Mapping[str, Any]) -> None:
        """Write the numbers of an audit, without its calibration plots."""
        methods = {
            method["name"]: {
                "decisive": method["steps"]["decisive"],
                "steps": method["steps"]["numbers"],
                "parts": {name: part["numbers"]["correlation_corrected"] for name, part in method["parts"].items()},
                "cosine": method["cosine"],
                "again": method["again"],
                "tokens": method["cost"]["share"],
            }
            for method in found["methods"]
        }
        about = {key: found[key] for key in ("iteration", "success", "truth", "split_hash")}
        self._write(f"audits/{audit.name}", [*audit.run.words, *audit.words], {**about, "methods": methods})

    def _read(self, name: str, words: Sequence[str]) -> dict[str, Any] | None:
        path = self._path(name)
        if not path.exists():
            return None
        found: dict[str, Any] = read_json(path, "delete it and give the same command")
        return found if found["words"] == list(words) else None

    def _write(self, name: str, words: Sequence[str], found: Mapping[str, Any]) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"words": list(words), **_rounded(found)}, separators=(",", ":"), allow_nan=False)
        disk.write(path, (text + "\n").encode())

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _rounded(value: Any) -> Any:
    """The same with numbers of four significant digits."""
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) and not value.is_integer() else value
