"""`--multirun`: every combination of the values given, one run after the other, each in a process of its own."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from agents.config import loading
from agents.config.overrides import assignment, command_line, read
from agents.config.secrets import MASK, masked_word
from agents.runs.children import Children
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
    """Run all combinations; returns 0 if every run finished. All are checked before the first starts. Raises ConfigError.

    Signals are passed on to the run that is going on, which is saved by them; none is begun after it, and 130 returned.
    """
    runs = combinations(overrides)
    fixed = set(runs[0]).intersection(*runs)
    base = loading.load(runs[0])
    for run in runs[1:]:
        loading.load(run)
    folder = Path(base.out) / (base.run or f"sweep-{time.strftime('%Y%m%d-%H%M%S')}")
    planned = {}
    for number, run in enumerate(runs):
        varied = [masked_word(override.lstrip("+")) for override in run if override not in fixed]
        told = (one.replace("=", "-").replace("/", "-").replace(MASK, "masked") for one in varied)
        name = "_".join([f"{number:02d}", *told])
        kept = [override for override in run if override.partition("=")[0] not in ("out", "run")]
        planned[name] = varied, [*kept, assignment("out", folder), assignment("run", name)]
    table = Table("run", "status", "iteration", box=None, padding=(0, 2), header_style="dim")
    worst, left = 0, dict(planned)
    with Children() as children:
        for number, (name, (varied, words)) in enumerate(planned.items(), 1):
            print(f"run {number} of {len(runs)}: {' '.join(varied)}", flush=True)
            code = children.start("agents.train", words).wait()
            status = RunFolder(folder / name).get_status()
            table.add_row(name, status.get("status", f"exit code {code}"), str(status.get("iteration", "")))
            if status or code == 0 or not children.came:
                del left[name]
            worst = max(worst, 1 if code else 0)
            if children.came or code == 130:
                worst = 130
                break
    Console(markup=False).print(table)
    if left:
        commands = [command_line("agents.train", *map(masked_word, words)) for _, words in left.values()]
        print("\n".join([f"stopped; {len(left)} of {len(runs)} runs have not begun:", *commands]), file=sys.stderr)
    metrics = {path.parent.name: read_metrics(path) for path in sorted(folder.glob("*/metrics.jsonl"))}
    if not metrics:  # no run got as far as having a folder
        return worst
    drawn = compare(metrics, folder / "plots")
    print(f"runs are in {folder}" + (f", their curves side by side in {folder / 'plots'}" if drawn else ""))
    return worst
