"""Trajectories on disk: JSONL, one a line, gzip if the name ends in .gz; fields that have their default are left out."""

from __future__ import annotations

import gzip
import math
import os
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson

from envs.common import disk
from envs.common.plain import plain, restored
from envs.trajectory import Step, Trajectory

T = TypeVar("T", Step, Trajectory)
SCHEMA, FIRST = "stepcredit.trajectory/2", "stepcredit.trajectory/1"
"""What is written, and the older form, which is read too."""


class TrajectoryFileError(ValueError):
    """A trajectory file cannot be read or written. The message names file and line."""


class TruncatedFile(TrajectoryFileError):
    """The last line is incomplete: its writer was stopped. All lines before it are good."""


class _NotJson(TrajectoryFileError):
    pass


def write(path: str | Path, trajectories: Iterable[Trajectory]) -> int:
    """Write a file (gzip if it ends in .gz); returns the number of trajectories. An older file stays until all is on disk."""
    return _replace(Path(path), (_line(trajectory) for trajectory in trajectories))


def append(path: str | Path, trajectories: Iterable[Trajectory]) -> int:
    """Add to a file, made if missing; returns the number added. Raises TruncatedFile if the last line is incomplete."""
    path = Path(path)
    lines = [_line(trajectory) for trajectory in trajectories]
    block = b"".join(lines)
    with path.open("ab+") as file:
        if path.suffix == ".gz":
            block = gzip.compress(block)  # a gzip file may consist of several parts
        elif file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                raise TruncatedFile(f"{path}: the last line is incomplete; call repair() before adding to the file")
        file.write(block)
    return len(lines)


def read(path: str | Path, truncated: Literal["raise", "warn"] = "raise") -> Iterator[Trajectory]:
    """Trajectories of a file, one at a time. `truncated`: how to tell, after all whole lines, of an incomplete last one.

    Raises TruncatedFile for that, and TrajectoryFileError for any other line that cannot be read.
    """
    path = Path(path)
    for number, line in enumerate(_lines(path), 1):
        try:
            trajectory = _trajectory(line)
        except TrajectoryFileError as error:
            if line.endswith(b"\n") or not isinstance(error, _NotJson):
                raise TrajectoryFileError(f"{path}, line {number}: {error}") from error.__cause__
            message = f"{path}, line {number}: incomplete, its writer was stopped; all lines before it are good"
            if truncated == "raise":
                raise TruncatedFile(message) from error
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            return
        yield trajectory


def repair(path: str | Path) -> None:
    """Cut off an incomplete last line, so that the file can be added to. Raises TrajectoryFileError for any other fault."""
    path = Path(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        _replace(path, (_line(trajectory) for trajectory in read(path, truncated="warn")))


def _replace(path: Path, lines: Iterable[bytes]) -> int:
    count = 0
    with (
        disk.aside(path) as partial,
        gzip.open(partial, "wb", compresslevel=6) if path.suffix == ".gz" else partial.open("wb") as file,
    ):
        for line in lines:
            file.write(line)
            count += 1
    return count


def _lines(path: Path) -> Iterator[bytes]:
    """Lines with their end; the last one lacks it if the file was cut off."""
    with path.open("rb") as file:
        if path.suffix != ".gz":
            yield from file
            return
        rest, number = b"", 1
        unpacker = zlib.decompressobj(31)
        while chunk := file.read(1 << 18):
            while chunk:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(31)
                try:
                    rest += unpacker.decompress(chunk)
                except zlib.error as error:
                    raise TrajectoryFileError(f"{path}, line {number} or later: broken gzip data ({error})") from error
                chunk = unpacker.unused_data
            *whole, rest = rest.split(b"\n")
            for line in whole:
                yield line + b"\n"
            number += len(whole)
        if rest or not unpacker.eof:
            yield rest


def _line(trajectory: Trajectory) -> bytes:
    try:
        record = {"schema": SCHEMA, **_record(trajectory, _TRAJECTORY_FIELDS, "")}
        record["steps"] = [_record(step, _STEP_FIELDS, f"steps[{number}].") for number, step in enumerate(trajectory.steps)]
    except TypeError as error:
        raise TrajectoryFileError(str(error)) from error
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _record(of: Step | Trajectory, known: dict[str, _Field], where: str) -> dict[str, Any]:
    """All but the steps and what has its default."""
    values = ((name, getattr(of, name)) for name in known if name != "steps")
    return {name: plain(value, f"{where}{name}") for name, value in values if not known[name].is_default(value)}


def _trajectory(line: bytes) -> Trajectory:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _NotJson(f"not valid JSON ({error})") from error
    schema = record.pop("schema", None) if isinstance(record, dict) else None
    if schema not in (SCHEMA, FIRST):
        family, _, version = str(schema).rpartition("/")
        if family == SCHEMA.rpartition("/")[0] and version.isdigit():
            raise TrajectoryFileError(f"its schema is '{schema}', this program reads '{SCHEMA}'; use the version that wrote it")
        raise TrajectoryFileError(f"not a trajectory: its schema is {schema!r}, expected '{SCHEMA}'")
    if b'"$' in line:
        record = {key: restored(value) for key, value in record.items()}
    steps = record.pop("steps", None)
    if not isinstance(steps, list):
        raise TrajectoryFileError("steps is no list")
    if schema == FIRST:
        _bring_up_to_date(record, steps)
    made = [_made(Step, step, f"steps[{number}]") for number, step in enumerate(steps)]
    return _made(Trajectory, {**record, "steps": made}, "the trajectory")


@dataclass(frozen=True, slots=True)
class _Field:
    """What a file may hold for a field."""

    shape: str
    default: Any

    def is_default(self, value: Any) -> bool:
        if type(value) is not type(self.default) or value != self.default:
            return False
        return not isinstance(value, float) or math.copysign(1.0, value) == math.copysign(1.0, self.default)

    def takes(self, value: Any) -> bool:
        kind, _, _ = self.shape.removesuffix(" | None").partition("[")
        return kind == "Any" or isinstance(value, _KINDS[kind]) or (value is None and self.shape.endswith("None"))


_KINDS: dict[str, tuple[type, ...]] = {kind.__name__: (kind,) for kind in (str, int, bool, list, tuple, dict)} | {
    "float": (float, int)
}


def _fields(kind: type[Step] | type[Trajectory]) -> dict[str, _Field]:
    return {
        entry.name: _Field(str(entry.type), entry.default if entry.default_factory is MISSING else entry.default_factory())
        for entry in fields(kind)
    }


_STEP_FIELDS, _TRAJECTORY_FIELDS = _fields(Step), _fields(Trajectory)


def _made(kind: type[T], record: Any, where: str) -> T:
    known = _STEP_FIELDS if kind is Step else _TRAJECTORY_FIELDS
    found = record.keys() if isinstance(record, dict) else set()
    missing = sorted(name for name, entry in known.items() if entry.default is MISSING and name not in found)
    unknown = sorted(map(str, found - known.keys()))
    if missing or unknown:
        raise TrajectoryFileError(f"{where} lacks the fields {missing} and has the unknown fields {unknown}")
    for name, value in record.items():
        if not known[name].takes(value):
            raise TrajectoryFileError(f"{where}.{name} is {type(value).__name__}, expected {known[name].shape}")
    return kind(**record)


def _bring_up_to_date(record: dict[str, Any], steps: list[Any]) -> None:
    """Version 1 had other names, and kept in a step's info what are fields now. What has another form stays in the info."""
    infos: list[dict[str, Any]] = []
    for step in steps:
        if not isinstance(step, dict) or not isinstance(step.get("info"), dict):
            raise TrajectoryFileError("a step has no info")
        for old, new in (("response_logprobs", "rollout_logprobs"), ("policy_version", "weights_version")):
            if old in step:
                step[new] = step.pop(old)
        infos.append(step["info"])
        _move(step["info"], step, _STEP_FIELDS, _STEP_NOTES)
    if infos:
        _move(infos[-1], record, _TRAJECTORY_FIELDS, ("final_observation", "final_frame", "reason"))


_STEP_NOTES = ("stop", "well_formed", "executed", "changed", "subgoals", "frame", "judged", "credit", "step_group")


def _move(info: dict[str, Any], into: dict[str, Any], known: dict[str, _Field], names: Sequence[str]) -> None:
    for name in names:
        if name in info and known[name].takes(info[name]):
            into[name] = info.pop(name)
