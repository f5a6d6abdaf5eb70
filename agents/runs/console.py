"""The terminal's view of a run: a live table on a terminal, one plain line an iteration elsewhere (files, CI)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console as Terminal
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agents.config.sections import ConsoleConfig
from agents.runs.metrics import finite
from agents.runs.tracker import Tracker
from envs.common import streams

ROWS = 10
"""Iterations that the live table shows."""
COLUMNS = ("success", "reward", "steps", "valid", "tok/s", "rollout s", "update s", "eval s", "eval success")
RARE = ("branches s", "out of context", "faults")
"""Columns that are there only if they have anything to say; the last two count episodes of training, and of evaluations."""
BARS = "▁▂▃▄▅▆▇█"
EVAL = "eval/success@"
RANDOM = "eval/random_success"
STAGE_INTERVAL = 10.0
"""Seconds of silence after which a stage says how far it is, where there is no live table."""


class DisplayLost(RuntimeError):
    """What is shown reaches nobody any more."""


class Console(Tracker):
    """Shows progress; `past` are the metrics of a resumed run so far. Holds what it still shows of them, not all."""

    def __init__(
        self,
        config: ConsoleConfig,
        run: str,
        iterations: int,
        past: Sequence[Mapping[str, Any]] = (),
        terminal: Terminal | None = None,
    ) -> None:
        self._terminal = terminal or Terminal(stderr=False, highlight=False)
        self._run, self._iterations = run, iterations
        self._rows: deque[dict[str, Any]] = deque(maxlen=ROWS)
        self._curves: dict[str, list[float]] = {}
        """Held-out success by temperature."""
        self._random: float | None = None
        """Success of random actions, as the evaluation before training measured it."""
        for row in past:
            self._keep(dict(row))
        self._stage = ""
        self._spoke = time.monotonic()
        live = self._terminal.is_terminal if config.live is None else config.live
        self._live = Live(self._view(), console=self._terminal, refresh_per_second=4, transient=False) if live else None
        if self._live:
            self._live.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._refuse_if_lost()
        known = finite(metrics)
        self._keep({"iteration": step, **known})
        self._stage = ""
        if self._live:
            self._live.update(self._view())
        else:
            self._spoke = time.monotonic()
            self._terminal.print(line(step, self._iterations, known), soft_wrap=True, markup=False)

    def progress(self, stage: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        self._refuse_if_lost()
        numbers = "  ".join(f"{name} {value:.3g}" for name, value in metrics.items())
        self._stage = f"{stage} {done}/{total}  {numbers}".rstrip()
        if self._live:
            self._live.update(self._view())
        elif time.monotonic() - self._spoke > STAGE_INTERVAL:
            self._spoke = time.monotonic()
            self._terminal.print(f"  {self._stage}", soft_wrap=True, markup=False)

    def say(self, message: str) -> None:
        self._refuse_if_lost()
        self._spoke = time.monotonic()
        # A live table stays below what its own console prints.
        (self._live.console if self._live else self._terminal).print(message, style="yellow", soft_wrap=True, markup=False)

    def close(self, status: str) -> None:
        self._stage = status
        if self._live:
            self._live.update(self._view())
            self._live.stop()
        else:
            self._terminal.print(f"{self._run}: {status}", markup=False)

    def _keep(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        for temperature, score in evaluations(row).items():
            self._curves.setdefault(temperature, []).append(score)
        self._random = row.get(RANDOM, self._random)

    def _refuse_if_lost(self) -> None:
        if error := streams.lost("stdout"):
            if self._live:
                self._live.stop()
            raise DisplayLost(f"standard output reaches nobody any more ({error.strerror})")

    def _view(self) -> Group:
        done = self._rows[-1]["iteration"] if self._rows else 0
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(1, self._iterations), completed=done, width=40)
        head.add_row(Text(self._run, "bold"), bar, f"iteration {done}/{self._iterations}", self._remaining())
        table = Table(box=None, padding=(0, 2), header_style="dim")
        shown = [[str(row["iteration"]), *cells(row)] for row in self._rows]
        names = ("iteration", *COLUMNS, *RARE)
        kept = [place for place, name in enumerate(names) if name not in RARE or any(row[place] for row in shown)]
        for place in kept:
            table.add_column(names[place], justify="right")
        for row in shown:
            table.add_row(*(row[place] for place in kept))
        parts: list[Any] = [head, table]
        for temperature, curve in self._curves.items():
            shape = f"{sparkline(curve[-60:])}  {curve[0]:.2f} -> {curve[-1]:.2f}"
            parts.append(Text(f"eval success at temperature {temperature}  {shape}{self._floor()}"))
        parts.append(Text(self._stage, "dim"))
        return Group(*parts)

    def _floor(self) -> str:
        return "" if self._random is None else f"  random actions {self._random:.2f}"

    def _remaining(self) -> str:
        """Time left by the mean of the last iterations."""
        recent = [row for row in self._rows if row.get("time/wall") is not None][-6:]
        if len(recent) < 2:
            return ""
        each = (recent[-1]["time/wall"] - recent[0]["time/wall"]) / max(1, recent[-1]["iteration"] - recent[0]["iteration"])
        seconds = int(each * (self._iterations - recent[-1]["iteration"]))
        return f"about {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"


def evaluations(row: Mapping[str, Any]) -> dict[str, float]:
    """Held-out success by temperature."""
    found = {name.removeprefix(EVAL): value for name, value in row.items() if name.startswith(EVAL)}
    return {name: value for name, value in found.items() if value is not None}


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row under COLUMNS and RARE; what the iteration did not measure stays empty, and so does a count that is 0."""

    def number(name: str, form: str) -> str:
        value = row.get(name)
        return "" if value is None else format(value, form)

    def count(name: str) -> str:
        trained = int(row.get(f"train/{name}") or 0)
        measured = int(sum(value for key, value in row.items() if key.startswith(f"eval/{name}@") and value))
        return ", ".join([f"{trained}"] * (trained > 0) + [f"{measured} in evaluation"] * (measured > 0))

    return [
        number("train/success", ".2f"),
        number("train/reward", ".2f"),
        number("train/steps", ".1f"),
        number("train/valid", ".2f"),
        number("tokens_per_s", ".0f"),
        number("time/rollout", ".1f"),
        number("time/update", ".1f"),
        number("time/evaluation", ".1f"),
        " ".join(f"{score:.3f}" for score in evaluations(row).values()),
        number("time/branches", ".1f"),
        count("cut_off/context"),
        count("faults"),
    ]


def line(step: int, iterations: int, metrics: Mapping[str, Any]) -> str:
    """An iteration in one line."""
    values = [*zip((*COLUMNS, *RARE), cells(metrics), strict=True)]
    if metrics.get(RANDOM) is not None:
        values.append(("random actions", f"{metrics[RANDOM]:.3f}"))
    return f"[{step}/{iterations}] " + "  ".join(f"{name} {value}" for name, value in values if value)


def sparkline(values: Sequence[float]) -> str:
    """Values in 0..1 as a row of bars."""
    return "".join(BARS[min(len(BARS) - 1, int(max(0.0, value) * len(BARS)))] for value in values)
