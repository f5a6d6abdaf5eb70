"""What a run's folder says of the run, as plain values, whether it is finished, going on or cut off.

Little is asked of a folder: a file that is missing or damaged costs what it would have said, and a note says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.config import differences
from agents.config.compose import read_saved
from agents.config.overrides import assignment, command_line, override
from agents.config.renamed import translated
from agents.runs.console import evaluations
from agents.runs.evaluation import wilson
from agents.runs.folder import RunFolder
from agents.runs.metrics import iteration_of, whole_lines
from agents.runs.plots import PARTS
from envs.common.files import DamagedFileError, read_json
from envs.common.structured import ConfigError
from envs.common.text import first_line, printable

Row = dict[str, float]
Interval = tuple[float, float | None, float | None]
"""A value, and the ends of its 95% interval where it has one."""
WITHIN_UPDATE = ("shaping", "values", "credit", "critic")
"""Parts of `time/update` that have a time of their own."""
LEAST = 0.002
"""Share of the whole time that a part must have to be named."""
ODD = (AttributeError, KeyError, TypeError, ValueError, IndexError)
"""What reading a file of another form, or of another version, may raise."""


@dataclass(frozen=True)
class Success:
    """A success rate that was measured."""

    value: float
    low: float | None
    """Ends of its 95% interval; None where it is not known of how many episodes it is."""
    high: float | None
    episodes: int | None


@dataclass(frozen=True)
class Evaluated:
    """An evaluation, of one temperature."""

    iteration: int
    temperature: str
    of: Success
    types: dict[str, float | None]
    """Success by type of task."""
    cut_off: int
    faults: int


@dataclass(frozen=True)
class Separate:
    """An evaluation on its own, `python -m agents.evaluate`."""

    file: Path
    split: str
    results: list[Evaluated]
    random: Success | None


@dataclass(frozen=True)
class Credited:
    """What an audit found of a method: correlation of its credit with the true advantage, freed of the truth's error."""

    method: str
    all_steps: Interval | None
    within: Interval | None


@dataclass(frozen=True)
class Audit:
    """An audit of the run's credit, `python -m agents.audit`."""

    page: Path
    iteration: Any
    episodes: Any
    methods: list[Credited]


@dataclass
class Run:
    """All that is shown of a run."""

    folder: RunFolder
    name: str
    status: dict[str, Any]
    config: dict[str, Any]
    """Every setting by its dotted name; empty if config.yaml cannot be read."""
    words: list[str] = field(default_factory=list)
    """env=<name> algo=<name>."""
    changed: dict[str, Any] = field(default_factory=dict)
    """Settings that differ from what `words` alone give."""
    rows: list[Row] = field(default_factory=list)
    """Lines of metrics.jsonl, numbers only, by their iteration."""
    starts: list[dict[str, Any]] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    evaluations: list[Evaluated] = field(default_factory=list)
    """Those of the training, one a temperature and iteration."""
    separate: list[Separate] = field(default_factory=list)
    audits: list[Audit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the reader should know of how complete this is."""

    @property
    def state(self) -> str:
        """Where it stands, in a word."""
        status = str(self.status.get("status", "unknown"))
        gone = status == "running" and self.folder.writer is None and not self.folder.elsewhere
        return "killed" if gone else printable(status)

    @property
    def iteration(self) -> int:
        """The newest one with numbers."""
        return int(self.rows[-1]["iteration"]) if self.rows else 0

    @property
    def command(self) -> str:
        """What a user types to train such a run."""
        words = [*self.words, *(override(key, value) for key, value in self.changed.items())]
        return command_line("agents.train", *words)

    @property
    def trained_on(self) -> int | None:
        """Episodes of an iteration, as they were planned."""
        groups, size = (self.config.get(f"rollout.{name}") for name in ("groups", "group_size"))
        return groups * size if isinstance(groups, int) and isinstance(size, int) else None

    def last(self, metric: str) -> float | None:
        """Its newest value."""
        return next((row[metric] for row in reversed(self.rows) if metric in row), None)

    def points(self, metric: str) -> list[tuple[float, float]]:
        """(iteration, value)."""
        return [(row["iteration"], row[metric]) for row in self.rows if metric in row]


def read(path: str | Path) -> Run:
    """What the folder of a run holds. Raises ConfigError for a folder that is none."""
    folder = RunFolder.existing(path)
    run = Run(folder, printable(folder.name), folder.get_status(), {}, splits=folder.get_splits())
    if not run.status:
        run.notes.append("how the run ended is not known: status.json is missing or damaged")
    _read_settings(run)
    _read_metrics(run)
    _read_texts(run)
    run.evaluations = _evaluations(run)
    for file in sorted(folder.path.glob("*.json")):
        with _optional(run, file):
            _separate(run, file)
    for file in sorted(folder.path.glob("audit-*/audit.json")):
        with _optional(run, file):
            run.audits.append(_audit(file))
    return run


def _read_settings(run: Run) -> None:
    try:
        saved = read_saved(run.folder.config)
        translated(saved)
        run.config = differences.flat(saved)
    except ConfigError as error:
        run.notes.append(printable(f"settings are not known: {error}"))
        return
    try:
        run.words, run.changed = differences.changed(saved)
    except (ConfigError, ImportError, LookupError) as error:
        # Of another version, or with a plug-in that is not installed: all its settings are shown.
        run.notes.append(f"which settings were changed is not known, so all are shown: {first_line(error)}")
        run.words = [assignment(group, str(run.config.get(f"{group}.name"))) for group in ("env", "algo")]
        run.changed = {key: value for key, value in run.config.items() if key not in differences.PLACE}


def _read_metrics(run: Run) -> None:
    lines, broken = whole_lines(run.folder.metrics) if run.folder.metrics.is_file() else ([], [])
    numbered = [(at, line) for line in lines if (at := iteration_of(line)) is not None and at >= 0]
    unnumbered = len(lines) - len(numbered)
    if broken or unnumbered:
        where = f"line{'s' * (len(broken) > 1)} {', '.join(map(str, broken[:5]))}" if broken else f"{unnumbered} lines"
        run.notes.append(f"some numbers are missing: {where} of metrics.jsonl cannot be read")
    rows: dict[int, Row] = {}
    for at, line in numbered:
        rows[at] = {str(name): float(value) for name, value in line.items() if _is_number(value)}
    run.rows = [rows[at] for at in sorted(rows)]
    if not rows:
        run.notes.append("there are no numbers yet: they come with the first evaluation or iteration")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _read_texts(run: Run) -> None:
    if run.folder.warnings.is_file():
        text = run.folder.warnings.read_text(encoding="utf-8", errors="replace")
        run.warnings = [printable(line) for line in text.splitlines() if line.strip()]
    if run.folder.starts.is_file():
        run.starts = whole_lines(run.folder.starts)[0]


@contextmanager
def _optional(run: Run, file: Path) -> Iterator[None]:
    """Within: a file is read; one that was edited, or that another version wrote, is left out, and a note says so."""
    try:
        yield
    except (*ODD, OSError, DamagedFileError) as error:
        run.notes.append(printable(f"{file.relative_to(run.folder.path)} cannot be read and is left out: {first_line(error)}"))


def _evaluations(run: Run) -> list[Evaluated]:
    found = []
    tasks, repeats = _tasks(run), run.config.get("evaluation.repeats")
    for row in run.rows:
        for temperature, success in evaluations(row).items():
            at = f"@{temperature}"
            inside = {
                name[5 : -len(at)]: value for name, value in row.items() if name.startswith("eval/") and name.endswith(at)
            }
            faults = int(inside.pop("faults", 0))
            cut_off = sum(int(value) for name, value in inside.items() if name.startswith("cut_off/"))
            types = {name: value for name, value in inside.items() if name != "success" and not name.startswith("cut_off/")}
            of = _success(success, tasks, repeats, faults)
            found.append(Evaluated(int(row["iteration"]), temperature, of, dict(types), cut_off, faults))
    return found


def _tasks(run: Run) -> int | None:
    """Tasks of an evaluation in the training, if it is known how many."""
    ids = run.splits.get(str(run.config.get("evaluation.split")), {}).get("ids")
    limit = run.config.get("evaluation.episodes")
    if not isinstance(ids, list):
        return limit if isinstance(limit, int) else None
    return min(len(ids), limit) if isinstance(limit, int) else len(ids)


def _success(value: float, tasks: int | None, repeats: Any, faults: int) -> Success:
    """Its interval is that of one episode a task: several of one task may be alike, and tell no more than one."""
    if tasks is None:
        return Success(value, None, None, None)
    episodes = max(0, tasks * (repeats if isinstance(repeats, int) else 1) - faults)
    independent = min(tasks, episodes)
    return Success(value, *wilson(value * independent, independent), episodes)


def _separate(run: Run, file: Path) -> None:
    found = read_json(file, "it is left out")
    if not isinstance(found, dict) or "temperatures" not in found:
        return  # status.json, splits.json, ...
    iteration = int(found["checkpoint"]["iteration"])
    results = []
    for temperature, measured in found["temperatures"].items():
        types = dict(measured["types"])
        whole = types.pop("all")
        success = _of_rate(whole)
        if success is not None:
            by_type = {str(name): one["success"] for name, one in types.items()}
            cut_off = sum(whole.get("cut_off", {}).values())
            results.append(Evaluated(iteration, str(temperature), success, by_type, cut_off, whole["faults"]))
    random = found.get("random") or {}
    run.separate.append(Separate(file, str(found["split"]), results, _of_rate(random) if "success" in random else None))


def _of_rate(rate: Mapping[str, Any]) -> Success | None:
    low, high = rate["interval95"]
    return None if rate["success"] is None else Success(float(rate["success"]), float(low), float(high), int(rate["episodes"]))


def _audit(file: Path) -> Audit:
    found = read_json(file, "it is left out")

    def measured(numbers: Mapping[str, Any], name: str) -> Interval | None:
        one = numbers.get(name)
        return None if one is None or one["value"] is None else (float(one["value"]), one["low"], one["high"])

    methods = []
    for method in found["methods"]:
        numbers = method["steps"]["numbers"]
        both = (measured(numbers, f"{name}_corrected") for name in ("correlation", "within"))
        methods.append(Credited(str(method["name"]), *both))
    return Audit(file.with_suffix(".html"), found["iteration"], found["episodes"], methods)


def spent(run: Run) -> dict[str, float]:
    """Seconds of wall-clock by what they were spent on, from the beginning; parts within the update follow it."""

    def total(part: str) -> float:
        return math.fsum(row.get(f"time/{part}", 0.0) for row in run.rows)

    wall = run.last("time/wall") or 0.0
    first = run.rows[0] if run.rows and run.rows[0]["iteration"] == 0 else {}
    measured = {part: total(part) for part in (*PARTS, "random", "publish")}
    before = first.get("time/wall", 0.0) - first.get("time/evaluation", 0.0) - first.get("time/random", 0.0)
    named = {
        "before training: loading, warm start": max(0.0, before),
        "rollout": measured["rollout"],
        "branches": measured["branches"],
        "update": measured["update"],
        **{f"within update: {part}": total(part) for part in WITHIN_UPDATE},
        "evaluation": measured["evaluation"] + measured["random"],
        "weights to the engine": measured["publish"],
    }
    counted = sum(value for name, value in named.items() if not name.startswith("within"))
    named["everything else: writing, checkpoints"] = max(0.0, wall - counted)
    return {name: value for name, value in named.items() if value >= LEAST * wall and value > 0}


def steps_per_second(run: Run) -> list[tuple[float, float]]:
    """(iteration, environment steps of training per second of rollout and branches; with overlap of the whole time)."""
    found = []
    overlap = bool(run.config.get("rollout.overlap"))
    for before, row in zip(run.rows, run.rows[1:]):
        if {"env/steps", "time/wall"} <= before.keys() & row.keys():
            seconds = row["time/wall"] - before["time/wall"] if overlap else _played(row)
            if seconds > 0 and row["env/steps"] >= before["env/steps"]:
                found.append((row["iteration"], (row["env/steps"] - before["env/steps"]) / seconds))
    return found


def _played(row: Mapping[str, float]) -> float:
    return row.get("time/rollout", 0.0) + row.get("time/branches", 0.0)
