"""Injects every fault that there is a check for, and says in one table what happened and what was lost (`make faults`).

    python scripts/faults/table.py [--long] [--write] [--workers N]

--long       kills.py, power_cut.py and endurance.py in their full lengths, MiniHack's endurance too (about an hour of one core)
--write      write the table to docs/faults.md
--workers 1  processes for the tests

Rows come from the tests with the mark `fault` (pytest -m fault) and from the scripts beside this one. Exit code 1 if a check
failed; the table says which, and the output above why. Without a network and without a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from enduring.faults import FAULTS
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENT = ROOT / "docs" / "faults.md"
HEAD = """# Faults

What was injected, what happened, and what was lost. Written by `make faults ARGS=--write`; [Reliability](reliability.md) tells
what is promised. The last column counts the checks that passed; skipped ones lack something on the machine that wrote this.

| fault | what happened | what was lost | checks |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """A fault, and what came of it."""

    fault: str
    happened: str
    lost: str
    passed: int
    skipped: int = 0
    failed: int = 0

    @property
    def checks(self) -> str:
        counts = {"failed": self.failed, "skipped": self.skipped}
        said = [f"{count} {name}" for name, count in counts.items() if count]
        return ", ".join([str(self.passed), *said] if self.passed or not said else said)

    @property
    def cells(self) -> tuple[str, str, str, str]:
        return self.fault, self.happened, self.lost, self.checks


def main(arguments: Sequence[str] | None = None) -> int:
    """Inject, collect, show; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--workers", default="1")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = [*tests(Path(folder), options.workers), *scripts(Path(folder), options.long)]
    rows.sort(key=lambda row: (row.fault.lower(), row.happened))
    table = Table("fault", "what happened", "what was lost", "checks", padding=(0, 2), box=None, header_style="dim")
    for row in rows:
        table.add_row(*row.cells, style="red" if row.failed else None)
    Console(markup=False).print(table)
    failed = sum(row.failed > 0 for row in rows)
    print(
        f"{len({row.fault for row in rows})} faults: " + (f"{failed} rows have failed checks" if failed else "no check failed")
    )
    if options.write:
        DOCUMENT.write_text(HEAD + "".join(f"| {' | '.join(row.cells)} |\n" for row in rows), encoding="utf-8")
    return int(bool(failed))


def tests(folder: Path, workers: str) -> Iterator[Row]:
    """Of the tests with the mark. Raises RuntimeError where they could not be run."""
    file = folder / "tests.json"
    words = ["-q", "-m", "fault", "-p", "tests.fault_table", "--fault-table", str(file), "-n", workers, "--dist", "worksteal"]
    done = subprocess.run([sys.executable, "-m", "pytest", *words, str(ROOT / "tests")], cwd=ROOT, check=False)
    if not file.exists():
        raise RuntimeError(f"the tests ended with exit code {done.returncode}")
    for row in json.loads(file.read_text(encoding="utf-8")):
        counts = Counter(row["outcomes"])
        failed = counts["failed"] + counts["error"]
        yield Row(row["fault"], row["happened"], row["lost"], counts["passed"], counts["skipped"], failed)


def scripts(folder: Path, long: bool) -> Iterator[Row]:
    """Of the scripts beside this one."""
    again = "what came after the newest checkpoint, done again alike"
    last, code = _ran("power_cut.py", *([] if long else ["--most", "12"]))
    yield Row("a power cut at many moments of a training", last, again, int(not code), failed=int(code != 0))
    file = folder / "kills.json"
    last, code = _ran("kills.py", "--json", str(file), "--kills", "100" if long else "10")
    yield Row("kill -9 at random moments of trainings", last, again, int(not code), failed=int(code != 0))
    for name in ("alfworld", "minihack") if long else ("alfworld",):
        file = folder / f"endurance-{name}.json"
        length = [] if long else ["--iterations", "100", "--every", "5"]
        last, code = _ran("endurance.py", "--env", name, "--json", str(file), *length)
        yield Row(
            f"one fault after the other ({name})", last, "what the rows of endurance say", int(not code), failed=int(code != 0)
        )
        report = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"done": {}}
        for fault, times in report["done"].items():
            found = report["found"].get(fault, 0)
            cut = f", {found} episodes were cut off" if FAULTS[fault].error else ""
            happened = f"endurance ({name}): the run went on ({times} times{cut})"
            yield Row(fault, happened, FAULTS[fault].lost, times)


def _ran(script: str, *words: str) -> tuple[str, int]:
    """A script's last line, and its exit code."""
    print(f"== {script} {' '.join(words)}", flush=True)
    process = subprocess.Popen([sys.executable, HERE / script, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line.strip() or last
    return last, process.wait()


if __name__ == "__main__":
    sys.exit(main())
