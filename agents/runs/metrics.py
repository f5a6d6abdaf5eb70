"""metrics.jsonl: a run's numbers, a line an iteration; the record that everything else is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from agents.runs.folder import replace_file
from agents.runs.tracker import Tracker


class MetricsFile(Tracker):
    """metrics.jsonl: one flushed line an iteration, `{"iteration": 3, "train/success": 0.5, ...}`."""

    def __init__(self, path: Path, resume_at: int | None = None) -> None:
        """`resume_at`: lines of later iterations are dropped, because they will be written again."""
        if path.exists():
            kept = [line for line in read_metrics(path) if resume_at is not None and line["iteration"] <= resume_at]
            replace_file(path, b"".join(orjson.dumps(line) + b"\n" for line in kept))
        self._file = path.open("ab")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._file.write(orjson.dumps({"iteration": step, **finite(metrics)}, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        self._file.flush()

    def close(self, status: str) -> None:
        self._file.close()


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """None, in JSON null, where there is no number: JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line that was cut off by a kill is left out. Raises ValueError for any other."""
    lines = path.read_bytes().split(b"\n")
    read = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            read.append(orjson.loads(line))
        except orjson.JSONDecodeError as exc:
            if number == len(lines) - 1:
                break
            raise ValueError(f"{path}, line {number + 1} is not JSON: {exc}") from exc
    return read
