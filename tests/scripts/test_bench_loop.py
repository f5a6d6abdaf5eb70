"""The comparison with TRL: one command measures a side in a process of its own, and different work is no result."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/bench/loop.py"


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("bench_loop", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_this_suite_is_measured_and_a_side_that_is_not_installed_is_named_with_its_command(tmp_path: Path) -> None:
    sides = ["hf"] if importlib.util.find_spec("datasets") else ["hf", "trl"]
    found = tmp_path / "found.json"
    options = ["--turns", "2", "--repeat", "1", "--sides", *sides, "--json", str(found)]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads(found.read_text())["2"]["hf"]
    assert measured["tokens"] >= measured["update_tokens"] > 16 * 2 * 16
    assert 0 < measured["rollout_cpu_s"] < measured["cpu_s"]
    assert measured["peak_mib"] > measured["loaded_mib"] > 0
    if "trl" in sides:
        assert "trl: the package" in done.stdout
        assert "python scripts/install.py bench" in done.stdout


def test_a_side_whose_episodes_have_another_length_is_no_comparison(loop: ModuleType) -> None:
    loop.check_same_work({"hf": {"tokens": 10000.0}, "trl": {"tokens": 10005.0}}, 10000)
    with pytest.raises(SystemExit, match="trl did not do the work: its episodes have 9400 tokens, not 10000"):
        loop.check_same_work({"hf": {"tokens": 10000.0}, "trl": {"tokens": 9400.0}}, 10000)


def test_an_iteration_is_what_lies_between_two_first_resets(loop: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from loops import clock

    seconds = iter(range(1000))
    monkeypatch.setattr(clock, "spent", lambda: {"cpu": float(next(seconds)), "peak": 1.0})
    watch = clock.Clock(cycles=5)
    watch.reset()  # somebody looks whether the environment can be played
    for _ in range(3):
        for _ in range(16):
            watch.reset()
        for _ in range(16):
            watch.answered()
    assert [note["cpu"] for note in watch.began] == [0, 17, 34]
    assert [note["cpu"] for note in watch.played] == [16, 33, 50]  # the last answer of each
