"""Several methods, several seeds, one budget: trains them all, then a table and a plot with the spread.

    python scripts/compare_methods.py --methods gigpo grpo --seeds 0 1 2 --iterations 40 --out runs/comparison

Runs that are finished already are taken as they are, interrupted ones are resumed; the warm start of a seed is shared by all
methods. Further arguments go to every run (`-- env.max_steps=30`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from agents.tracking import read_metrics

Rows = list[dict[str, Any]]


def train(out: Path, method: str, seed: int, iterations: int, more: Sequence[str]) -> Rows:
    """The metrics of one run, trained now unless it is there."""
    run = out / f"{method}-{seed}"
    status = run / "status.json"
    arguments = [f"algo={method}", f"seed={seed}", f"run={run.name}", f"out={out}", f"iterations={iterations}"]
    arguments += ["threads=1", *more]
    if status.exists():
        if json.loads(status.read_text())["status"] == "finished":
            rows = read_metrics(run / "metrics.jsonl")
            if rows[-1]["iteration"] != iterations:
                raise SystemExit(f"{run} has {rows[-1]['iteration']} iterations, not {iterations}: choose another --out")
            return rows
        arguments = [f"resume={run}"]
    with (out / f"{run.name}.log").open("a") as log:
        done = subprocess.run(
            [sys.executable, "-m", "agents.train", *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    if done.returncode:
        raise SystemExit(f"{run} failed with exit code {done.returncode}; see {log.name}")
    return read_metrics(run / "metrics.jsonl")


def curve(rows: Rows, key: str) -> dict[int, float]:
    """Values of `key` by iteration."""
    return {row["iteration"]: row[key] for row in rows if row.get(key) is not None}


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ±{deviation:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["gigpo", "grpo"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2)), help="runs at a time, one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"))
    parser.add_argument("more", nargs="*", help="overrides for every run, after --")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = [(m, s) for m in options.methods for s in options.seeds]  # the first method makes the seeds' warm starts
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda job: train(options.out, *job, options.iterations, options.more), jobs))
    runs = dict(zip(jobs, found, strict=True))

    keys = sorted({key for rows in found for row in rows for key in row if key.startswith("eval/success@")})
    console = Console()
    table = Table(
        box=box.SIMPLE,
        padding=(0, 1),
        title=f"{len(options.seeds)} seeds, {options.iterations} iterations: mean and standard deviation",
    )
    for column in (
        "method",
        "T",
        "start",
        "end",
        "last 3",
        "CPU s of RL",
        *(f"end, seed {s}" for s in options.seeds),
    ):
        table.add_column(column, overflow="fold")
    summary: dict[str, Any] = {"iterations": options.iterations, "seeds": options.seeds, "methods": {}}
    for method in options.methods:
        for key in keys:
            curves = [curve(runs[method, s], key) for s in options.seeds]
            start, end = ([c[pick(c)] for c in curves] for pick in (min, max))
            last = [statistics.mean(list(c.values())[-3:]) for c in curves]
            cpu = [runs[method, s][-1]["time/cpu"] - runs[method, s][0]["time/cpu"] for s in options.seeds]
            table.add_row(
                method, key.rpartition("@")[2], spread(start), spread(end), spread(last), f"{statistics.mean(cpu):.0f}",
                *(f"{c[max(c)]:.3f}" for c in curves),
            )  # fmt: skip
            summary["methods"].setdefault(method, {})[key] = {
                "start": start, "end": end, "mean_of_last_3": last, "cpu_s": cpu, "curves": curves,
            }  # fmt: skip
    console.print(table)
    (options.out / "comparison.json").write_text(json.dumps(summary, indent=1))

    figure = Figure(figsize=(6 * len(keys), 4), layout="tight")
    axes = figure.subplots(1, len(keys), squeeze=False)
    for axis, key in zip(axes[0], keys, strict=True):
        for method in options.methods:
            curves = [curve(runs[method, s], key) for s in options.seeds]
            x = sorted(set.intersection(*(set(c) for c in curves)))
            means = [statistics.mean(c[i] for c in curves) for i in x]
            deviations = [statistics.stdev([c[i] for c in curves]) if len(curves) > 1 else 0.0 for i in x]
            (line,) = axis.plot(x, means, marker="o", markersize=3, label=method)
            axis.fill_between(
                x,
                [m - d for m, d in zip(means, deviations, strict=True)],
                [m + d for m, d in zip(means, deviations, strict=True)],
                alpha=0.2,
                color=line.get_color(),
            )
        axis.set(xlabel="iteration", ylabel="held-out success", ylim=(0, 1), title=f"temperature {key.rpartition('@')[2]}")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(options.out / "comparison.png", dpi=120)
    console.print(f"written: {options.out / 'comparison.json'}, {options.out / 'comparison.png'}")


if __name__ == "__main__":
    main()
