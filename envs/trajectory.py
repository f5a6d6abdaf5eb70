"""Steps and trajectories: the one structure that environments, algorithms and agents share, and its JSONL form."""

from __future__ import annotations

import gzip
import math
import os
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import orjson

T = TypeVar("T", "Step", "Trajectory")
SCHEMA = "stepcredit.trajectory/1"
CONTEXT, NO_ACTIONS = "context", "no_actions"
"""Reasons why a rollout cuts an episode off, beside the environment's own (time_limit): the conversation outgrew what the model
can read; the environment lists no action where one is to be chosen."""


@dataclass(slots=True)
class Step:
    """One decision: what was seen, what was done, what came of it."""

    observation: str
    """What the agent saw before it acted."""
    action: str
    """The text that was executed. Where the context ended in the middle of an answer it is what there is of it, which was not
    executed: info["executed"] is False then."""
    reward: float = 0.0
    """The environment's own reward; shaping never changes it."""
    shaped_rewards: dict[str, float] = field(default_factory=dict)
    """Further rewards by name of their source."""
    valid: bool = True
    terminated: bool = False
    truncated: bool = False
    state_key: str = ""
    """Identity of the state in which the action was taken (from the environment, never parsed out of a prompt)."""
    admissible_actions: list[str] | None = None
    """Actions that were possible when the agent acted."""
    prompt_ids: list[int] = field(default_factory=list)
    """context=full: ids that the model read since its previous response. context=window: the whole prompt."""
    response_ids: list[int] = field(default_factory=list)
    """Exactly the ids that were sampled."""
    response_logprobs: list[float] = field(default_factory=list)
    """The sampling engine's log-probability of each sampled id."""
    policy_version: int = 0
    """Version of the weights that sampled the response."""
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Trajectory:
    """One episode."""

    env_id: str
    task_id: str
    group_id: str
    """Task group: trajectories of the same task that are compared with each other."""
    seed: int
    split: str
    context: str = "full"
    """full: prompts grow (each step's prompt_ids continue the previous ones); window: each step has its own prompt."""
    steps: list[Step] = field(default_factory=list)
    success: bool = False
    score: float = 0.0
    error: str | None = None
    """Why the episode was cut off by a fault (timeout, crash); None for an episode that the environment ended or timed out, or
    that outgrew the context."""

    @property
    def cut_off(self) -> str | None:
        """Why it was stopped before the environment ended it: time_limit, CONTEXT, NO_ACTIONS or another reason; else None.

        Such an episode is lost, and no fault: it counts in every rate.
        """
        if self.error is not None or self.success:
            return None
        if not self.steps:
            return CONTEXT  # even the first prompt was too long: no step is there to say so
        last = self.steps[-1]
        return str(last.info.get("reason", "time_limit")) if last.truncated else None

    @property
    def total_reward(self) -> float:
        """Undiscounted sum of the environment's own rewards."""
        return float(sum(step.reward for step in self.steps))


# -- JSONL: one trajectory a line -------------------------------------------------------------------------------------------
#
# What is read equals what was written. Python values that JSON lacks are written as an object with one "$" key:
# {"$float": "inf" | "-inf" | "nan"}, {"$int": "..."} beyond 64 bits, {"$tuple": [...]}, {"$str": hex of UTF-16} for text that
# is not Unicode (a lone surrogate), {"$dict": [[key, value], ...]} for keys that are no plain text or begin with "$".


class TrajectoryFileError(ValueError):
    """A trajectory file cannot be read or written. The message names file and line."""


class TruncatedFile(TrajectoryFileError):
    """The last line is incomplete: its writer was stopped. All lines before it are good."""


class _NotJson(TrajectoryFileError):
    pass


def write(path: str | Path, trajectories: Iterable[Trajectory]) -> int:
    """Write a file (gzip if it ends in .gz); returns the number of trajectories. An older file stays until all is written."""
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
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    count = 0
    try:
        with gzip.open(partial, "wb", compresslevel=6) if path.suffix == ".gz" else partial.open("wb") as file:
            for line in lines:
                file.write(line)
                count += 1
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
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
    record: dict[str, Any] = {"schema": SCHEMA}
    for name in _TRAJECTORY_FIELDS:
        if name != "steps":
            record[name] = _plain(getattr(trajectory, name), name)
    record["steps"] = [
        {name: _plain(getattr(step, name), f"steps[{number}].{name}") for name in _STEP_FIELDS}
        for number, step in enumerate(trajectory.steps)
    ]
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _trajectory(line: bytes) -> Trajectory:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _NotJson(f"not valid JSON ({error})") from error
    schema = record.pop("schema", None) if isinstance(record, dict) else None
    if schema != SCHEMA:
        family, _, version = str(schema).rpartition("/")
        if family == SCHEMA.rpartition("/")[0] and version.isdigit():
            raise TrajectoryFileError(f"its schema is '{schema}', this program reads '{SCHEMA}'; use the version that wrote it")
        raise TrajectoryFileError(f"not a trajectory: its schema is {schema!r}, expected '{SCHEMA}'")
    if b'"$' in line:
        record = {key: _restored(value) for key, value in record.items()}
    steps = record.pop("steps", None)
    if not isinstance(steps, list):
        raise TrajectoryFileError("steps is no list")
    made = [_made(Step, step, f"steps[{number}]") for number, step in enumerate(steps)]
    return _made(Trajectory, {**record, "steps": made}, "the trajectory")


_STEP_FIELDS = {entry.name: entry.type for entry in fields(Step)}
_TRAJECTORY_FIELDS = {entry.name: entry.type for entry in fields(Trajectory)}
_SHAPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,)}


def _made(kind: type[T], record: Any, where: str) -> T:
    known = _STEP_FIELDS if kind is Step else _TRAJECTORY_FIELDS
    if not isinstance(record, dict) or record.keys() != known.keys():
        found = record.keys() if isinstance(record, dict) else set()
        missing, unknown = sorted(known.keys() - found), sorted(map(str, found - known.keys()))
        raise TrajectoryFileError(f"{where} lacks the fields {missing} and has the unknown fields {unknown}")
    for name, value in record.items():
        shape = str(known[name])
        allowed = _SHAPES.get(shape) or (dict if shape.startswith("dict") else list if shape.startswith("list") else str,)
        if not isinstance(value, allowed) and not (value is None and shape.endswith("None")):
            raise TrajectoryFileError(f"{where}.{name} is {type(value).__name__}, expected {shape}")
    return kind(**record)


def _plain(value: Any, where: str) -> Any:
    """`value` in terms of JSON; numpy scalars become Python's, anything else is kept exactly or refused."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), where)
    if isinstance(value, str):
        return value if value.isascii() or _is_unicode(value) else {"$str": value.encode("utf-16-le", "surrogatepass").hex()}
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < 1 << 64 else {"$int": str(value)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, (list, tuple)):
        kinds = set(map(type, value))
        simple = (kinds == {float} and all(map(math.isfinite, value))) or (
            kinds == {int} and -min(value) < 1 << 63 > max(value)
        )
        items = list(value) if simple else [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") and (key.isascii() or _is_unicode(key)) for key in value):
            return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
        return {"$dict": [[_plain(key, f"a key of {where}"), _plain(item, f"{where}.{key}")] for key, item in value.items()]}
    raise TrajectoryFileError(
        f"{where} is a {type(value).__name__}, which a trajectory file cannot hold; "
        "allowed: None, bool, int, float, str, list, tuple, dict and numpy scalars"
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return value if set(map(type, value)) <= {int, float, str} else [_restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    match next(iter(value.items()), None):
        case ("$float", str(text)):
            return float(text)
        case ("$int", str(text)):
            return int(text)
        case ("$str", str(text)):
            return bytes.fromhex(text).decode("utf-16-le", "surrogatepass")
        case ("$tuple", list(items)):
            return tuple(_restored(item) for item in items)
        case ("$dict", list(pairs)):
            return {_restored(key): _restored(item) for key, item in pairs}
    return {key: _restored(item) for key, item in value.items()}
