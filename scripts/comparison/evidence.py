"""What the runs wrote: metrics, splits, final evaluations; and whether they began alike.

Numbers are read as they are; means and intervals are made in `summary`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.config.differences import differences, settings
from agents.runs.console import EVAL
from agents.runs.metrics import read_metrics
from envs.common.files import read_json
from envs.common.structured import ConfigError
from envs.trajectory import CONTEXT

from .intervals import Floats
from .plan import Plan, Run

Rows = Sequence[Mapping[str, Any]]
NOT_TYPES = ("success", "faults")
"""Of an evaluation's metrics; neither are its counts of episodes that were cut off, cut_off/<reason>."""
AGAIN = "delete it and give the same command"
"""What to do where the file of a final evaluation is damaged."""
EVERY = "success"
"""Stands for all tasks as one type."""


def rows(run: Run) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, none if it has not begun."""
    return read_metrics(run.folder.metrics) if run.folder.metrics.exists() else []


def has_begun(run: Run) -> bool:
    """Whether the run was evaluated before training."""
    return run.folder.metrics.exists() and run.folder.metrics.stat().st_size > 0


def splits(run: Run) -> dict[str, str]:
    """Hashes of the run's task splits."""
    if not run.folder.splits.exists():
        return {}
    return {
        name: of_split["hash"]
        for name, of_split in read_json(run.folder.splits, "delete the run's folder and give the same command").items()
    }


def refuse_unequal(plan: Plan) -> None:
    """Raise ConfigError, with the arms' names, if runs have other tasks, or runs of a seed another start.

    Arms that sample differently (engine.*) may start differently; `starts` reports that.
    """
    known = [(run, splits(run)) for run in plan if run.folder.splits.exists()]
    for (one, mine), (other, theirs) in itertools.pairwise(known):
        for name in mine:
            if theirs.get(name) != mine[name]:
                raise ConfigError(
                    f"{one.name} and {other.name} have other tasks: split '{name}' is {mine[name]} and {theirs.get(name)}"
                )
    for one, other, what in starts(plan):
        if not _samples_differently(one, other):
            raise ConfigError(
                f"{one.name} and {other.name} do not start from the same model: before training {what}. Was one of them run "
                "with another version, or on another machine? Move its folder away and give the same command"
            )


def starts(plan: Plan) -> list[tuple[Run, Run, str]]:
    """Pairs of runs of one seed whose evaluations before training differ, and the first difference in words.

    A run is held against the first one that samples as it does; the first of its way to sample against the first of all.
    """
    found = []
    for seed in plan.seeds:
        known = [(run, measured(rows(run)[0])) for run in plan if run.seed == seed and rows(run)]
        for other, theirs in known:
            one, mine = next(pair for pair in known if not _samples_differently(pair[0], other))
            if one is other:
                one, mine = known[0]
            key = next((key for key in sorted(mine | theirs) if mine.get(key) != theirs.get(key)), None)
            if key is not None:
                found.append((one, other, f"{key} is {mine.get(key)} and {theirs.get(key)}"))
    return found


def _samples_differently(one: Run, other: Run) -> bool:
    pair = {run.arm: settings(run.config) for run in (one, other)}
    return any(key.startswith("engine.") for key in differences(pair))


def measured(row: Mapping[str, Any]) -> dict[str, float]:
    """What a line says of the policy's held-out episodes; those of random actions say nothing of it."""
    of_policy = (key for key in row if key.startswith("eval/") and not key.startswith("eval/random_"))
    return {key: row[key] for key in of_policy if row[key] is not None}


def temperatures(table: Rows) -> list[str]:
    """Temperatures of the evaluations, highest first."""
    found = {key.removeprefix(EVAL) for row in table for key in row if key.startswith(EVAL)}
    return sorted(found, key=float, reverse=True)


def task_types(tables: Sequence[Rows], files: Sequence[Path], temperature: str) -> tuple[list[str], list[str]]:
    """Task types that every evaluation, in `tables` and in the `files` of final ones, has a number for; and all others.

    All tasks are one type if there is none.
    """
    lines = [row for table in tables for row in table if row.get(f"{EVAL}{temperature}") is not None]
    names = [[key.removeprefix("eval/").rpartition("@") for key in measured(row)] for row in lines]
    found = [
        {name for name, _, end in of_row if end == temperature and name not in NOT_TYPES and not name.startswith("cut_off/")}
        for of_row in names
    ]
    found += [set(_final(file, temperature)) - {"all"} for file in files]
    common = set.intersection(*found)
    return sorted(common) or [EVERY], sorted(set.union(*found) - common)


def _final(file: Path, temperature: str) -> dict[str, float]:
    """Success by task type, and of `all`, in the file of a final evaluation; without types that have no number."""
    types = read_json(file, AGAIN)["temperatures"][temperature]["types"]
    found = {kind: result["success"] for kind, result in types.items()}
    return {kind: float(value) for kind, value in found.items() if value is not None and math.isfinite(value)}


def curve(table: Rows, x: str, types: Sequence[str], temperature: str) -> tuple[Floats, Floats]:
    """x [E] and success [E, K] of a run's evaluations; time counts from the end of the evaluation before training."""
    lines = [row for row in table if row.get(f"{EVAL}{temperature}") is not None]
    begin = lines[0][x] if x.startswith("time/") else 0.0
    places = np.array([row[x] - begin for row in lines], dtype=np.float64)
    return places, np.array([success(row, types, temperature)[1] for row in lines], dtype=np.float64)


def success(row: Mapping[str, Any], types: Sequence[str], temperature: str, whose: str = "") -> tuple[float, list[float]]:
    """Success over all tasks of the evaluation in a line, and by type. Raises ConfigError where there is no number."""
    if row[f"{EVAL}{temperature}"] is None:
        raise ConfigError(
            f"{whose}: in the evaluation after iteration {row['iteration']}, temperature {temperature}, every episode was cut "
            "off by a fault: mend the environment, delete the run's folder and give the same command"
        )
    return float(row[f"{EVAL}{temperature}"]), [float(row[f"eval/{kind}@{temperature}"]) for kind in types]


def final(run: Run, types: Sequence[str], temperature: str, file: Path | None) -> tuple[float, list[float]]:
    """Success of a run's final evaluation, over all tasks and by type: the one in `file`, or the last of the training.

    Raises ConfigError if every episode in `file` was cut off by a fault.
    """
    if file is not None:
        found = _final(file, temperature)
        if "all" not in found:
            raise ConfigError(f"{run.name}: in {file} no episode ended without a fault. Delete it and give the same command")
        return found["all"], [found["all" if kind == EVERY else kind] for kind in types]
    return success(last_evaluation(run, temperature), types, temperature, run.name)


def last_evaluation(run: Run, temperature: str) -> Mapping[str, Any]:
    """The line of the last evaluation of the training."""
    return next(row for row in reversed(rows(run)) if f"{EVAL}{temperature}" in row)


def cut_off(run: Run, temperature: str, file: Path | None) -> tuple[int, int]:
    """Of the final evaluation: episodes that a fault cut off, which are in no rate, and that outgrew the context, which are."""
    if file is not None:
        of_all = read_json(file, AGAIN)["temperatures"][temperature]["types"]["all"]
        return of_all.get("faults", 0), of_all.get("cut_off", {}).get(CONTEXT, 0)
    last = last_evaluation(run, temperature)
    return tuple(int(last.get(f"eval/{name}@{temperature}") or 0) for name in ("faults", f"cut_off/{CONTEXT}"))  # type: ignore[return-value]


def cost(table: Rows) -> dict[str, float]:
    """What a run took after its evaluation before training: seconds, tokens, iterations, environment steps."""
    trained = table[1:]
    last = table[-1]

    def total(key: str) -> float:
        return float(sum(row.get(key) or 0.0 for row in trained))

    def evaluated(name: str) -> float:
        return float(sum(v for row in table for key, v in measured(row).items() if key.startswith(f"eval/{name}@")))

    return {
        "iterations": float(last["iteration"]),
        "environment steps": float(last["env/steps"]),
        "CPU s": last["time/cpu"] - table[0]["time/cpu"],
        "wall s": last["time/wall"] - table[0]["time/wall"],
        "rollout s": total("time/rollout") + total("time/branches"),
        "update s": total("time/update"),
        "evaluation s": total("time/evaluation"),
        "rollout tokens": total("tokens/rollout") + total("branch/computed"),
        "update tokens (all models)": total("tokens/update"),
        "out of context": total(f"train/cut_off/{CONTEXT}") + evaluated(f"cut_off/{CONTEXT}"),
        "faults": total("train/faults") + total("train/greedy_faults") + evaluated("faults"),
    }
