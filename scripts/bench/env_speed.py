"""Measures how fast environments are: python scripts/bench/env_speed.py [alfworld] [--games DIR]

    python scripts/bench/env_speed.py webshop [--data DIR ...]
    python scripts/bench/env_speed.py minihack [--levels Zap ...]
    python scripts/bench/env_speed.py sokoban [--sizes 8x8-2 ...]

Random play over several tasks with the possible actions read at every step. Figures are medians of repeats: processor time, and
wall clock for the pool's rows, where two workers and this process share the machine. `--json FILE` keeps them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from environments import alfworld, minihack, sokoban, webshop
from rich.console import Console
from rich.table import Table

from envs.base import TaskError

ENVIRONMENTS = {"alfworld": alfworld, "webshop": webshop, "minihack": minihack, "sokoban": sokoban}
"""The first one is measured where none is named."""


def main(arguments: Sequence[str]) -> int:
    """Measure and print; returns the exit code."""
    if not {*ENVIRONMENTS, "-h", "--help"}.intersection(arguments[:1]):
        arguments = [next(iter(ENVIRONMENTS)), *arguments]
    options = _parser().parse_args(arguments)
    console = Console()
    console.width = max(console.width, 110)
    try:
        tables = ENVIRONMENTS[options.environment].measure(options)
    except TaskError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 2
    for title, rows in tables.items():
        console.print(_table(title, rows))
    if options.json:
        figures = {title: [asdict(row) for row in rows] for title, rows in tables.items()}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subparsers = parser.add_subparsers(dest="environment")
    for name, module in ENVIRONMENTS.items():
        one = subparsers.add_parser(name, description=module.__doc__)
        module.add_arguments(one)
        one.add_argument("--number", type=int, default=12, help="tasks of each kind (default 12)")
        one.add_argument("--repeats", type=int, default=5, help="times that each is measured (default 5)")
        one.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
        one.add_argument("--no-pool", action="store_false", dest="pool", help="leave the pool out")
    return parser


def _table(title: str, rows: Sequence[Any]) -> Table:
    """One line a row; fields that no row has are left out."""
    table = Table(title=title)
    names = [field.name for field in fields(rows[0]) if any(getattr(row, field.name) is not None for row in rows)]
    for name in names:
        text = isinstance(getattr(rows[0], name), str)
        table.add_column(name.replace("_", " "), justify="left" if text else "right")
    for row in rows:
        table.add_row(*(_cell(getattr(row, name)) for name in names))
    return table


def _cell(value: str | float | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,.0f}" if value >= 100 or isinstance(value, int) else f"{value:,.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
