"""Turn the official WebShop files into a store that all processes share; needed for the full catalogue, done once.

    python scripts/webshop_store.py --data webshop/data --out webshop/store --human

reads items_shuffle.json and its companions in `--data` (the small catalogue where that alone is there) and writes products and
goals to `--out`, which env.data or WEBSHOP_DATA may then name. Nouns of titles come from title_nouns*.json beside the data, or
for titles that are not in it from spaCy (extra `webshop-nouns`; about a thousand titles a second).

`--generated 1180000` writes as many generated articles instead: what a large shop costs can be tried without the data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from envs.base import TaskError
from envs.webshop import generator, store
from envs.webshop.official import DEFAULT_SEED, Reader
from envs.webshop.products import Goal, Product

GENERATED_WITH_GOALS = 10_000
"""Articles of a generated store that somebody wants: all goals are in memory while they are put in order."""


def main(arguments: list[str]) -> int:
    """Convert; returns the exit code: 2 if the data or the folder cannot be used."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.generated is not None and (options.size, options.seed) != (None, None):
        parser.error("--size and --seed are of the official files: leave them out with --generated")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    try:
        with Progress(*columns, console=console) as progress:
            products, goals = _generated(options) if options.generated else _official(options)
            products = progress.track(products, total=options.generated or options.size, description="products")
            store.write(options.out, products, progress.track(goals, description="goals"), replace=options.force)
    except (TaskError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _summarize(options.out, Console())
    return 0


def _official(options: argparse.Namespace) -> tuple[Iterable[Product], Iterable[Goal]]:
    seed = DEFAULT_SEED if options.seed is None else options.seed
    reader = Reader(options.data, options.size, options.human, seed)
    return reader.products(), reader.goals()


def _generated(options: argparse.Namespace) -> tuple[Iterable[Product], Iterable[Goal]]:
    wanted = generator.stream(min(options.generated, GENERATED_WITH_GOALS))
    return generator.stream(options.generated), generator.goals(wanted, human=options.human)


def _summarize(folder: Path, console: Console) -> None:
    table = Table(box=box.SIMPLE)
    table.add_column("file")
    table.add_column("bytes", justify="right", no_wrap=True)
    for file in sorted(folder.iterdir()):
        table.add_row(file.name, f"{file.stat().st_size:,}")
    written = store.Store(folder)
    console.print(table, f"{len(written):,} products ({written.hash}), {len(written.goals):,} goals ({written.goals_hash})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="DIR", help="folder with the official files")
    source.add_argument("--generated", type=_number, metavar="N", help="the first N generated articles instead")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write; must not be there yet")
    parser.add_argument("--size", type=int, metavar="N", help="read the first N records only (default: all)")
    parser.add_argument("--human", action="store_true", help="goals are people's instructions, not synthetic ones")
    parser.add_argument("--seed", type=int, help=f"of prices and their bounds (default: {DEFAULT_SEED})")
    parser.add_argument("--force", action="store_true", help="replace a store that is there")
    return parser


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of articles; a shop has at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
