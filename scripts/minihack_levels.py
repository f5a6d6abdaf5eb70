"""Every supported level of MiniHack: checked against the contract, then played at random, twice over, for crashes and leaks.

    python scripts/minihack_levels.py [--levels quest "Room-*"] [--steps 100000] [--no-check]

Prints a row a level (steps, episodes, wins, milestones, and the share of steps that the change filter leaves for a judge), why
other ids are not supported, and what the second round of games added to memory and to open files. Exit codes: 0 well, 1 a
problem or a leak, 2 no such level.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from envs.base import TaskError
from envs.checker import check
from envs.common.seeding import generator
from envs.minihack import levels
from envs.minihack.config import MiniHackConfig
from envs.minihack.env import MiniHackEnv

ROUNDS = 2
LEAK_MB = 16.0
"""Growth of the peak memory in the second round of games that counts as a leak."""


@dataclass
class Played:
    """What happened in a level."""

    steps: int = 0
    episodes: int = 0
    wins: int = 0
    milestones: int = 0
    changed: int = 0
    lost: int = 0
    """Milestones in steps that the filter leaves out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Check and play; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--levels", nargs="+", default=list(levels.FAMILIES), help="names, patterns, families; default: all")
    parser.add_argument("--steps", type=int, default=100_000, help="random steps, over all levels (default 100000)")
    parser.add_argument("--no-check", dest="check", action="store_false", help="only play")
    arguments = parser.parse_args(argv)
    try:
        names = [level.name for level in levels.chosen(arguments.levels, {})]
    except TaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    usual = tempfile.gettempdir()
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder  # games of other programs are not to be counted
        try:
            return report(names, arguments.steps, arguments.check, Console(highlight=False))
        finally:
            tempfile.tempdir = usual


def report(names: Sequence[str], steps: int, checks: bool, console: Console) -> int:
    """Check and play these levels, and print what came of it; returns the exit code."""
    problems = 0
    played = {name: Played() for name in names}
    share = -(-steps // (ROUNDS * len(names)))
    held: list[tuple[float, int, int]] = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("checked", total=len(names), visible=checks)
        for name in names if checks else ():
            found = check("minihack", levels=[name], train_tasks=8, eval_tasks=2, test_tasks=2)
            problems += len(found)
            for problem in found:
                console.print(f"{name}: {problem}", markup=False)
            progress.advance(bar)
        bar = progress.add_task("played at random", total=ROUNDS * len(names))
        for number in range(ROUNDS):
            for name in names:
                play(name, share, number, played[name])
                progress.advance(bar)
            held.append(_held())
    console.print(_table(played))
    for pattern, reason in levels.UNSUPPORTED.items():
        console.print(f"not supported: {pattern}: {reason}", markup=False)
    memory, files, folders = (held[-1][n] - held[0][n] for n in range(3))
    checked = f"{problems} problems found by the checker; " if checks else ""
    total = sum(one.steps for one in played.values())
    console.print(
        f"{len(names)} levels, {checked}{total:,} random steps; the second round added {memory:.1f} MB to the peak memory of "
        f"{held[0][0]:.0f} MB, {files} open files, {folders} temporary folders"
    )
    return int(problems > 0 or memory > LEAK_MB or files > 0 or folders > 0)


def play(name: str, steps: int, number: int, into: Played) -> None:
    """`steps` random steps in a level, in an environment of its own."""
    env = MiniHackEnv(MiniHackConfig([name]))
    rng = generator(number, "random steps", name)
    tasks = env.tasks("train")
    actions: list[str] = []
    reached: tuple[str, ...] = ()
    end = into.steps + steps
    while into.steps < end:
        if not actions:
            _, info = env.reset(options={"task": tasks[(into.episodes + number) % len(tasks)]})
            into.episodes += 1
            reached = info["subgoals"]
        else:
            _, _, terminated, truncated, info = env.step(actions[int(rng.integers(len(actions)))])
            new = len(info["subgoals"]) - len(reached)
            reached = info["subgoals"]
            into.steps += 1
            into.wins += info["success"]
            into.changed += info["changed"]
            into.milestones += new
            into.lost += 0 if info["changed"] else new
            if terminated or truncated:
                actions = []
                continue
        actions = info["admissible_actions"]
    env.close()


def _held() -> tuple[float, int, int]:
    """Peak memory in MB, open files, and NLE's temporary folders."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    return peak, len(os.listdir("/dev/fd")), len(list(Path(tempfile.gettempdir()).iterdir()))


def _table(played: dict[str, Played]) -> Table:
    table = Table("family", "level", "steps", "episodes", "wins", "milestones", "filter keeps", "milestones lost")
    for column in table.columns[2:]:
        column.justify = "right"
    for name, one in played.items():
        counts = (one.steps, one.episodes, one.wins, one.milestones)
        kept = f"{one.changed / max(1, one.steps):.1%}"
        table.add_row(levels.family(name), name, *(f"{n:,}" for n in counts), kept, str(one.lost))
    return table


if __name__ == "__main__":
    sys.exit(main())
