"""The benchmark of the environments runs and writes what it prints; how fast anything is, no test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import webshop_store

SCRIPT = Path(__file__).parents[2] / "scripts/bench/env_speed.py"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


def figures(file: Path, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    done = run(*arguments, "--number", "1", "--repeats", "1", "--no-pool", "--json", str(file), WEBSHOP_DATA="")
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = json.loads(file.read_text())
    assert [title for title in found if title not in done.stdout] == []
    return found


def test_alfworld_is_measured_where_no_environment_is_named(tmp_path):
    rows = figures(tmp_path / "figures.json")["ALFWorld, one process"]
    assert {"generated, small", "generated, full"} == {row["source"] for row in rows}
    assert all(row["steps_per_second"] > 0 for row in rows)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").is_file(), reason="the memory of processes is read as Linux tells it")
def test_webshop_is_measured_with_generated_articles_in_memory_and_in_a_store(tmp_path):
    store = tmp_path / "store"
    assert webshop_store.main(["--generated", "30", "--out", str(store)]) == 0
    found = figures(tmp_path / "figures.json", "webshop", "--data", str(store), "--workers", "2", "--episodes", "1")
    speeds, openings, sizes = found.values()
    shops = ["generated, 1,000", "store, 30"]
    assert [row["source"] for row in speeds] == [shop for shop in shops for _ in range(4)]
    assert all(row["steps_per_second"] > 0 for row in speeds)
    assert [(row["source"], row["index"]) for row in openings] == [
        (shop, index) for shop in shops for index in ("cold", "warm")
    ]
    assert [row["processes"] for row in sizes] == [1, 1, 1, 1, 2] * 2
    assert all(0 < row["private_mb"] <= row["pss_mb"] for row in sizes)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").is_file(), reason="the memory of processes is read as Linux tells it")
def test_a_folder_without_a_catalogue_is_named(tmp_path):
    done = run("webshop", "--data", str(tmp_path), "--number", "1", "--repeats", "1", "--no-pool", "--workers", "0")
    assert done.returncode == 2
    assert f"{tmp_path} holds neither items_shuffle.json" in done.stdout
    assert "Traceback" not in done.stderr


def test_minihack_is_measured_beside_the_bare_game(tmp_path):
    pytest.importorskip("nle", reason="MiniHack is not installed: pip install 'stepcredit[minihack]'")
    rows = figures(tmp_path / "figures.json", "minihack", "--levels", "KeyRoom-S5")["MiniHack"]
    assert [row["what"] for row in rows][:2] == ["MiniHack itself", "gymnasium.make, cropped map"]
    assert all(row["steps_per_second"] > 0 for row in rows)


def test_sokoban_is_measured_beside_its_rules_alone(tmp_path):
    rows = figures(tmp_path / "figures.json", "sokoban", "--sizes", "6x6-1")["Sokoban"]
    assert [row["what"] for row in rows][:2] == ["rules", "gymnasium.make, grid"]
    assert all(row["steps_per_second"] > 0 for row in rows)
