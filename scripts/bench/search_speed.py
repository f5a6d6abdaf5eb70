"""How long the shop's search takes to build, to open and to answer: python scripts/bench/search_speed.py [--sizes N ...]

Products and queries are generated: a query is the full text of a customer's instruction, longer than most that agents type.
Building is timed without the making of products, in wall time, once a size; opening and answering are medians, with the files
in the system's cache as they are for all but the first process. The queries' answers are not kept, as a shop would keep them.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from envs.webshop import generator
from envs.webshop.search import Index, document
from envs.webshop.search.lucene import build

QUERIES = 300


@dataclass
class Row:
    """One size of catalogue."""

    products: int
    build_s: float
    generate_s: float
    """Making the products, not part of building."""
    index_mb: float
    open_ms: float
    query_ms: float
    slow_query_ms: float
    """19 of 20 queries take less."""
    peak_mb: int
    """Most memory that this process has had so far."""


def main(argv: list[str] | None = None) -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000], metavar="N", help="products (1000 100000)")
    parser.add_argument("--repeats", type=int, default=5, help="times that each query is asked (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args(argv)
    goals = generator.goals(generator.catalogue(generator.SIZE))
    queries = [goal.instruction.lower() for goal in goals[:: max(1, len(goals) // QUERIES)][:QUERIES]]
    rows = [measure(size, queries, arguments.repeats) for size in sorted(arguments.sizes)]
    table = Table(title=f"Search, median of {len(queries)} queries")
    for heading in ("products", "build s", "MB on disk", "open ms", "query ms", "95% ms", "peak MB"):
        table.add_column(heading, justify="right")
    for row in rows:
        times = (f"{value:,.2f}" for value in (row.open_ms, row.query_ms, row.slow_query_ms))
        table.add_row(f"{row.products:,}", f"{row.build_s:,.1f}", f"{row.index_mb:,.1f}", *times, f"{row.peak_mb:,}")
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def measure(size: int, queries: list[str], repeats: int) -> Row:
    """One size, in a folder that is thrown away."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        generating = 0.0

        def entries() -> Iterator[tuple[str, str]]:
            nonlocal generating
            began = time.perf_counter()
            for product in generator.stream(size):
                generating += time.perf_counter() - began
                yield product.asin, document(product)
                began = time.perf_counter()

        building = seconds(lambda: build(folder, entries())) - generating
        index = Index(folder)
        asked = [statistics.median(seconds(lambda q=query: index.search(q)) for _ in range(repeats)) for query in queries]
        return Row(
            size,
            building,
            generating,
            sum(file.stat().st_size for file in folder.iterdir()) / 1e6,
            statistics.median(seconds(lambda: Index(folder)) for _ in range(20)) * 1e3,
            statistics.median(asked) * 1e3,
            statistics.quantiles(asked, n=20)[-1] * 1e3,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000,
        )


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
