"""Signals sent to real commands, to those that start others too: what was done is kept, and no process is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from agents import train
from agents.runs.folder import RunFolder
from agents.runs.metrics import read_metrics
from envs.trajectory_file import read
from tests import injections
from tests.agents import odd_environments
from tests.injections import LEARNING, LONG, TINY, lives, module


def saved(run: Path) -> bool:
    """Whether a run was interrupted after its last iteration's checkpoint, and its process is gone."""
    status = RunFolder(run).get_status()
    last = read_metrics(run / "metrics.jsonl")[-1]["iteration"]
    kept = run / "checkpoints" / f"iteration_{last:06d}" / "manifest.json"
    return status["status"] == "interrupted" and status["iteration"] == last and kept.exists() and not lives(status["pid"])


@pytest.mark.fault("SIGTERM in an evaluation", lost="the episodes under way")
def test_an_evaluation_that_is_terminated_keeps_its_episodes_and_says_so(tmp_path: Path) -> None:
    assert train.main([*TINY, f"out={tmp_path}", "run=it", "iterations=1"]) == 0
    command = module("agents.evaluate", f"run={tmp_path / 'it'}", "evaluation.repeats=200", f"out={tmp_path}/found.json")

    def episodes() -> list[Path]:
        return [file for file in tmp_path.glob("found-*.episodes.jsonl") if file.stat().st_size]

    end = injections.signalled(command, lambda: bool(episodes()), signal.SIGTERM)
    assert end.code == 130
    assert end.err == "stopped; the episodes that have ended are kept, and the same command goes on with them\n"
    (file,) = episodes()
    assert all(one.steps for one in read(file))


@pytest.mark.fault("signals to a sweep")
@pytest.mark.parametrize(
    ("number", "whole_group"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGUSR1, False), (signal.SIGKILL, False)],
    ids=["Ctrl-C", "SIGTERM", "SIGUSR1", "kill -9"],
)
def test_a_sweep_that_is_stopped_saves_its_run_and_says_what_has_not_begun(
    tmp_path: Path, number: int, whole_group: bool
) -> None:
    command = module("agents.train", "--multirun", *TINY, LONG, f"out={tmp_path}", "run=sweep", "seed=0,1,2")
    run = tmp_path / "sweep" / "00_seed-0"
    end = injections.signalled(command, injections.has_done(run, 2), number, whole_group)
    if number == signal.SIGKILL:
        while lives(RunFolder(run).get_status()["pid"]):  # nobody waits for it, but it was told
            time.sleep(0.05)
    else:
        assert end.code == 130
        assert f"go on with: {RunFolder(run).resume_command}" in end.err
        assert "stopped; 2 of 3 runs have not begun:\npython -m agents.train" in end.err
        assert "seed=1" in end.err.splitlines()[-2]
        assert end.err.splitlines()[-1].endswith(f"seed=2 out={tmp_path}/sweep run=02_seed-2")
    assert saved(run)
    assert sorted(os.listdir(tmp_path / "sweep"))[0] == "00_seed-0"
    assert not (tmp_path / "sweep" / "01_seed-1").exists()


@pytest.mark.fault("Ctrl-Z at a sweep")
def test_ctrl_z_holds_a_sweep_and_its_run(tmp_path: Path) -> None:
    command = module("agents.train", "--multirun", *TINY, LONG, f"out={tmp_path}", "run=sweep", "seed=0,1")
    run = tmp_path / "sweep" / "00_seed-0"
    process = injections.start(command)
    injections.wait_until(injections.has_done(run, 1), process)
    child = RunFolder(run).get_status()["pid"]

    def held(pid: int) -> bool:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    os.killpg(process.pid, signal.SIGTSTP)
    injections.wait_until(lambda: held(process.pid) and held(child), process)
    os.killpg(process.pid, signal.SIGCONT)
    injections.wait_until(lambda: not held(child), process)
    process.terminate()
    assert injections.ended(process).code == 130
    assert saved(run)


@pytest.mark.fault("a run's folder is deleted or renamed while it goes on", lost="what came after the newest checkpoint")
@pytest.mark.parametrize("renamed", [True, False])
def test_a_training_whose_folder_goes_away_says_so_and_begins_no_second_one(tmp_path: Path, renamed: bool) -> None:
    command = module("agents.train", *TINY, LONG, "checkpoint.every=1", f"out={tmp_path}", "run=it")
    run, elsewhere = tmp_path / "it", tmp_path / "elsewhere"
    process = injections.start(command)
    injections.wait_until(injections.has_done(run, 2), process)
    run.rename(elsewhere)
    if not renamed:
        shutil.rmtree(elsewhere)
    end = injections.ended(process)
    assert end.code == 1
    assert end.err.startswith(f"error: {run} was deleted or renamed while the run was going on, which ends it")
    assert end.err.endswith("go on from its newest checkpoint: python -m agents.train resume=<the new name>\n")
    assert not run.exists()
    if renamed:
        assert train.main([f"resume={elsewhere}", "iterations=100", "tracker.console=null"]) == 0
        assert [row["iteration"] for row in read_metrics(elsewhere / "metrics.jsonl")] == [*range(101)]


@pytest.mark.fault("an environment in the training's own process calls sys.exit", lost="what came after the newest checkpoint")
def test_an_environment_that_calls_sys_exit_ends_the_training_as_a_failure_and_not_in_silence(tmp_path: Path) -> None:
    words = [*LEARNING, "env=quitting", "threads=1", "checkpoint.every=1", "iterations=200", f"out={tmp_path}", "run=it"]
    end = injections.ended(injections.start([sys.executable, "-c", odd_environments.COMMAND, *words]))
    run = RunFolder(tmp_path / "it")
    assert end.code == 1
    assert "error: SystemExit: 0 (the environment, or something else that the run uses, called sys.exit)" in end.err
    assert f"To go on from the newest checkpoint: {run.resume_command}" in end.err
    assert run.get_status()["status"] == "failed"
    assert "in plain" in run.traceback.read_text()
