"""Turn the official WebShop files into a store that all processes share; needed for the full catalogue, done once.

    python scripts/webshop_store.py --data webshop/data --out webshop/store --human

reads items_shuffle.json and its companions in `--data` (the small catalogue where that alone is there) and writes products and
goals to `--out`, which env.data or WEBSHOP_DATA may then name. Nouns of titles come from title_nouns*.json beside the data, or
for titles that are not in it from spaCy (extra `webshop-nouns`; about a thousand titles a second).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from envs.base import TaskError
from envs.webshop import store
from envs.webshop.official import DEFAULT_SEED, Reader


def main(arguments: list[str]) -> int:
    """Convert; returns the exit code."""
    options = _parser().parse_args(arguments)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    try:
        with Progress(*columns, console=console) as progress:
            reader = Reader(options.data, options.size, options.human, options.seed)
            products = progress.track(reader.products(), total=options.size, description="products")
            goals = progress.track(reader.goals(), description="goals")
            store.write(options.out, products, goals, replace=options.force)
    except (TaskError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _summarise(options.out, Console())
    return 0


def _summarise(folder: Path, console: Console) -> None:
    table = Table(box=box.SIMPLE)
    table.add_column("file")
    table.add_column("bytes", justify="right", no_wrap=True)
    for file in sorted(folder.iterdir()):
        table.add_row(file.name, f"{file.stat().st_size:,}")
    written = store.Store.open(folder)
    console.print(table, f"{len(written):,} products ({written.hash}), {len(written.goals):,} goals ({written.goals_hash})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with the official files")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write; must not be there yet")
    parser.add_argument("--size", type=int, metavar="N", help="read the first N records only (default: all)")
    parser.add_argument("--human", action="store_true", help="goals are people's instructions, not synthetic ones")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of prices and their bounds (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace a store that is there")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
