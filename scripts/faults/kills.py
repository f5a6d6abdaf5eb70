"""Kills small trainings at random moments (kill -9), goes on with them until they finish, and compares with undisturbed ones.

    python scripts/faults/kills.py [--kills N] [--seed S] [--only TEXT] [--keep FOLDER] [--json FILE]

--kills 100    spread over five methods in three environments (killing/shapes.py)
--seed 0       of the moments
--only TEXT    only trainings whose name has this, such as gigpo
--keep FOLDER  where the runs stay that did not end as they should (default: a temporary folder)
--json FILE    every run and every kill, for programs

A run is killed again and again: in its warm start (its cache is its own), in its resumes, in its last steps. In the end its
weights, optimizer, numbers (but for times) and episodes must be to the last bit those of a run that nobody disturbed, and it
may have warned of nothing. Exit code 1 if one is not. For Linux. A hundred kills take some minutes of one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random

from killing.shapes import shapes
from killing.training import STAGES, Moment, Training
from rich.console import Console
from rich.table import Table
from sameness import differences, numbers


@dataclass(frozen=True)
class Kill:
    """When a process was killed."""

    stage: str
    """What it was doing."""
    drawn: Moment
    """A process that is killed in the last thousandths of a second of a stage may be in the next one by then."""


@dataclass
class Trial:
    """A run that was killed and gone on with until it finished."""

    shape: str
    kills: list[Kill] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Empty where the run is the same as one that was not killed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, go on, compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    chosen = {name: settings for name, settings in shapes().items() if options.only in name}
    if not chosen:
        parser.error(f"no training has '{options.only}' in its name; there are: {', '.join(shapes())}")
    trials = []
    with tempfile.TemporaryDirectory() as temporary:
        for trial in killed(chosen, options.kills, Random(options.seed), (options.keep or Path(temporary)).resolve()):
            moments = ", ".join(kill.stage for kill in trial.kills)
            print(f"{trial.shape}: killed in {moments}: {'; '.join(trial.problems) or 'equal'}", flush=True)
            trials.append(trial)
    show(trials)
    if options.json:
        options.json.write_text(json.dumps({"seed": options.seed, "runs": [asdict(one) for one in trials]}, indent=1))
    return int(any(trial.problems for trial in trials))


def killed(chosen: Mapping[str, Sequence[str]], kills: int, draw: Random, folder: Path) -> Iterator[Trial]:
    """Trials of the trainings in turn, until there were so many kills."""
    whole: dict[str, tuple[Training, list[list[Moment]]]] = {}
    """Of each shape: the run that nobody disturbs, and its moments, stage by stage."""
    for number, (shape, settings) in enumerate(itertools.cycle(chosen.items())):
        if not kills:
            return
        if shape not in whole:
            whole[shape] = undisturbed(Training(folder / f"whole-{shape.replace(' ', '-')}", settings))
        trial, training = Trial(shape), Training(folder / f"killed-{number:03d}", settings)
        while not training.finished:
            last = draw.choice(draw.choice(whole[shape][1]))
            moment = replace(last, seconds=draw.uniform(0, last.seconds))
            end = training.go_on(moment if kills else None)
            if end.killed:
                trial.kills.append(Kill(end.turns[-1][0], moment))
                kills -= 1
            elif end.code:
                trial.problems.append(f"exit code {end.code}, {training.folder}: {training.said[-1000:]}")
                break
        else:
            trial.problems += differences(whole[shape][0].run, training.run)
            trial.problems += sorted(training.warnings - whole[shape][0].warnings)
        if not trial.problems:
            shutil.rmtree(training.folder)
        if trial.kills or trial.problems:
            yield trial


def undisturbed(training: Training) -> tuple[Training, list[list[Moment]]]:
    """Train to the end. Raises RuntimeError where that fails, or nothing is learned: two such runs would be equal anyway."""
    end = training.go_on()
    if end.code:
        raise RuntimeError(f"the training fails undisturbed, too:\n{training.said}")
    if all(row.get("train/alike", 1) == 1 for row in numbers(training.run)):
        raise RuntimeError(f"the episodes of {' '.join(training.settings)} are all worth the same: there is nothing to learn")
    return training, [*end.moments().values()]


def show(trials: Sequence[Trial]) -> None:
    """Kills by moment and by training, and how many of them were in runs that ended as they should."""
    for head, names in (("moment", STAGES), ("training", list(dict.fromkeys(trial.shape for trial in trials)))):
        table = Table(head, box=None, padding=(0, 2), header_style="dim")
        for column in ("kills", "equal afterwards"):
            table.add_column(column, justify="right")
        for name in names:
            of_name = [(name in (trial.shape, kill.stage), not trial.problems) for trial in trials for kill in trial.kills]
            hits = [equal for hit, equal in of_name if hit]
            table.add_row(name, str(len(hits)), str(sum(hits)))
        Console(markup=False).print(table)
    kills, failed = sum(len(trial.kills) for trial in trials), sum(bool(trial.problems) for trial in trials)
    print(f"{kills} kills of {len(trials)} runs: " + (f"{failed} runs did not end as they should" if failed else "all equal"))


if __name__ == "__main__":
    sys.exit(main())
