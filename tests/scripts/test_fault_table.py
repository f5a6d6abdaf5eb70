"""The table of faults: what marks and outcomes of tests become in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest

@pytest.mark.fault("a full disk", lost="the file")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_full_disk_costs_the_file(n):
    assert n < 3

@pytest.mark.fault("a kill")
def test_a_kill_costs_nothing():
    pass

@pytest.mark.fault("a broken card")
def test_a_card_that_breaks_is_told():
    pytest.skip("needs a card")

@pytest.fixture
def nothing():
    raise OSError

@pytest.mark.fault("a pipe")
def test_a_pipe_that_breaks_is_told(nothing):
    pass

def test_of_no_fault():
    pass
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_marked_tests_become_rows_that_say_what_happened_and_what_was_lost(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    words = ["-m", "fault", "-p", "tests.fault_table", "--fault-table", tmp_path / "rows.json", "-n", workers]
    done = subprocess.run([sys.executable, "-m", "pytest", *words, "--rootdir", tmp_path, tmp_path], cwd=ROOT)
    assert done.returncode == 1
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert sorted(rows, key=lambda row: row["fault"]) == [
        row("a broken card", "a card that breaks is told", "nothing", skipped=1),
        row("a full disk", "a full disk costs the file", "the file", passed=2, failed=1),
        row("a kill", "a kill costs nothing", "nothing", passed=1),
        row("a pipe", "a pipe that breaks is told", "nothing", error=1),
    ]


def row(fault: str, happened: str, lost: str, **outcomes: int) -> dict[str, object]:
    return {"fault": fault, "happened": happened, "lost": lost, "outcomes": outcomes}
