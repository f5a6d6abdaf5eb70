"""An iteration that fails on its way: what is on disk then, and that a resume goes on as if nothing had happened."""

from __future__ import annotations

import errno
import gc
import itertools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agents import train as training
from agents.rollout.dialogue import Plain
from agents.rollout.engines.hf import HFEngine
from agents.rollout.sampler import Sampler
from agents.runs.checkpoint import latest
from agents.runs.folder import RunFolder
from agents.training.credit import Credit
from agents.training.experience import Experience
from agents.training.learner import Learner
from envs.trajectory import Trajectory
from envs.trajectory_file import read
from scripts.faults.sameness import differences
from tests.agents.test_methods import FEW_BRANCHES
from tests.agents.test_training import SMALL

FEW = [*SMALL, "algo=ppo", "critic.hidden=[16]", "iterations=2", "evaluation.before=false", "evaluation.after=false"]


def begin(folder: Path, name: str) -> tuple[int, Path]:
    return training.main([*FEW, f"out={folder}", f"run={name}"]), folder / name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    code, run = begin(tmp_path_factory.mktemp("runs"), "whole")
    assert code == 0
    return run


def goes_on_like(run: Path, whole: Path) -> None:
    """From the checkpoint before the iteration that failed, of which nothing else was kept."""
    found = latest(run)
    assert found is not None
    assert found.name == "iteration_000001"
    assert training.main([f"resume={run}"]) == 0
    assert differences(whole, run) == []


def test_a_run_that_keeps_no_checkpoint_writes_none_and_says_so_when_it_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [*FEW, "iterations=1", "checkpoint.keep=0", f"out={tmp_path}", "run=it"]
    assert training.main(few) == 0
    assert (tmp_path / "it" / "model").is_dir()
    assert not (tmp_path / "it" / "checkpoints").exists()
    assert training.main([f"resume={tmp_path / 'it'}", "iterations=2"]) == 2
    assert "it was trained with checkpoint.keep=0" in capsys.readouterr().err


@pytest.mark.fault("a method or an update fails", lost="what came after the newest checkpoint")
@pytest.mark.parametrize("where", ["credit", "after the update"])
def test_episodes_are_on_disk_before_anything_is_learnt_from_them(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    update, assign = Learner.update, Credit.assign

    def failing(self: Learner, experience: Experience, iteration: int, spent: float = 0.0) -> dict[str, float]:
        done = update(self, experience, iteration, spent)
        if where != "credit" and iteration == 2:
            raise ZeroDivisionError("an update")
        return done

    async def mistaken(self: Credit, experience: Experience, done: float = 0.0) -> dict[str, float]:
        if where == "credit" and experience.weights_version[0] == 1:
            raise ZeroDivisionError("a user's method")
        return await assign(self, experience, done)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", failing)
        patch.setattr(Credit, "assign", mistaken)
        code, run = begin(tmp_path, "failed")
    assert code == 1
    assert "To go on from the newest checkpoint" in capsys.readouterr().err
    assert RunFolder(run).get_status()["status"] == "failed"
    kept, expected = (list(read(RunFolder(one).trajectories(2))) for one in (run, whole))
    assert [[step.response_ids for step in t.steps] for t in kept] == [
        [step.response_ids for step in t.steps] for t in expected
    ]
    assert {step.credit is None for t in kept for step in t.steps} == {where == "credit"}
    goes_on_like(run, whole)


@pytest.mark.fault("an update on branches fails", lost="what came after the newest checkpoint")
@pytest.mark.parametrize("method", ["vineppo", "tree_grpo"])
def test_branches_are_on_disk_before_anything_is_learnt_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def failing(self: Learner, experience: Experience, iteration: int, spent: float = 0.0) -> dict[str, float]:
        raise ZeroDivisionError("an update")

    monkeypatch.setattr(Learner, "update", failing)
    few = [*SMALL, f"algo={method}", *FEW_BRANCHES[method], "iterations=1", "evaluation.before=false", f"out={tmp_path}"]
    assert training.main([*few, "run=failed"]) == 1
    folder = RunFolder(tmp_path / "failed")
    begun, gone_on = list(read(folder.trajectories(1))), list(read(folder.branches(1)))
    assert folder.iterations() == [1]
    assert {one.parent[0] for one in gone_on if one.parent} <= {one.name for one in begun}
    assert {step.credit is None for one in gone_on for step in one.steps} == {method == "vineppo"}


@pytest.mark.fault("a full disk at the episodes", lost="what came after the newest checkpoint")
def test_a_disk_that_is_full_at_the_episodes_stops_the_run_and_a_resume_goes_on(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is learned from episodes that could not be written."""
    learnt: list[int] = []
    really, update = RunFolder.write_trajectories, Learner.update

    def full(self: RunFolder, iteration: int, trajectories: Sequence[Trajectory]) -> Path:
        if iteration == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(self, iteration, trajectories)

    def counted(self: Learner, experience: Experience, iteration: int, spent: float = 0.0) -> dict[str, float]:
        learnt.append(iteration)
        return update(self, experience, iteration, spent)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_trajectories", full)
        patch.setattr(Learner, "update", counted)
        code, run = begin(tmp_path, "full")
    assert code == 1
    assert learnt == [1]
    assert not RunFolder(run).trajectories(2).exists()
    goes_on_like(run, whole)


@pytest.mark.fault("Ctrl-C twice", lost="what came after the newest checkpoint")
@pytest.mark.parametrize("mode", ["inline", "threads"])
@pytest.mark.parametrize("where", ["engine", "episode"])
def test_stopped_at_once_in_the_middle_of_a_pass_everything_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A signal's handler raises wherever the program stands, most often in the model's forward pass."""
    closed, count = [], itertools.count()
    owner: type = HFEngine if where == "engine" else Plain
    name = "_advance" if where == "engine" else "action"
    really, close = getattr(owner, name), Sampler.close

    def interrupted(self: Any, *arguments: Any) -> Any:
        if next(count) == 40:
            raise KeyboardInterrupt
        return really(self, *arguments)

    def closing(self: Sampler) -> None:
        closed.append(len(self.player.engine._slots))  # type: ignore[attr-defined]
        close(self)

    monkeypatch.setattr(owner, name, interrupted)
    monkeypatch.setattr(Sampler, "close", closing)
    before = threading.active_count()
    assert training.main([*FEW, f"out={tmp_path}", "run=it", f"env.pool.mode={mode}", "env.pool.workers=2"]) == 130
    gc.collect()
    told = capfd.readouterr().err
    assert "stopped at once" in told
    assert "Traceback" not in told
    assert "never retrieved" not in told
    assert "destroyed" not in told
    assert closed == [0]
    assert threading.active_count() <= before
    assert RunFolder(tmp_path / "it").get_status()["status"] == "interrupted"
