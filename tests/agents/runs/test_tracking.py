"""Trackers: what is written, when, and what happens when one fails."""

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as Terminal

from agents.config.sections import ConsoleConfig, TensorboardConfig, TrackerConfig, WandbConfig
from agents.runs.console import Console, sparkline
from agents.runs.failures import reported
from agents.runs.metrics import MetricsFile, read_metrics
from agents.runs.stopping import Stopped
from agents.runs.tracker import Tracker
from agents.runs.tracking import Trackers, open_trackers
from agents.runs.wandb import _logged_in, _mode
from envs.trajectory import Step, Trajectory

EPISODE = Trajectory("env", "task-1", "g", 0, "train", steps=[Step("a room", "look", reward=1.0)], success=True)
METRICS = {"train/success": 0.25, "train/reward": 2.5, "time/rollout": 3.0, "eval/success@1": 0.5, "time/wall": 9.0}


def test_a_line_is_on_disk_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    trackers = open_trackers(TrackerConfig(), tmp_path, {}, iterations=5)
    trackers.log(0, {"train/success": 0.25})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"iteration": 0, "train/success": 0.25}]
    trackers.close("finished")


def test_resuming_drops_the_lines_that_will_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path)
    for iteration in range(6):
        first.log(iteration, {"loss": float(iteration)})
    first.close("interrupted")
    second = MetricsFile(path, resume_at=3)
    second.log(4, {"loss": 40.0})
    second.close("finished")
    assert [(row["iteration"], row["loss"]) for row in read_metrics(path)] == [
        (0, 0.0),
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 40.0),
    ]


@pytest.mark.fault("kill -9 in the middle of a line of metrics", lost="the line, which is written again")
def test_a_line_cut_off_by_a_kill_is_left_out_and_any_other_damage_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 1}\n{"iteration": 2}\n{"iterat')
    assert [row["iteration"] for row in read_metrics(path)] == [1, 2]
    MetricsFile(path, resume_at=2).close("finished")
    assert path.read_text() == '{"iteration":1}\n{"iteration":2}\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '{"iteration": 1}\n{"itera\n{"iteration": 3}\n',
            "line 2 is broken, it is no JSON object: mend that line, or delete it",
        ),
        ('{"iteration": 1}\n[1]\n', "line 2 is broken"),
        ("\x00\xff\n", "line 1 is broken"),
        ('{"iteration": 1}\n{"iteration": "2"}\n', 'a line without an iteration, {"iteration":"2"}: mend or delete it'),
    ],
)
def test_a_damaged_line_is_told_in_words_to_who_reads_it(
    tmp_path: Path, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    with reported() as outcome:
        read_metrics(path)
    shown = capsys.readouterr().err
    assert outcome.code == 1
    assert f"error: {path}" in shown
    assert said in shown
    assert "Traceback" not in shown


def test_a_number_that_is_none_becomes_null(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.log(1, {"a": float("nan"), "b": float("inf"), "c": 1.0})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"iteration": 1, "a": None, "b": None, "c": 1.0}]


def test_without_a_terminal_every_iteration_is_one_plain_line() -> None:
    output = io.StringIO()
    console = Console(ConsoleConfig(), "my-run", 20, terminal=Terminal(file=output, width=60))
    console.log(3, METRICS)
    console.close("finished")
    lines = output.getvalue().splitlines()
    assert lines == ["[3/20] success 0.25  reward 2.50  rollout s 3.0  eval success 0.500", "my-run: finished"]
    assert "\x1b" not in output.getvalue()


def test_what_is_no_number_is_not_shown_and_faults_are() -> None:
    output = io.StringIO()
    console = Console(ConsoleConfig(), "my-run", 20, terminal=Terminal(file=output, width=60))
    console.log(3, {"train/success": float("nan"), "eval/success@1": float("nan"), "train/faults": 2.0, "eval/faults@1": 1.0})
    console.log(4, {"train/cut_off/context": 5.0, "eval/cut_off/context@1": 0.0, "eval/random_success": 0.125})
    said = output.getvalue().splitlines()
    assert said == ["[3/20] faults 2, 1 in evaluation", "[4/20] out of context 5  random actions 0.125"]


def test_what_is_to_be_read_at_once_is_printed_above_the_live_table_and_rare_columns_come_when_needed() -> None:
    output = io.StringIO()
    terminal = Terminal(file=output, width=160, force_terminal=True, color_system=None)
    console = Console(ConsoleConfig(live=True), "my-run", 20, terminal=terminal)
    console.log(0, {"eval/success@1": 0.5, "eval/random_success": 0.125})
    assert "out of context" not in output.getvalue()
    console.say("warning: [31 of 120] episodes outgrew the context")
    console.log(1, METRICS | {"train/cut_off/context": 31.0})
    console.close("finished")
    shown = output.getvalue()
    assert shown.count("warning: [31 of 120] episodes outgrew the context\n") == 1
    assert "out of context" in shown.partition("outgrew the context")[2]
    assert "random actions 0.12" in shown
    assert "faults" not in shown


def test_on_a_terminal_a_live_table_shows_iterations_and_the_evaluation_curve() -> None:
    output = io.StringIO()
    terminal = Terminal(file=output, width=120, force_terminal=True)
    console = Console(ConsoleConfig(), "my-run", 20, past=[{"iteration": 0, "eval/success@1": 0.1}], terminal=terminal)
    console.log(1, METRICS)
    console.close("finished")
    for part in ("my-run", "iteration 1/20", "0.10 -> 0.50", "finished"):
        assert part in output.getvalue()


def test_of_a_long_run_the_last_iterations_the_whole_curve_and_random_actions_are_shown() -> None:
    output = io.StringIO()
    terminal = Terminal(file=output, width=160, height=60, force_terminal=True, color_system=None)
    console = Console(ConsoleConfig(live=True), "my-run", 500, terminal=terminal)
    console.log(0, {"eval/success@1": 0.1, "eval/random_success": 0.25})
    for iteration in range(1, 301):
        console.log(iteration, {"train/reward": float(iteration), "eval/success@1": iteration / 300})
    console.close("interrupted")
    shown = output.getvalue().rpartition("my-run")[2]  # the table as it was drawn last
    assert "0.10 -> 1.00  random actions 0.25" in shown
    assert [f" {iteration}.00 " in shown for iteration in (290, 291, 300)] == [False, True, True]


def test_a_sparkline_goes_from_lowest_to_highest_bar() -> None:
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"


class Failing(Tracker):
    """A tracker whose service is gone."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def log(self, step: int, metrics: object) -> None:
        raise self.error


@pytest.mark.fault("a tracker fails", lost="what that tracker would have shown")
@pytest.mark.parametrize("kind", [ConnectionError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_a_failing_tracker_is_left_out_with_a_warning_whatever_it_raises_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    trackers = Trackers([Failing(kind("no route to host")), MetricsFile(tmp_path / "metrics.jsonl")])
    with caplog.at_level(logging.WARNING):
        for iteration in (1, 2):
            trackers.log(iteration, {})
    assert [row["iteration"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]
    assert caplog.text.count("no route to host") == 1


def test_ctrl_c_while_a_tracker_is_at_work_is_the_user_s() -> None:
    with pytest.raises(Stopped):
        Trackers([Failing(Stopped())]).log(1, {})


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_tracker_that_wants_to_end_the_program_when_it_is_opened_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def opened(*_: object) -> Tracker:
        raise kind("no terminal")

    monkeypatch.setattr("agents.runs.tracking.Console", opened)
    with caplog.at_level(logging.WARNING):
        trackers = open_trackers(TrackerConfig(console=ConsoleConfig()), tmp_path, {}, 1)
    trackers.log(1, {})
    assert f"left out: {kind.__name__}: no terminal" in caplog.text
    assert [row["iteration"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1]


def test_a_tracker_that_cannot_be_opened_does_not_cost_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tensorboard").write_text("a file where a folder must be")
    with caplog.at_level(logging.WARNING):
        trackers = open_trackers(TrackerConfig(tensorboard=TensorboardConfig()), tmp_path, {}, 1)
    trackers.log(1, {})
    assert "could not be opened" in caplog.text
    assert [row["iteration"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1]


def test_a_metrics_file_that_cannot_be_written_is_never_ignored(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.close("failed")
    with pytest.raises(ValueError, match="closed file"):
        Trackers([file]).log(1, {})


def test_tensorboard_files_hold_the_numbers_and_nothing_after_the_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from agents.config.sections import TensorboardConfig

    config = TrackerConfig(tensorboard=TensorboardConfig())
    first = open_trackers(config, tmp_path, {}, iterations=5)
    for iteration in (1, 2, 3):
        first.log(iteration, {"loss": float(iteration)})
    first.close("interrupted")
    second = open_trackers(config, tmp_path, {}, iterations=5, resume_at=2)
    second.log(3, {"loss": 30.0})
    second.close("finished")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]


WANDB = """
import sys
from pathlib import Path
from agents.config.sections import TrackerConfig, WandbConfig
from agents.runs.tracking import open_trackers
from tests.agents.runs.test_tracking import EPISODE, METRICS
folder = Path(sys.argv[1])
trackers = open_trackers(TrackerConfig(wandb=WandbConfig(mode=sys.argv[2], artifacts=True)), folder, {"seed": 7}, 2)
trackers.log(1, METRICS)
trackers.episodes(1, [EPISODE])
trackers.artifact(folder / "metrics.jsonl")
trackers.close("finished")
"""


def wandb_run(folder: Path, mode: str = "auto", program: str = WANDB, **variables: str) -> subprocess.CompletedProcess[str]:
    """A run of the real package in a process of its own, where nobody is logged in unless `variables` say so."""
    pytest.importorskip("wandb")
    folder.mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    environment |= {"HOME": str(folder), "NETRC": str(folder / "none"), **variables}
    root = Path(__file__).resolve().parents[3]
    code = [sys.executable, "-c", program, str(folder), mode]
    return subprocess.run(code, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_wandb_records_offline_where_nobody_is_logged_in(tmp_path: Path) -> None:
    done = wandb_run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stderr
    assert f"W&B: offline (nobody is logged in); upload it later: wandb sync {tmp_path}/wandb/offline-run-*" in done.stdout
    run = next((tmp_path / "wandb").glob("offline-run-*"))
    written = next(run.glob("*.wandb")).read_bytes()
    for part in (b"train/success", b"seed", b"episodes"):
        assert part in written
    table = json.loads(next(run.rglob("*.table.json")).read_text())
    assert table["data"] == [[1, "task-1", True, 1.0, 1, "a room\n> look"]]


SERVICE_DIES = """
import os, signal, sys
from pathlib import Path
from agents.config.sections import TrackerConfig, WandbConfig
from agents.runs.metrics import read_metrics
from agents.runs.tracking import open_trackers
folder = Path(sys.argv[1])
trackers = open_trackers(TrackerConfig(console=None, wandb=WandbConfig(mode="offline")), folder, {}, 9)
trackers.log(1, {})
for children in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
    for pid in children.read_text().split():
        os.kill(int(pid), signal.SIGKILL)
for iteration in range(2, 200):
    trackers.log(iteration, {})
trackers.close("finished")
assert [row["iteration"] for row in read_metrics(folder / "metrics.jsonl")] == [*range(1, 200)]
"""


def test_wandb_s_service_may_be_killed(tmp_path: Path) -> None:
    done = wandb_run(tmp_path, program=SERVICE_DIES)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("tracker Wandb failed and is left out from here on") == 1


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"a b/c"])
def test_a_damaged_id_of_wandb_is_said_and_another_one_begun(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "wandb_id").write_bytes(content)
    done = wandb_run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "wandb_id is damaged: the run begins anew at W&B, under another id" in done.stderr
    assert "left out" not in done.stderr
    assert (tmp_path / "wandb_id").read_text() in next((tmp_path / "wandb").glob("offline-run-*")).name


KEY = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
"""Logged in at a server that nobody can reach."""


def test_wandb_records_offline_soon_where_the_server_cannot_be_reached(tmp_path: Path) -> None:
    done = wandb_run(tmp_path, WANDB_INIT_TIMEOUT="2", **KEY)
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stderr
    assert "W&B: offline (the server did not take the run: " in done.stdout
    run = next((tmp_path / "wandb").glob("offline-run-*"))
    assert b"train/success" in next(run.glob("*.wandb")).read_bytes()
    assert (tmp_path / "wandb_id").read_text() in run.name


def test_wandb_disabled_writes_nothing_and_costs_nothing(tmp_path: Path) -> None:
    done = wandb_run(tmp_path, WANDB_MODE="disabled", **KEY)
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stderr
    assert "W&B: disabled (WANDB_MODE=disabled)" in done.stdout
    assert not (tmp_path / "wandb").exists()


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The package as in a process where nobody is logged in; it reads its settings once, when they are first asked for."""
    wandb = pytest.importorskip("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    wandb.teardown()
    yield wandb
    wandb.teardown()


@pytest.mark.parametrize(
    ("setting", "variables", "mode", "why"),
    [
        ("auto", {"WANDB_MODE": "offline", **KEY}, "offline", "WANDB_MODE=offline"),
        ("auto", {"WANDB_MODE": "dryrun", **KEY}, "offline", "WANDB_MODE=dryrun"),
        ("auto", {"WANDB_MODE": "Online"}, "online", "WANDB_MODE=online"),
        ("auto", {"WANDB_MODE": "disabled", **KEY}, "disabled", "WANDB_MODE=disabled"),
        ("auto", KEY, "online", "logged in"),
        ("auto", {"WANDB_IDENTITY_TOKEN_FILE": "token"}, "online", "logged in"),
        ("auto", {}, "offline", "nobody is logged in"),
        ("online", {"WANDB_MODE": "offline"}, "online", "tracker.wandb.mode=online; WANDB_MODE=offline does not count"),
        ("offline", {"WANDB_MODE": "dryrun", **KEY}, "offline", "tracker.wandb.mode=offline"),
    ],
)
def test_the_setting_decides_over_wandbs_own_mode_and_that_over_being_logged_in(
    setting: Any, variables: dict[str, str], mode: str, why: str, wandb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _mode(WandbConfig(mode=setting), wandb) == (mode, why)


def test_wandb_offline_in_the_folder_counts_for_who_is_logged_in(
    wandb: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = subprocess.run([sys.executable, "-m", "wandb", "offline"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", KEY["WANDB_API_KEY"])
    assert _mode(WandbConfig(), wandb) == ("offline", "W&B's settings file")
    assert _mode(WandbConfig(mode="online"), wandb)[0] == "online"


@pytest.mark.parametrize("host", ["api.wandb.ai", "api.forge.coreweave.com"])
def test_a_key_for_either_name_of_the_public_server_is_a_login(
    host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {'a' * 40}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert _logged_in("https://api.forge.coreweave.com")
    assert _logged_in("https://api.wandb.ai")
    assert not _logged_in("https://wandb.example.com:8080")


def test_a_mode_that_wandb_does_not_know_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ValueError, match="WANDB_MODE is 'ofline'; allowed: online, run, offline, dryrun, disabled"):
        _mode(WandbConfig(), None)
