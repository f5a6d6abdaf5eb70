"""What a folder lacks when its run is resumed is said, and nothing of it stops the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agents.runs.metrics import read_metrics
from agents.runs.recovery import listed
from agents.train import main
from tests.agents.test_train import SMALL

DAMAGES = {"emptied": b"", "zeroed": bytes(100), "cut": b'{"half": ', "of another kind": b"[1]"}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has done three iterations."""
    out = tmp_path_factory.mktemp("runs")
    assert main([*SMALL, f"out={out}", "run=it", "iterations=3", "checkpoint.every=1"]) == 0
    return out / "it"


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "it"))


def whole(run: Path) -> None:
    """The run goes on, and has every line that it can have."""
    assert main([f"resume={run}", "iterations=4"]) == 0
    assert json.loads((run / "status.json").read_text())["status"] == "finished"
    assert json.loads((run / "splits.json").read_text())["train"]["count"] == 3


def test_a_run_that_lacks_nothing_says_nothing(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole(run)
    assert not caplog.records
    assert [row["iteration"] for row in read_metrics(run / "metrics.jsonl")] == [0, 1, 2, 3, 4]


@pytest.mark.fault("a damaged status.json or splits.json", lost="what it said, which the resume names")
@pytest.mark.parametrize("name", ["status.json", "splits.json"])
@pytest.mark.parametrize("damage", [*DAMAGES, "lost"])
def test_a_small_file_that_cannot_be_read_is_said_and_written_anew(
    run: Path, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    (run / name).unlink() if damage == "lost" else (run / name).write_bytes(DAMAGES[damage])
    whole(run)
    assert f"{run / name} cannot be read" in caplog.text


@pytest.mark.fault("metrics emptied, zeroed or deleted", lost="those numbers, which the resume names")
@pytest.mark.parametrize("damage", ["emptied", "lost", "zeroed"])
def test_numbers_that_are_gone_are_said(run: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    metrics = run / "metrics.jsonl"
    metrics.unlink() if damage == "lost" else metrics.write_bytes(DAMAGES[damage])
    whole(run)
    assert "no numbers of iterations that were done: 0 to 3" in caplog.text
    assert [row["iteration"] for row in read_metrics(metrics)] == [4]


@pytest.mark.fault("broken lines among the metrics", lost="those numbers, which the resume names")
def test_broken_lines_among_the_numbers_are_left_out_and_said(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics = run / "metrics.jsonl"
    lines = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(lines[0] + b"\0" * 40 + b"\n" + b"[]\n" + b'{"no": 1}\n' + b"".join(lines[2:]))
    whole(run)
    assert "broken lines are left out: 2, 3" in caplog.text
    assert "no numbers of iterations that were done: 1\n" in caplog.text
    assert [row["iteration"] for row in read_metrics(metrics)] == [0, 2, 3, 4]


@pytest.mark.fault("files of episodes emptied or deleted", lost="those episodes, which the resume names")
def test_episodes_that_are_gone_are_said(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run / "trajectories" / "iteration_000001.jsonl.gz").write_bytes(b"")
    (run / "trajectories" / "iteration_000003.jsonl.gz").unlink()
    whole(run)
    assert "no episodes of iterations that were done: 1, 3" in caplog.text


@pytest.mark.fault("a damaged config.yaml", lost="the run, which says so")
@pytest.mark.parametrize("content", [b"", bytes(2000), b"a: [", b"- a list"])
def test_a_run_without_its_settings_says_so_in_a_line(run: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (run / "config.yaml").write_bytes(content)
    assert main([f"resume={run}"]) == 2
    said = capsys.readouterr().err
    assert "damaged" in said or "stopped before it had begun" in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1


def test_a_name_whose_run_never_began_can_be_told_from_one_that_did(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content, said in ((b"", "delete that folder, or choose another run="), (b"seed: 0", "already holds a run; go on with")):
        (run / "config.yaml").write_bytes(content)
        assert main([*SMALL, f"out={run.parent}", f"run={run.name}"]) == 2
        assert said in capsys.readouterr().err


def test_numbers_are_listed_with_ranges() -> None:
    assert listed([9, 1, 2, 3, 5, 6, 11]) == "1 to 3, 5, 6, 9, 11"
    assert listed([]) == ""
