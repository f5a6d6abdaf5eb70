"""The folder of a run: what is in it, and what it refuses."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from agents import loading
from agents.config import TrainConfig
from agents.runfolder import RunFolder, RunFolderError
from envs.trajectory import Step, Trajectory, read


def settings(tmp_path: Path, *overrides: str) -> TrainConfig:
    return loading.load([f"out={tmp_path}", *overrides])


def test_a_new_run_has_its_configuration_and_says_that_it_is_running(tmp_path: Path) -> None:
    folder = RunFolder.open(settings(tmp_path, "run=first", "seed=3"))
    assert folder.path == tmp_path / "first"
    assert yaml.safe_load(folder.config.read_text())["seed"] == 3
    status = folder.get_status()
    assert (status["status"], status["pid"]) == ("running", os.getpid())


def test_a_run_without_a_name_is_named_after_environment_and_method(tmp_path: Path) -> None:
    assert RunFolder.open(settings(tmp_path, "algo=grpo")).name.startswith("alfworld-grpo-")


def test_an_old_run_is_never_overwritten(tmp_path: Path) -> None:
    RunFolder.open(settings(tmp_path, "run=first"))
    with pytest.raises(RunFolderError, match=r"already holds a run.*resume="):
        RunFolder.open(settings(tmp_path, "run=first"))


def test_of_runs_started_together_under_one_name_one_gets_the_folder(tmp_path: Path) -> None:
    config, together = settings(tmp_path, "run=first"), threading.Barrier(8)

    def start(_: int) -> bool:
        together.wait()
        try:
            RunFolder.open(config)
        except RunFolderError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(start, range(8))) == 1


def test_a_run_is_resumed_in_its_own_folder_and_keeps_its_configuration_until_told(tmp_path: Path) -> None:
    RunFolder.open(settings(tmp_path, "run=first", "iterations=3")).set_status("interrupted")
    more = loading.load([f"resume={tmp_path}/first", "iterations=9"])
    again = RunFolder.open(more)
    assert again.path == tmp_path / "first"
    assert yaml.safe_load(again.config.read_text())["iterations"] == 3
    again.go_on(more)
    assert yaml.safe_load(again.config.read_text())["iterations"] == 9


def test_a_resumed_run_keeps_its_status_until_it_goes_on(tmp_path: Path) -> None:
    RunFolder.open(settings(tmp_path, "run=first")).set_status("finished", iteration=3)
    before = (tmp_path / "first" / "status.json").read_bytes()
    config = loading.load([f"resume={tmp_path}/first"])
    again = RunFolder.open(config)
    assert again.status.read_bytes() == before
    again.go_on(config)
    assert again.get_status()["status"] == "running"


def test_a_run_that_another_process_is_writing_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.open(settings(tmp_path, "run=first"))
    config = loading.load([f"resume={folder.path}"])
    opened_before = RunFolder.open(config)
    program = [sys.executable, "-c", "print(flush=True); input()  # agents.train"]
    other = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()  # while a program is being started, the system does not tell its name yet
    try:
        folder.set_status("running", pid=other.pid)
        with pytest.raises(RunFolderError, match=f"process {other.pid}"):
            RunFolder.open(config)
        with pytest.raises(RunFolderError, match=f"process {other.pid}"):
            opened_before.go_on(config)
    finally:
        other.communicate(b"\n")
    RunFolder.open(config)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot be written.*out="):
        RunFolder.open(settings(tmp_path / "file"))


def test_an_iterations_episodes_read_back_equal(tmp_path: Path) -> None:
    folder = RunFolder.open(settings(tmp_path))
    episode = Trajectory("env", "task", "g", 1, "train", steps=[Step("seen", "done", response_ids=[1, 2])])
    assert list(read(folder.write_trajectories(1, [episode]))) == [episode]


def test_a_resumed_run_refuses_other_tasks(tmp_path: Path) -> None:
    folder = RunFolder.open(settings(tmp_path))
    panels, hashes = {"train": ["a", "b"], "eval": ["c"]}, {"train": "0f", "eval": "1e"}
    folder.write_panels(panels, hashes)  # type: ignore[arg-type]
    folder.write_panels(panels, hashes)  # type: ignore[arg-type]
    with pytest.raises(RunFolderError, match="panel 'eval'"):
        folder.write_panels({**panels, "eval": ["d"]}, hashes)  # type: ignore[arg-type]
    with pytest.raises(RunFolderError, match="panel 'train'"):  # the same ids, but another game behind one of them
        folder.write_panels(panels, {**hashes, "train": "2d"})  # type: ignore[arg-type]
