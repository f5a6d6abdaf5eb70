"""Trains for thousands of small iterations while something goes wrong again and again, and says what that cost.

    python scripts/faults/endurance.py [--iterations N] [--every K] [--env NAME] [--keep FOLDER] [--json FILE]

--iterations 3000  small ones, with checkpoints and evaluations
--every 20         iterations from one fault to the next
--env alfworld     or webshop, minihack
--keep FOLDER      where the run stays (default: a temporary folder)
--json FILE        all counts and samples, for programs

Environments raise, exit, die, hang and pay infinite rewards (enduring/environments.py registers them, as any plug-in does). The
training is killed, terminated and resumed, its disk is full, its reader leaves. In the end the run must have finished with the
numbers and episodes of every iteration; each fault must have been found as often as there was one, and have cost what it may;
memory and open files of the training and of its workers must not have grown. Exit code 1 if that is not so. For Linux.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from enduring.faults import EPISODES, FAULTS, STOPS, planned
from enduring.growth import MOST, Growth, growths
from enduring.training import Ended, Training
from rich.console import Console
from rich.table import Table

from agents.runs.metrics import read_metrics
from envs.trajectory_file import read

SETTINGS = (
    *("algo=gigpo", "engine.constrained=admissible", "threads=1", "device=cpu", "env.max_steps=8"),
    *("warmstart.batch=8", "warmstart.suboptimal_share=0", "warmstart.detours=0", "warmstart.lr=1e-2"),
    *("model.tiny.hidden=32", "model.tiny.intermediate=32", "model.tiny.layers=1"),
    *("rollout.groups=1", "rollout.group_size=2", "evaluation.every=50", "evaluation.episodes=2"),
    *("env.pool.mode=processes", "env.pool.workers=2", "env.pool.retries=0", "env.pool.step_timeout=20"),
)
"""A worker for each episode and no second try, so that each failure costs exactly one episode."""
ENVIRONMENTS = {
    "alfworld": (
        *("env=disturbed/alfworld", "env.train_games=6", "env.eval_games=2", "env.test_games=2"),
        *("warmstart.steps=60", "warmstart.demonstrations=20"),
    ),
    "webshop": (
        *("env=disturbed/webshop", "env.pays=score", "env.products=60"),
        *("env.train_goals=20", "env.eval_goals=4", "env.test_goals=4", "warmstart.steps=30", "warmstart.demonstrations=20"),
    ),
    "minihack": (
        *("env=disturbed/minihack", "env.context=window", "env.history=0", "env.levels=[room]"),
        *("env.train_tasks=20", "env.eval_tasks=4", "env.test_tasks=4", "warmstart.steps=20", "warmstart.demonstrations=10"),
    ),
}

WIDTH = 120
"""Columns of the widest table."""


@dataclass
class Report:
    """What became of a training."""

    done: Counter[str] = field(default_factory=Counter)
    """How often each fault was there."""
    found: Counter[str] = field(default_factory=Counter)
    """Episodes cut off, by the fault that their error names."""
    lost: Counter[str] = field(default_factory=Counter)
    """Iterations that were done again, by fault."""
    growths: list[Growth] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, disturb, look; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=3000)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--env", choices=ENVIRONMENTS, default="alfworld")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    saved = max(1, options.every // 4)  # so often that a fault is saved before the next one
    settings = (*ENVIRONMENTS[options.env], *SETTINGS, f"iterations={options.iterations}", f"checkpoint.every={saved}")
    with tempfile.TemporaryDirectory() as temporary:
        training = Training((options.keep or Path(temporary)).resolve(), settings)
        report = endured(training, options.iterations, options.every, saved)
    show(report)
    if options.json:
        content = {**vars(report), "growths": [*map(asdict, report.growths)], "samples": [*map(asdict, training.samples)]}
        options.json.write_text(json.dumps(content))
    return int(bool(report.problems))


def endured(training: Training, iterations: int, every: int, saved: int) -> Report:
    """Train to the end with a fault every so many iterations. saved: iterations from one checkpoint to the next."""
    report = Report()
    now = "the beginning"
    try:
        training.start()
        due = every
        for now in planned(iterations // every - 1):
            while training.iteration < due:
                training.must_go_on()
            before = training.lost
            FAULTS[now].do(training)
            report.done[now] += 1
            report.lost[now] += training.lost - before
            due = training.iteration + every
            if due > iterations - every:
                break
        while training.goes_on():
            pass
    except Ended as ended:
        report.problems.append(f"{now}: {ended}")
        return report
    report.growths = growths(training.samples)
    report.problems += [*unfinished(training, iterations), *miscounted(training, report, iterations)]
    report.problems += [
        f"{one.kind}s grow by {one.slope:.3g} {one.what} an iteration" for one in report.growths if one.too_much
    ]
    for name, fault in STOPS.items():
        if report.lost[name] > (most := fault.iterations * saved * report.done[name]):
            report.problems.append(f"{name}: {report.lost[name]} iterations were done again, and {most} may be")
    return report


def unfinished(training: Training, iterations: int) -> list[str]:
    found = []
    if training.process.returncode or (status := training.run.get_status()["status"]) != "finished":
        found.append(f"it did not finish: exit code {training.process.returncode}, {status}: {training.said}")
    rows = [row["iteration"] for row in read_metrics(training.run.metrics)]
    if rows != [*range(iterations + 1)]:
        found.append(f"{training.run.metrics} has not one line for each iteration")
    return found


def miscounted(training: Training, report: Report, iterations: int) -> list[str]:
    """Compare the errors of the run's episodes, and its own counts, with what was done."""
    errors = []
    for iteration in range(1, iterations + 1):
        errors += [one.error for one in read(training.run.trajectories(iteration)) if one.error is not None]
    for error in errors:
        names = [name for name, fault in EPISODES.items() if fault.error and re.search(fault.error, error)]
        report.found[names[0] if names else f"unforeseen: {error}"] += 1
    done = Counter({name: count for name, count in report.done.items() if name in EPISODES})
    found = []
    if report.found != done:
        found.append(f"the episodes' errors tell of {dict(report.found)}, and what was done is {dict(done)}")
    rows = read_metrics(training.run.metrics)
    counts = [sum(row.get(name) or 0 for row in rows) for name in ("train/faults", "eval/faults@1")]
    if counts != [done.total(), 0]:
        found.append(f"the metrics count {counts} faults of training and evaluation, and there were {[done.total(), 0]}")
    return found


def show(report: Report) -> None:
    """What was done and what it cost, and what grew."""
    table = Table("fault", box=None, padding=(0, 2), header_style="dim")
    for column in ("times", "episodes cut off", "iterations redone"):
        table.add_column(column, justify="right")
    table.add_column("what is lost")
    for name, fault in FAULTS.items():
        if report.done[name]:
            cut, again = (
                str(count) if of else "" for count, of in ((report.found[name], fault.error), (report.lost[name], True))
            )
            table.add_row(name, str(report.done[name]), cut, again, fault.lost)
    held = Table("of a", "what", box=None, padding=(0, 2), header_style="dim")
    for column in ("more each iteration", "may be", "highest"):
        held.add_column(column, justify="right")
    for one in report.growths:
        slope = "too few samples" if one.slope is None else f"{one.slope:.3g}"
        held.add_row(one.kind, one.what, slope, f"{MOST[one.what]:g}", str(one.highest))
    for shown in (table, held):
        Console(markup=False, width=max(WIDTH, Console().width)).print(shown)
    print("\n".join(report.problems) or "it finished, all faults were counted, and nothing grew")


if __name__ == "__main__":
    sys.exit(main())
