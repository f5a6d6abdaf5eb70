"""What the terminal shows while runs go on: a line an arm; where the output is no terminal, a line for every change."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from agents.runs.console import evaluations

from .evidence import rows
from .plan import Plan, Run

INTERVAL = 2.0
"""Seconds between readings of the metrics."""


class Progress:
    """A context in which `show` is called again and again."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan, self._console = plan, console
        self._live = Live(console=console, refresh_per_second=2) if console.is_terminal else None
        self._said: dict[str, str] = {}
        self._read = 0.0

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def show(self, states: Mapping[str, str]) -> None:
        """Show what each run is doing, by its name."""
        changed = {name: state for name, state in states.items() if self._said.get(name, "waiting") != state}
        self._said = dict(states)
        if self._live is None:
            for run in self._plan:
                if run.name in changed:
                    about = _numbers(run) if changed[run.name] != "failed" else str(run.failed)
                    self._console.print(f"{run.name}: {changed[run.name]}  {about}".rstrip(), markup=False, soft_wrap=True)
        elif changed or time.monotonic() - self._read > INTERVAL:
            self._read = time.monotonic()
            self._live.update(self._table(states))

    def _table(self, states: Mapping[str, str]) -> Table:
        table = Table(box=None, padding=(0, 2), header_style="dim")
        for name in ("arm", "runs", "iteration", "environment steps", "success"):
            table.add_column(name, justify="left" if name in ("arm", "runs") else "right")
        for arm in self._plan.arms:
            runs = self._plan.of(arm)
            counts = Counter(states[run.name] for run in runs)
            last = [found[-1] for found in map(rows, runs) if found]
            scores = [score for run in runs if (score := _success(run)) is not None]
            steps = sum(row.get("env/steps") or 0 for row in last)
            goal = f" of {self._plan.budget * len(runs):,}" if self._plan.budget else ""
            table.add_row(
                arm,
                ", ".join(f"{number} {state}" for state, number in counts.items()),
                " ".join(f"{row['iteration']}" for row in last),
                f"{steps:,.0f}{goal}",
                " ".join(f"{score:.2f}" for score in scores),
            )
        return table


def _success(run: Run) -> float | None:
    """The newest evaluation of a run, at its first temperature."""
    measured: list[dict[str, Any]] = [row for row in rows(run) if evaluations(row)]
    return next(iter(evaluations(measured[-1]).values())) if measured else None


def _numbers(run: Run) -> str:
    found, score = rows(run), _success(run)
    if not found or score is None:
        return ""
    return f"iteration {found[-1]['iteration']}, {found[-1].get('env/steps') or 0:,.0f} environment steps, success {score:.2f}"
