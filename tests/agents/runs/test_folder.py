"""The folder of a run: what is in it, and what it refuses."""

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml

from agents.config import loading
from agents.config.commands import TrainConfig
from agents.runs import checkpoint
from agents.runs.folder import RunFolder, RunFolderError, _started
from agents.runs.metrics import read_lines
from envs.base import Split
from envs.trajectory import Step, Trajectory
from envs.trajectory_file import read

ROOT = Path(__file__).resolve().parents[3]
SPLIT_TASKS: dict[Split, list[str]] = {"train": ["a", "b"], "eval": ["c"], "test": []}
HASHES: dict[Split, str] = {"train": "0f", "eval": "1e", "test": "2d"}


def begin(config: TrainConfig) -> RunFolder:
    folder = RunFolder.open(config)
    folder.begin(config, SPLIT_TASKS, HASHES)
    return folder


def settings(tmp_path: Path, *overrides: str) -> TrainConfig:
    return loading.load([f"out={tmp_path}", *overrides])


def test_a_run_that_has_not_begun_leaves_nothing(tmp_path: Path) -> None:
    RunFolder.open(settings(tmp_path / "runs", "run=first")).discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["..", ".", "../other", "a/../../b"])
def test_a_run_stays_inside_the_folder_of_runs(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="names no folder inside out="):
        RunFolder.open(settings(tmp_path, f"run='{name}'"))


def test_a_new_run_has_its_configuration_and_says_that_it_is_running(tmp_path: Path) -> None:
    folder = begin(settings(tmp_path, "run=first", "seed=3"))
    assert folder.path == tmp_path / "first"
    assert yaml.safe_load(folder.config.read_text())["seed"] == 3
    status = folder.get_status()
    assert (status["status"], status["pid"]) == ("running", os.getpid())


def test_each_start_of_a_run_records_the_machine_and_the_versions(tmp_path: Path) -> None:
    folder = begin(settings(tmp_path, "run=first"))
    begin(loading.load([f"resume={folder.path}"]))
    starts = read_lines(folder.starts)
    assert len(starts) == 2
    assert starts[0]["host"] == socket.gethostname()
    assert starts[0]["cores"] > 0
    assert starts[0]["versions"]["torch"] == torch.__version__
    folder.discard()
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_name_is_named_after_environment_and_method(tmp_path: Path) -> None:
    assert RunFolder.open(settings(tmp_path, "algo=grpo")).name.startswith("alfworld-grpo-")


def test_an_old_run_is_never_overwritten(tmp_path: Path) -> None:
    begin(settings(tmp_path, "run=first"))
    with pytest.raises(RunFolderError, match=r"already holds a run.*resume="):
        RunFolder.open(settings(tmp_path, "run=first"))


@pytest.mark.fault("several runs start under one name", lost="the others, which say so")
def test_of_runs_started_together_under_one_name_one_gets_the_folder(tmp_path: Path) -> None:
    config, together = settings(tmp_path, "run=first"), threading.Barrier(8)

    def start(_: int) -> bool:
        together.wait()
        try:
            begin(config)
        except RunFolderError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(start, range(8))) == 1


def test_a_run_is_resumed_in_its_own_folder_and_keeps_its_configuration_until_told(tmp_path: Path) -> None:
    begin(settings(tmp_path, "run=first", "iterations=3")).set_status("interrupted")
    more = loading.load([f"resume={tmp_path}/first", "iterations=9"])
    again = RunFolder.open(more)
    assert again.path == tmp_path / "first"
    assert yaml.safe_load(again.config.read_text())["iterations"] == 3
    again.begin(more, SPLIT_TASKS, HASHES)
    assert yaml.safe_load(again.config.read_text())["iterations"] == 9


def test_a_resumed_run_keeps_its_status_until_it_goes_on(tmp_path: Path) -> None:
    begin(settings(tmp_path, "run=first")).set_status("finished", iteration=3)
    before = (tmp_path / "first" / "status.json").read_bytes()
    config = loading.load([f"resume={tmp_path}/first"])
    again = RunFolder.open(config)
    assert again.status.read_bytes() == before
    again.begin(config, SPLIT_TASKS, HASHES)
    assert again.get_status()["status"] == "running"


@pytest.mark.fault("a run is resumed while it is going on", lost="nothing: no run begins")
def test_a_run_that_another_process_is_writing_is_refused(tmp_path: Path) -> None:
    folder = begin(settings(tmp_path, "run=first"))
    config = loading.load([f"resume={folder.path}"])
    opened_before = RunFolder.open(config)
    program = [sys.executable, "-c", "print(flush=True); input()  # agents.train"]
    other = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()  # while a program is being started, the system does not tell its name yet
    try:
        folder.set_status("running", pid=other.pid, started=_started(other.pid))
        with pytest.raises(RunFolderError, match=f"process {other.pid}"):
            RunFolder.open(config)
        with pytest.raises(RunFolderError, match=f"process {other.pid}"):
            opened_before.begin(config, SPLIT_TASKS, HASHES)
    finally:
        other.communicate(b"\n")
    RunFolder.open(config)


@pytest.mark.fault("a run is resumed while another machine may still write it", lost="nothing, with a warning")
def test_a_run_that_another_machine_may_be_writing_is_gone_on_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = begin(settings(tmp_path, "run=first"))
    config = loading.load([f"resume={folder.path}"])
    for status, host, warns in (
        ("running", "node7", True),
        ("interrupted", "node7", False),
        ("running", socket.gethostname(), False),
    ):
        folder.set_status(status, host=host)  # type: ignore[arg-type]
        caplog.clear()
        RunFolder.open(config)
        assert (f"{folder.status} says that node7 runs it (process {os.getpid()})" in caplog.text) == warns


@pytest.mark.fault("a run is resumed several times at the same moment", lost="nothing: one goes on, the others say so")
def test_of_resumes_at_the_same_moment_one_goes_on(tmp_path: Path) -> None:
    folder = begin(settings(tmp_path, "run=first"))
    folder.set_status("interrupted")
    program = (
        "import sys; from tests.agents.runs.test_folder import *\n"
        "config = loading.load([f'resume={sys.argv[1]}']); folder = RunFolder.open(config); print(flush=True); input()\n"
        "try: folder.begin(config, SPLIT_TASKS, HASHES); print('goes on', flush=True)\n"
        "except RunFolderError as refused: print(refused, flush=True)\n"
        "input()  # agents"
    )
    command = [sys.executable, "-c", program, str(folder.path)]
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    processes = [subprocess.Popen(command, **piped) for _ in range(4)]  # type: ignore[call-overload]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.stdout.readline() for process in processes]
    (one,) = [process for process, line in zip(processes, said, strict=True) if line == "goes on\n"]
    assert sum(f"still being written by process {one.pid}" in line for line in said) == 3
    assert folder.get_status()["pid"] == one.pid
    for process in processes:
        process.communicate("\n")


@pytest.mark.fault("a folder that cannot be written", lost="nothing: no run begins")
@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below", "n" * 300])
def test_a_place_that_cannot_be_written_is_told_and_left_alone(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot be written.*out="):
        RunFolder.open(settings(tmp_path / place))
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


@pytest.mark.fault("a folder that cannot be written", lost="nothing: no run begins")
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs a file system that may not be written")
def test_a_file_system_that_may_not_be_written_is_told() -> None:
    with pytest.raises(RunFolderError, match=r"cannot be written.*out="):
        RunFolder.open(settings(Path("/proc/self"), "run=first"))


@pytest.mark.parametrize("there_before", [False, True])
def test_a_start_that_made_nothing_is_taken_back(tmp_path: Path, there_before: bool) -> None:
    theirs = tmp_path / "first" / "notes.txt"
    if there_before:
        theirs.parent.mkdir()
        theirs.write_text("mine")
    folder = begin(settings(tmp_path, "run=first"))
    folder.metrics.touch()
    folder.tokenizer.mkdir()
    folder.discard()
    assert list(tmp_path.rglob("*")) == ([theirs.parent, theirs] if there_before else [])
    assert not folder.begun


@pytest.mark.parametrize(
    "made", ["metrics.jsonl", "trajectories/iteration_000001.jsonl.gz", "checkpoints/iteration_000000/model"]
)
def test_a_run_that_made_anything_is_never_taken_back(tmp_path: Path, made: str) -> None:
    folder = begin(settings(tmp_path, "run=first"))
    (folder.path / made).parent.mkdir(parents=True, exist_ok=True)
    (folder.path / made).write_text("{}")
    folder.discard()
    assert (folder.path / made).exists()
    assert folder.begun


def test_a_run_of_before_is_never_taken_back(tmp_path: Path) -> None:
    begin(settings(tmp_path, "run=first")).set_status("interrupted")
    resumed = begin(loading.load([f"resume={tmp_path}/first"]))
    resumed.discard()
    assert resumed.status.exists()


def test_the_last_lines_name_what_there_is_and_nothing_else(tmp_path: Path) -> None:
    folder = begin(settings(tmp_path, "run=first"))
    assert folder.last_lines() == ""
    folder.metrics.write_text("{}")
    folder.checkpoints.mkdir()
    assert folder.last_lines().splitlines() == [
        f"table         {folder.path}/metrics.jsonl",
        f"report on it  python -m agents.report {folder.path}",
        f"evaluate it   python -m agents.evaluate run={folder.path}",
    ]


@pytest.mark.fault("a run's folder is renamed between two writes of a checkpoint", lost="what came after the newest checkpoint")
def test_no_write_begins_a_second_folder_where_a_run_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begin(settings(tmp_path, "run=it"))
    folder.path.rename(tmp_path / "elsewhere")
    monkeypatch.setattr(RunFolder, "refuse_if_gone", lambda self: None)  # it has looked a moment before
    with pytest.raises(OSError, match="No such file"):
        folder.set_status("running")
    with pytest.raises(OSError, match="No such file"):
        folder.write_trajectories(1, [])
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.save(folder.path / "checkpoints" / "iteration_000001", {"w": torch.zeros(1)}, {}, keep=1)
    assert not folder.path.exists()


def test_an_iterations_episodes_read_back_equal(tmp_path: Path) -> None:
    folder = begin(settings(tmp_path))
    episode = Trajectory("env", "task", "g", 1, "train", steps=[Step("seen", "done", response_ids=[1, 2])])
    assert list(read(folder.write_trajectories(1, [episode]))) == [episode]


def test_a_resumed_run_refuses_other_tasks(tmp_path: Path) -> None:
    folder = begin(settings(tmp_path))
    folder.refuse_other_tasks(SPLIT_TASKS, HASHES)
    with pytest.raises(RunFolderError, match="split 'eval'"):
        folder.refuse_other_tasks({**SPLIT_TASKS, "eval": ["d"]}, HASHES)
    with pytest.raises(RunFolderError, match="split 'train'"):  # the same ids, but another game behind one of them
        folder.refuse_other_tasks(SPLIT_TASKS, {**HASHES, "train": "2d"})
