"""`--multirun`: every combination of the values given, one run after the other, each in a process of its own."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from agents.config import loading
from agents.config.overrides import assignment, read
from agents.runs.folder import RunFolder
from agents.runs.metrics import read_metrics
from agents.runs.plots import compare


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each run: `seed=0,1 algo=gigpo,grpo` gives four lists. Raises ConfigError."""
    choices: list[list[str]] = []
    for line in overrides:
        override = read(line)
        if override.is_sweep_override():
            prefix = line.partition("=")[0]
            choices.append([f"{prefix}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([line])
    return [list(combination) for combination in itertools.product(*choices)]


def sweep(overrides: Sequence[str]) -> int:
    """Run all combinations; returns 0 if every run finished. All are checked before the first starts. Raises ConfigError."""
    runs = combinations(overrides)
    fixed = set(runs[0]).intersection(*runs)
    base = loading.load(runs[0])
    for run in runs[1:]:
        loading.load(run)
    folder = Path(base.out) / (base.run or f"sweep-{time.strftime('%Y%m%d-%H%M%S')}")
    table = Table("run", "status", "iteration", box=None, padding=(0, 2), header_style="dim")
    worst = 0
    for number, run in enumerate(runs):
        varied = [override.lstrip("+") for override in run if override not in fixed]
        name = "_".join([f"{number:02d}", *(one.replace("=", "-").replace("/", "-") for one in varied)])
        print(f"run {number + 1} of {len(runs)}: {' '.join(varied)}", flush=True)
        command = [
            sys.executable,
            "-m",
            "agents.train",
            *run,
            assignment("out", folder),
            assignment("run", name),
        ]
        code = subprocess.run(command, check=False).returncode
        status = RunFolder(folder / name).get_status()
        table.add_row(name, status.get("status", f"exit code {code}"), str(status.get("iteration", "")))
        if code == 130:
            return code
        worst = max(worst, 1 if code else 0)
    Console(markup=False).print(table)
    metrics = {path.parent.name: read_metrics(path) for path in sorted(folder.glob("*/metrics.jsonl"))}
    if not metrics:  # no run got as far as having a folder
        return worst
    drawn = compare(metrics, folder / "plots")
    print(f"runs are in {folder}" + (f", their curves side by side in {folder / 'plots'}" if drawn else ""))
    return worst
