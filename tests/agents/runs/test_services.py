"""Trackio and MLflow with the real packages, in processes of their own without a network; trackers of other packages."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agents.config import loading
from agents.config.sections import TrackerConfig
from agents.runs import tracker
from agents.runs.metrics import read_metrics
from agents.runs.preflight import preflight
from agents.runs.tracker import Tracker
from agents.runs.tracking import open_trackers
from envs.common.structured import ConfigError

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import math, socket, sys
from pathlib import Path

def refused(*_):
    print("CONNECTED")
    raise OSError("there is no network")

socket.socket.connect = socket.socket.connect_ex = refused
from agents.config.sections import MlflowConfig, TrackerConfig, TrackioConfig
from agents.runs.tracking import open_trackers
folder, name, uri = Path(sys.argv[1]), sys.argv[2], sys.argv[3] or None
config = TrackerConfig(trackio=TrackioConfig()) if name == "trackio" else TrackerConfig(mlflow=MlflowConfig(uri=uri))
for resume_at in (None, 1):
    trackers = open_trackers(config, folder, {"seed": 7, "env": {"name": "x" * 900}}, 3, resume_at)
    for iteration in (0, 1) if resume_at is None else (2,):
        trackers.log(iteration, {"eval/success@1": 0.25 * iteration, "update/none": math.nan})
    trackers.close("interrupted" if resume_at is None else "finished")
"""


def tracked(folder: Path, name: str, uri: str = "") -> subprocess.CompletedProcess[str]:
    """A run that is interrupted and resumed, recorded by the real package."""
    pytest.importorskip(name)
    folder.mkdir(exist_ok=True)
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("TRACKIO", "MLFLOW", "HF_"))}
    ours |= {"HOME": str(folder), "HF_HOME": str(folder / "hub"), "TRACKIO_DIR": str(folder / "trackio")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), name, uri], cwd=ROOT, env=ours, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_trackio_records_on_this_machine_without_a_network_and_goes_on_with_a_resumed_run(tmp_path: Path) -> None:
    done = tracked(tmp_path / "it", "trackio")
    assert "CONNECTED" not in done.stdout
    assert "left out" not in done.stderr
    found = rows(tmp_path / "it/trackio/stepcredit.db", "select run_name, run_id, step, metrics from metrics order by step")
    assert [(name, step) for name, _, step, _ in found] == [("it", 0), ("it", 1), ("it", 2)]
    assert len({identity for _, identity, _, _ in found}) == 1
    assert b'"eval/success@1":0.5' in bytes(found[2][3]).replace(b" ", b"")


def test_mlflow_records_beside_the_runs_without_a_network_and_goes_on_with_a_resumed_run(tmp_path: Path) -> None:
    done = tracked(tmp_path / "it", "mlflow")
    assert "CONNECTED" not in done.stdout
    assert "left out" not in done.stderr
    database = tmp_path / "mlflow.db"
    assert rows(database, "select name, status from runs") == [("it", "FINISHED")]
    assert rows(database, "select key, step, value from metrics order by step") == [
        ("eval/success:1", step, 0.25 * step) for step in range(3)
    ]
    assert rows(database, "select key, length(value) from params order by key") == [("env.name", 500), ("seed", 1)]


def test_mlflow_s_server_that_cannot_be_reached_costs_its_record_and_not_the_run(tmp_path: Path) -> None:
    done = tracked(tmp_path / "it", "mlflow", "http://127.0.0.1:9")
    assert done.stderr.count("a tracker could not be opened and is left out") == 2
    assert [row["iteration"] for row in read_metrics(tmp_path / "it/metrics.jsonl")] == [0, 1, 2]


@dataclass
class Kept(Tracker):
    """Keeps what it is told."""

    label: str = "none"

    def begin(self, folder: Path, settings: Any, resume_at: int | None) -> None:
        self.told: list[Any] = [folder, settings, resume_at]
        KEPT.append(self)

    def log(self, step: int, metrics: Any) -> None:
        self.told.append((step, metrics))
        if step == 2:
            raise ConnectionError("gone")


KEPT: list[Kept] = []
tracker.register("kept", f"{__name__}:Kept")


def test_a_tracker_of_another_package_gets_its_settings_and_the_run_and_may_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = loading.load(["tracker.plugins.kept.label=mine", "tracker.console=null"])
    with caplog.at_level(logging.WARNING):
        trackers = open_trackers(config.tracker, tmp_path, {"seed": 1}, 3, resume_at=0)
        for step in (1, 2, 3):
            trackers.log(step, {"a": 1.0})
    kept = KEPT.pop()
    assert kept.label == "mine"
    assert kept.told == [tmp_path, {"seed": 1}, 0, (1, {"a": 1.0}), (2, {"a": 1.0})]
    assert "tracker Kept failed and is left out from here on: ConnectionError: gone" in caplog.text


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ("kepd={}", "no tracker 'kepd'; registered: kept. Did you mean 'kept'?"),
        ("kept.lable=x", "unknown key 'tracker.plugins.kept.lable'. Did you mean 'tracker.plugins.kept.label'?"),
        ("kept.label=[1]", "tracker.plugins.kept.label is [1] (list); it must be text"),
    ],
)
def test_a_mistyped_plugin_is_refused_before_a_model_is_loaded(plugin: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        preflight(loading.load([f"tracker.plugins.{plugin}"]))
    assert said in str(refused.value)


def test_a_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[stepcredit.trackers]\nmine = mine:Mine\n")
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom agents.runs.tracker import Tracker\n\n"
        "@dataclass\nclass Mine(Tracker):\n    label: str = 'none'\n"
    )
    program = "from agents.runs import tracker; print(tracker.names(), tracker.made('mine', {'label': 'x'}))"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.stdout == "['mine'] Mine(label='x')\n", done.stderr


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("trackio", "mlflow"):
        with pytest.raises(ConfigError, match=f"pip install 'stepcredit\\[{name}\\]'"):
            loading.load([f"tracker={name}"])


def test_no_other_tracker_is_on_by_itself() -> None:
    config = TrackerConfig()
    assert (config.wandb, config.tensorboard, config.trackio, config.mlflow, config.plugins) == (None, None, None, None, {})
