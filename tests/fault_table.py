"""What the tests that inject faults show, as rows of a table: pytest -m fault -p tests.fault_table --fault-table rows.json

scripts/faults/table.py (`make faults`) makes the whole table. A test's name says what happened.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PROPERTY = "fault"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", type=Path, help="file for the rows of a table of faults (JSON)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("fault"):
            function = getattr(item, "originalname", item.name)
            row = _row(function, *mark.args, **mark.kwargs)
            item.user_properties.append((PROPERTY, row))  # which reports carry, from other processes too


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    file: Path | None = config.getoption("--fault-table")
    if file is None:
        return
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, row in getattr(report, "user_properties", ()):
                if name == PROPERTY and (outcome != "passed" or report.when == "call"):
                    known = rows.setdefault((row["fault"], row["happened"]), {**row, "outcomes": {}})
                    known["outcomes"][outcome] = known["outcomes"].get(outcome, 0) + 1
    file.write_text(json.dumps([*rows.values()], indent=1), encoding="utf-8")


def _row(function: str, fault: str, lost: str = "nothing") -> dict[str, str]:
    """What a mark says, and the test's name in words."""
    return {"fault": fault, "happened": function.removeprefix("test_").replace("_", " "), "lost": lost}
