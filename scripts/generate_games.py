"""Write generated ALFWorld games as files in the official layout, and check them.

    python scripts/generate_games.py games --count 20 --size small --split train --check --official 2

writes games/train/<task>/<trial>/game.tw-pddl (with the traj_data.json that official loaders look for): the first games of that
size and split, `count` of each type. `--check` plays plan and demonstration of every file; `--official K` also
plays K games of each type in the official engine (extra `alfworld`) and compares every observation, every list of commands and
the outcome, on the plan with random commands between. Exit code 1 if anything differs or cannot be won.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from envs.alfworld.config import ALFWorldConfig
from envs.alfworld.engine import Engine
from envs.alfworld.game import GAME_FILE, load_game
from envs.alfworld.generator import write_game
from envs.alfworld.goals import TASK_TYPES, TaskType
from envs.alfworld.household import SIZES
from envs.alfworld.planner import demonstration, plan
from envs.alfworld.tasks import OFFICIAL_FOLDERS, generated_contents, generated_household
from envs.alfworld.textworld_backend import TextWorldEngine, require
from envs.base import SPLITS, TaskError
from envs.common.seeding import generator

DETOURS = 0.4
"""Share of searches that go wrong first, in the demonstrations that are checked."""
RANDOM_COMMANDS = 3
"""Between two commands of the plan, in a comparison with the official engine."""


@dataclass
class Report:
    """What was found for one type of task."""

    written: int = 0
    won: int = 0
    demonstrated: int = 0
    longest: int = 0
    compared: int = 0
    steps: int = 0


def main(arguments: list[str]) -> int:
    """Write and check; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.official:
        try:
            require()
        except ImportError as error:
            print(f"error: --official: {error}", file=sys.stderr)
            return 2
    reports: dict[TaskType, Report] = {}
    failures: list[str] = []
    for kind in TASK_TYPES:
        report = reports[kind] = Report()
        for number in range(options.count):
            path = write(options.folder, f"{options.size}/{options.split}/{kind}/{number:06d}")
            report.written += 1
            try:
                if options.check:
                    check(path, report)
                if number < options.official:
                    compare(path, report)
            except (TaskError, AssertionError) as error:
                failures.append(f"{path}: {error}")
    Console().print(_table(reports, options.check, options.official))
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


def write(folder: Path, task_id: str) -> Path:
    """Write the game of a generated task's id below `folder` in the official layout; returns the game file's path."""
    _, split, kind, number = task_id.split("/")
    home, _ = generated_household(task_id)
    place, lamp = ("None", home.goal) if kind == "look_at_obj_in_light" else (home.goal, "None")
    task = f"{kind}-{home.target}-None-{place if lamp == 'None' else lamp}-{int(number)}"
    path = folder / OFFICIAL_FOLDERS[split] / task / f"trial_{home.content()}" / GAME_FILE  # type: ignore[index]
    write_game(path, generated_contents(task_id))
    parameters = {"object_target": home.target, "parent_target": place, "toggle_target": lamp, "mrecep_target": ""}
    description = {"task_type": kind, "task_id": task_id, "pddl_params": {**parameters, "object_sliced": False}}
    path.with_name("traj_data.json").write_bytes(orjson.dumps(description))
    return path


def check(path: Path, report: Report) -> None:
    """Play plan and demonstration of a file. Raises AssertionError or TaskError where one does not win."""
    game = load_game(path)
    engine = Engine(game)
    for commands in (
        plan(game),
        demonstration(game, generator(0, "check", str(path.parent.name)), DETOURS, ALFWorldConfig.max_steps),
    ):
        engine.reset()
        for command in commands:
            if engine.won or not engine.step(command)[1]:
                raise AssertionError(f"'{command}' of {commands} is impossible, or comes after the win")
        if not engine.won:
            raise AssertionError(f"{commands} does not win")
        report.longest = max(report.longest, len(commands))
    report.won += 1
    report.demonstrated += 1


def compare(path: Path, report: Report) -> None:
    """Play a file in our engine and in the official one. Raises AssertionError at the first difference."""
    game = load_game(path)
    ours, official = Engine(game), TextWorldEngine(orjson.loads(path.read_bytes()), str(path))
    try:
        _equal("reset", ours.reset(), official.reset(), ours, official)
        rng = generator(0, "compare", path.parent.name)
        for command in _commands(list(game.walkthrough), rng, ours):
            _equal(command, ours.step(command), official.step(command), ours, official)
            report.steps += 1
    finally:
        official.close()
    report.compared += 1


def _commands(commands: list[str], rng: np.random.Generator, engine: Engine) -> Iterator[str]:
    """The plan in full, so that both engines must say "won"; then again with other commands between, each verb as likely."""
    yield from commands
    for command in commands:
        for _ in range(RANDOM_COMMANDS):
            verbs = sorted({possible.split()[0] for possible in engine.admissible} | {"dance"})
            verb = verbs[int(rng.integers(len(verbs)))]
            options = [possible for possible in engine.admissible if possible.split()[0] == verb] or [verb]
            yield options[int(rng.integers(len(options)))]
        yield command


def _equal(command: str, here: object, there: object, ours: Engine, official: TextWorldEngine) -> None:
    if here != there:
        raise AssertionError(f"after '{command}': ours says\n{here!r}, the official engine\n{there!r}")
    if ours.admissible != official.admissible:
        raise AssertionError(f"after '{command}': commands differ by {sorted(set(ours.admissible) ^ set(official.admissible))}")
    if ours.won != official.won:
        raise AssertionError(f"after '{command}': ours says won={ours.won}, the official engine {official.won}")


def _table(reports: dict[TaskType, Report], checked: bool, compared: int) -> Table:
    table = Table(
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        caption="won: by plan; shown: by demonstration; equal: in the official engine",
    )
    for column in ("type", "games", "won", "shown", "length", "equal", "steps"):
        table.add_column(column, justify="left" if column == "type" else "right", no_wrap=True)
    for kind, report in reports.items():
        plays = (report.won, report.demonstrated, report.longest) if checked else ("-", "-", "-")
        official = (report.compared, report.steps) if compared else ("-", "-")
        table.add_row(kind, *map(str, (report.written, *plays, *official)))
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write; made if it is not there")
    parser.add_argument("--count", type=int, default=20, help="games of each type (default: %(default)s)")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--check", action="store_true", help="play plan and demonstration of every game")
    parser.add_argument("--official", type=int, default=0, metavar="K", help="compare K games of each type officially")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
