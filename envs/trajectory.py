"""Steps and trajectories: the one structure that environments, algorithms and agents share, and its JSONL form."""

from __future__ import annotations

import gzip
import math
import os
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson

from envs.common.plain import plain, restored

T = TypeVar("T", "Step", "Trajectory")
SCHEMA, FIRST = "stepcredit.trajectory/2", "stepcredit.trajectory/1"
"""What is written, and the older form, which is read too."""
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
    executed: `executed` is False then."""
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
    rollout_logprobs: list[float] = field(default_factory=list)
    """The sampling engine's log-probability of each sampled id."""
    weights_version: int = 0
    """Version of the weights that sampled the response."""
    stop: str = ""
    """Why the response ended: stop, length, context; "" where no model wrote it."""
    well_formed: bool = True
    """Whether an action was found in the response."""
    executed: bool = True
    """Whether the environment was given the action."""
    changed: bool = True
    """False if the environment said that the action changed nothing that a subgoal could be about."""
    subgoals: list[str] = field(default_factory=list)
    """Names of the subgoals achieved so far, this step included, by the environment's own rules."""
    frame: Any = None
    """The state in which the agent acted as people look at it, if the environment draws it."""
    judged: list[str] | None = None
    """Names of the subgoals that a judge says this step achieved; None: no judge was asked."""
    credit: dict[str, Any] | None = None
    """The step's advantage and what it is made of, by name; None: the step took no part in an update."""
    step_group: int | None = None
    """Number of the group of steps that this one was compared in, for methods that compare steps."""
    info: dict[str, Any] = field(default_factory=dict)
    """What an environment adds of its own."""


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
    reason: str | None = None
    """Why it was stopped before the environment ended it: time_limit, CONTEXT, NO_ACTIONS or another; see `cut_off`."""
    final_observation: str | None = None
    """What was seen after the last step."""
    final_frame: Any = None
    """The last state as people look at it."""
    attempt: int = 0
    """0 for the first; more where a fault made it be played again."""
    parent: tuple[str, int] | None = None
    """The episode ("group/number") and the step that it was branched from."""

    @property
    def cut_off(self) -> str | None:
        """Why it was stopped before the environment ended it: time_limit, CONTEXT, NO_ACTIONS or another reason; else None.

        Such an episode is lost, and no fault: it counts in every rate.
        """
        if self.error is not None or self.success:
            return None
        if not self.steps:
            return CONTEXT  # even the first prompt was too long: no step is there to say so
        return (self.reason or "time_limit") if self.steps[-1].truncated else None

    @property
    def total_reward(self) -> float:
        """Undiscounted sum of the environment's own rewards."""
        return float(sum(step.reward for step in self.steps))


# -- JSONL: one trajectory a line; fields that have their default are left out ----------------------------------------------


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
