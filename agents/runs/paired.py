"""Two evaluations of the same tasks, compared task by task."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.runs.evaluation import Z
from envs.common.files import regular
from envs.common.structured import ConfigError

Outcomes = Mapping[str, Sequence[int]]
"""Of each task, whether each attempt succeeded."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Success at the tasks that both have tried."""

    tasks: int
    first: float
    second: float
    """Mean over the tasks of the share of attempts that succeeded."""
    low: float
    high: float
    """95% interval of first - second."""
    p: float
    """Chance of a difference at least as large if, at each task, either might as well have been the other."""

    @property
    def difference(self) -> float:
        return self.first - self.second


@dataclass(frozen=True)
class Earlier:
    """Results of an evaluation that a file holds."""

    file: Path
    outcomes: Mapping[str, Outcomes]
    """By temperature."""

    @classmethod
    def read(cls, file: Path, like: Mapping[str, Any], temperatures: Sequence[str]) -> Earlier:
        """What of the file can be compared with results that are made `like` it. Raises ConfigError."""
        found = _results(file)
        for what in ("environment", "split", "split_hash"):
            if found.get(what) != like[what]:
                raise ConfigError(
                    f"against={file} is of {what} {found.get(what)}, and this evaluation is of {like[what]}; only evaluations "
                    "on the same tasks can be compared"
                )
        if not (both := [t for t in temperatures if t in found["temperatures"]]):
            there = ", ".join(found["temperatures"])
            raise ConfigError(f"against={file} has no temperature in common with this evaluation; set one of {there}")
        if any("outcomes" not in found["temperatures"][t] for t in both):
            raise ConfigError(f"against={file} does not say which tasks were solved: an older version wrote it; make it anew")
        return cls(file, {t: found["temperatures"][t]["outcomes"] for t in both})

    def compared(self, temperature: str, outcomes: Outcomes) -> dict[str, Any] | None:
        """As JSON holds it; None where nothing can be compared."""
        found = paired(outcomes, self.outcomes.get(temperature, {}))
        return None if found is None else {"file": str(self.file), "difference": found.difference, **asdict(found)}


def _results(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(regular(file).read_bytes())
    except OSError as error:
        raise ConfigError(f"against={file} cannot be read: {error.strerror}; name an evaluation's JSON file") from error
    except ValueError as error:
        raise ConfigError(f"against={file} is not JSON; name the file that an evaluation wrote") from error
    if not isinstance(found, dict) or not isinstance(found.get("temperatures"), dict):
        raise ConfigError(f"against={file} holds no results of agents.evaluate; name the file that an evaluation wrote")
    return found


def paired(first: Outcomes, second: Outcomes) -> Paired | None:
    """Attempts by task against attempts by task; None where no task has attempts in both.

    The interval is Bonett and Price's (2012) for paired proportions, with means over attempts in place of single attempts.
    """
    both = [task for task, attempts in first.items() if attempts and second.get(task)]
    if not both:
        return None
    tried = [*(len(first[task]) for task in both), *(len(second[task]) for task in both)]
    unit = math.lcm(*tried)
    wins = [np.array([sum(of[task]) * (unit // len(of[task])) for task in both]) for of in (first, second)]
    apart = wins[0] - wins[1]
    # Two more tasks, one won by each: where all tasks agree the interval is not a point.
    d = np.append(apart / unit, [1.0, -1.0])
    half = Z * math.sqrt(d.var() / len(d))
    return Paired(
        tasks=len(both),
        first=float(wins[0].mean() / unit),
        second=float(wins[1].mean() / unit),
        low=float(d.mean() - half),
        high=float(d.mean() + half),
        p=_sign_flips(apart),
    )


def _sign_flips(apart: np.ndarray) -> float:
    """Share of all choices of signs for integers `apart` [n] whose sum is at least as far from 0 as theirs; exact.

    With one attempt a task this is McNemar's exact test.
    """
    sizes = [int(size) for size in np.abs(apart) if size]
    most = sum(sizes)
    chances = np.zeros(2 * most + 1)  # of the sums from -most to most
    chances[most] = 1.0
    for size in sizes:
        chances = (np.roll(chances, size) + np.roll(chances, -size)) / 2
    sums = np.arange(-most, most + 1)
    return float(min(1.0, chances[np.abs(sums) >= abs(int(apart.sum()))].sum()))
