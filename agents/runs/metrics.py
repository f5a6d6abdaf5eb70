"""metrics.jsonl: a run's numbers, a line an iteration; the record that everything else is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from agents.runs.tracker import Tracker
from envs.common import disk
from envs.common.files import regular


class MetricsError(ValueError):
    """A file of lines is not what was written. The message names it and the line, and what to do."""


class MetricsFile(Tracker):
    """metrics.jsonl: one line an iteration, synced, `{"iteration": 3, "train/success": 0.5, ...}`."""

    def __init__(self, path: Path, resume_at: int | None = None) -> None:
        """`resume_at`: lines of later iterations are dropped, because they will be written again, and those that are broken."""
        kept: list[dict[str, Any]] = []
        if path.exists() and resume_at is not None:
            kept = [line for line in whole_lines(path)[0] if iteration_of(line) in range(resume_at + 1)]
        disk.write(path, b"".join(orjson.dumps(line) + b"\n" for line in kept))
        self._file = path.open("ab")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._file.write(orjson.dumps({"iteration": step, **finite(metrics)}, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        disk.flush(self._file)

    def close(self, status: str) -> None:
        self._file.close()


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """None, in JSON null, where there is no number: JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line that was cut off is left out. Raises MetricsError for any other broken one."""
    lines = read_lines(path)
    for line in lines:
        if iteration_of(line) is None:
            raise MetricsError(f"{path} has a line without an iteration, {orjson.dumps(line)[:60].decode()}: mend or delete it")
    return lines


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file that has one a line. Raises MetricsError as `read_metrics` does."""
    lines, broken = whole_lines(path)
    if broken:
        raise MetricsError(f"{path}, line {broken[0]} is broken, it is no JSON object: mend that line, or delete it")
    return lines


def whole_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines of a metrics.jsonl, and the numbers of those that are broken; a last one that was cut off is in neither."""
    lines = regular(path).read_bytes().split(b"\n")
    whole: list[dict[str, Any]] = []
    broken: list[int] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            if number == len(lines):
                break
            found = None
        if isinstance(found, dict):
            whole.append(found)
        else:
            broken.append(number)
    return whole, broken


def iteration_of(line: Mapping[str, Any]) -> int | None:
    """The iteration that a line is of; None if it does not say."""
    found = line.get("iteration")
    return found if isinstance(found, int) else None
