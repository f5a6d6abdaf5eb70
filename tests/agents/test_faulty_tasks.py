"""The real command on an environment some of whose tasks fail: whatever they do, it is their own loss, counted and named."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.runs.folder import RunFolder
from agents.runs.metrics import read_metrics
from agents.train import main
from envs import registry
from envs.trajectory import Trajectory
from envs.trajectory_file import read
from tests.envs import toys

registry.register("mined", "tests/Mined-v0", "tests.envs.toys:Mined", toys.MinedConfig, toys.CorridorPrompt)
SMALL = [
    "env=mined",
    "warmstart.enabled=false",
    "rollout.groups=4",
    "rollout.group_size=4",
    "evaluation.every=0",
    "evaluation.before=false",
    "evaluation.after=false",
    "checkpoint.every=1",
    "threads=1",
    "model.tiny.hidden=32",
    "model.tiny.intermediate=32",
    "env.pool.workers=1",
]


def played(folder: RunFolder) -> list[Trajectory]:
    return [one for iteration in folder.iterations() for one in read(folder.trajectories(iteration))]


@pytest.mark.fault("a task fails again and again", lost="the task")
@pytest.mark.parametrize(
    ("mode", "mine", "said"),
    [
        ("inline", "exit", "environment mined, task mined-0, step 2: raises SystemExit(0)"),
        ("inline", "nan", "environment mined, task mined-0, step 2: reward is nan"),
        ("inline", "cancel", "environment mined, task mined-0, step 2: raises CancelledError()"),
        ("inline", "speechless", "exception: Speechless: "),
        ("threads", "exit", "environment mined, task mined-0, step 2: raises SystemExit(0)"),
        ("threads", "hang", "timeout: 'step' took more than 0.5 s"),
        ("processes", "exit", "environment mined, task mined-0, step 2: raises SystemExit(0)"),
        ("processes", "die", "crash: the worker process ended with exit code 3"),
    ],
)
def test_a_task_that_fails_costs_no_other_and_is_set_aside_by_name(
    mode: str, mine: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of the twelve tasks fail; the others share one worker with them, and may not be retried at all."""
    command = [
        *SMALL,
        f"env.pool.mode={mode}",
        f"env.mine='{mine}'",
        "env.mined=2",
        "env.pool.retries=0",
        "env.pool.set_aside=3",
    ]
    limit = "0.5" if mine == "hang" else "60"
    assert main([*command, f"env.pool.step_timeout={limit}", f"out={tmp_path}", "run=it", "iterations=3"]) == 0
    folder = RunFolder(tmp_path / "it")
    episodes = played(folder)
    failed = [one for one in episodes if one.error is not None]
    assert {one.task_id for one in failed} == {"mined-0", "mined-1"}
    assert all(one.success or one.steps[-1].truncated for one in episodes if one not in failed)
    assert any(said in str(one.error) for one in failed)
    rows = read_metrics(folder.metrics)
    assert sum(row["train/faults"] for row in rows[1:]) == len(failed)
    assert [row["env/set_aside"] for row in rows] == sorted(row["env/set_aside"] for row in rows)
    assert rows[-1]["env/set_aside"] == 2
    assert all(row["train/reward"] is not None and math.isfinite(row["update/grad_norm"]) for row in rows[1:])
    assert len({one.group_id for one in episodes if one not in failed}) == 3 * 4, "lost groups are replaced by other tasks"
    out = capsys.readouterr().out
    assert "set aside     2 tasks that failed again and again" in out
    assert out.rstrip().endswith("mined-0, mined-1")
    assert out.count("warning: task mined-0 is set aside for the rest of the run: its environment failed 3 times in a row") == 1
    assert folder.get_status()["set_aside"] == ["mined-0", "mined-1"]
    assert folder.warnings.read_text().count("is set aside for the rest of the run") == 2
    assert main([f"resume={folder.path}", "iterations=6"]) == 0
    assert folder.get_status()["set_aside"] == ["mined-0", "mined-1"]
    after = [one for one in played(folder)[len(episodes) :] if one.error is not None]
    assert after
    assert all(str(one.error).startswith("set aside: ") and not one.steps for one in after)


@pytest.mark.fault("all tasks fail again and again", lost="what came after the newest checkpoint")
def test_an_environment_all_of_whose_tasks_fail_ends_the_run_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "env.mine='nan'", "env.mined=12", f"out={tmp_path}", "run=it", "iterations=3"]) == 1
    shown = capsys.readouterr().err
    assert " left nothing to learn from: " in shown
    assert "episodes were cut off by a fault (the first: " in shown
    assert "reward is nan (float); it must be a finite number" in shown
    assert "Traceback" not in shown


@pytest.mark.fault("an environment's first answer is wrong", lost="nothing: no run begins")
def test_a_first_task_with_a_wrong_answer_is_refused_before_a_folder_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.register("numbers", "tests/Numbers-v0", Numbers, toys.CorridorConfig, toys.CorridorPrompt)
    assert main([*SMALL[1:-1], "env=numbers", f"out={tmp_path}/runs", "run=it"]) == 2
    assert "env=numbers: environment numbers, task length-3, reset: observation is 3 (int)" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.fault("an environment's tasks are no list of texts", lost="nothing: no run begins")
@pytest.mark.parametrize("tasks", [iter(["length-3"]), [3, 4], "length-3", None], ids=lambda tasks: type(tasks).__name__)
def test_tasks_that_are_no_list_of_texts_are_refused_in_words(
    tasks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(toys.Mined, "tasks", lambda env, split: tasks)
    assert main([*SMALL, f"out={tmp_path}/runs", "run=it"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: env=mined: tasks('train') is ")
    assert line.endswith("; it must be a list of texts")


@pytest.mark.fault("an environment cannot be closed")
def test_a_run_begins_with_an_environment_that_cannot_be_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def close(env: toys.Mined) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(toys.Mined, "close", close)
    assert main([*SMALL, "iterations=1", f"out={tmp_path}", "run=it"]) == 0
    assert "environment mined cannot be closed: SystemExit: 0" in caplog.text


@pytest.mark.fault("an environment calls sys.exit as it is made", lost="nothing: no run begins")
@pytest.mark.parametrize("where", ["made", "begun"])
def test_an_environment_that_ends_the_program_at_once_is_a_failure_in_words(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.register("ends", "tests/Ends-v0", Ends, EndsConfig, toys.CorridorPrompt)
    assert main([*SMALL[1:-1], "env=ends", f"env.where={where}", f"out={tmp_path}/runs", "run=it"]) != 0
    shown = capsys.readouterr().err
    assert "SystemExit" in shown
    assert "env=ends" in shown
    assert not (tmp_path / "runs").exists()


@dataclass
class EndsConfig(toys.CorridorConfig):
    where: str = ""


class Ends(toys.Corridor):
    name = "ends"

    def __init__(self, config: EndsConfig) -> None:
        super().__init__(config)
        if config.where == "made":
            raise SystemExit(0)

    def start(self, task_id: str, rng: np.random.Generator) -> toys.StepResult:
        raise SystemExit(0)


class Numbers(toys.Corridor):
    name = "numbers"

    def _turn(self, text: str, valid: bool = True) -> toys.StepResult:
        turn = super()._turn(text, valid)
        turn.observation = self.length  # type: ignore[assignment]
        return turn
