"""Checkpoints: exact, atomic, verified, and clear about what happened when they cannot be written."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.runs import checkpoint
from agents.runs.checkpoint import CheckpointError
from agents.runs.state_tree import flatten, unflatten
from scripts.faults.sameness import same

ROOT = Path(__file__).resolve().parents[3]


def write(run: Path, iteration: int, keep: int = 5, size: int = 8) -> Path:
    folder = checkpoint.folder_of(run / "checkpoints", iteration)
    checkpoint.save(folder, {"weight": torch.full((size,), float(iteration))}, {"iteration": iteration}, keep)
    return folder


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_state_comes_back_with_types_and_every_digit() -> None:
    tree = {
        "numbers": [0.1, 1e-308, float("inf"), float("nan"), 2**200, -3, True, None],
        "tuple": (1, (2.5, "x")),
        "by number": {0: torch.arange(3), 7: {"step": torch.tensor(3.0)}},
        "$": "a key that looks like a mark",
        "array": np.arange(6, dtype=np.uint32).reshape(2, 3),
        "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
        "empty": [{}, [], (), torch.zeros(0)],
        "a/b": {"c": torch.ones(1)},
        "a": {"b/c": torch.zeros(1)},
    }
    tensors, rest = flatten(tree)
    assert same(unflatten(tensors, rest), tree)


def test_what_a_checkpoint_cannot_hold_is_refused_with_its_place() -> None:
    with pytest.raises(TypeError, match="/outer/0 is a object"):
        flatten({"outer": [object()]})


def test_an_optimizer_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    def parts() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(model: torch.nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        model(torch.ones(3)).square().sum().backward()
        optimizer.step()

    model, optimizer = parts()
    step(model, optimizer)
    folder = checkpoint.folder_of(tmp_path / "checkpoints", 1)
    checkpoint.save(folder, model.state_dict(), {"optimizer": optimizer.state_dict()}, keep=1)
    step(model, optimizer)
    other, its_optimizer = parts()
    saved = checkpoint.load(folder)
    other.load_state_dict(saved.tensors)
    its_optimizer.load_state_dict(saved.state["optimizer"])
    model.zero_grad()
    other.zero_grad()
    step(other, its_optimizer)
    reference, its = parts()
    step(reference, its)
    reference.zero_grad()
    step(reference, its)
    assert torch.equal(other.weight, reference.weight)


def test_random_generators_go_on_exactly_where_they_were(tmp_path: Path) -> None:
    _ = random.random(), torch.rand(5), np.random.rand(2)

    def draw() -> list[Any]:
        return [random.random(), random.gauss(0, 1), np.random.rand(3), torch.rand(3)]

    folder = checkpoint.folder_of(tmp_path / "checkpoints", 1)
    checkpoint.save(folder, {}, {"random": checkpoint.random_states()}, keep=1)
    first = draw()
    checkpoint.restore_random_states(checkpoint.load(folder).state["random"])
    assert same(draw(), first)


def test_tied_tensors_are_stored_once_and_come_back_under_both_names(tmp_path: Path) -> None:
    shared = torch.randn(50, 20)
    folder = checkpoint.folder_of(tmp_path / "checkpoints", 1)
    tensors = {"embed": shared, "head": shared, "part": shared[:10], "turned": shared.T}
    checkpoint.save(folder, tensors, {}, keep=1)
    loaded = checkpoint.load(folder).tensors
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert set(loaded) == set(tensors)
    assert (folder / "model.safetensors").stat().st_size < 3 * shared.nbytes


def test_who_may_read_the_folder_may_read_what_is_in_it(tmp_path: Path) -> None:
    """safetensors writes files for their owner alone."""
    before = os.umask(0o027)
    try:
        folder = write(tmp_path, 1)
    finally:
        os.umask(before)
    assert {oct(file.stat().st_mode & 0o777) for file in folder.iterdir()} == {"0o640"}


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for iteration in (1, 2, 9, 10, 100):
        write(tmp_path, iteration, keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["iteration_000010", "iteration_000100"]
    assert checkpoint.latest(tmp_path) == tmp_path / "checkpoints/iteration_000100"


@pytest.mark.fault("odd folders among the checkpoints")
def test_folders_of_other_names_are_neither_checkpoints_nor_deleted(tmp_path: Path) -> None:
    foreign = ["iteration_best", "iteration_3 (copy)", "iteration_7", "iteration_0000002", "iteration_000009.passed", "mine"]
    for name in foreign:
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "checkpoints" / "iteration_000099").write_text("a file")
    for iteration in (1, 2, 3):
        write(tmp_path, iteration, keep=2)
    found = checkpoint.complete(tmp_path / "checkpoints")
    assert list(found) == [2, 3]
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None
    assert loaded.iteration == 3
    assert set(os.listdir(tmp_path / "checkpoints")) == {path.name for path in found.values()} | {*foreign, "iteration_000099"}


def test_a_million_iterations_are_more_than_999999(tmp_path: Path) -> None:
    for iteration in (999_999, 1_000_000):
        write(tmp_path, iteration)
    assert checkpoint.of_run(tmp_path, None).iteration == 1_000_000


@pytest.mark.fault("damaged checkpoints, newer than the whole ones", lost="the iterations of the damaged ones")
def test_damaged_newer_checkpoints_neither_count_nor_stay_in_the_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is kept are those up to the one just written: a run that went back past damaged ones keeps what it writes."""
    for iteration in (4, 5, 9, 10):
        write(tmp_path, iteration)
    for iteration in (9, 10):
        (checkpoint.folder_of(tmp_path / "checkpoints", iteration) / "state.json").write_text("")
    for iteration in (6, 7):
        write(tmp_path, iteration, keep=2)
    assert checkpoint.of_run(tmp_path, None).iteration == 7
    names = ["iteration_000006", "iteration_000007", "iteration_000009.passed", "iteration_000010.passed"]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == names
    assert "iteration_000010 could not be read when the run went on: it is kept as iteration_000010.passed" in caplog.text


@pytest.mark.fault("a checkpoint vanishes while it is read")
def test_a_checkpoint_that_a_training_deletes_meanwhile_gives_way_to_its_newer_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)
    load = checkpoint.load

    def slowly(folder: Path) -> checkpoint.Checkpoint:
        if folder.name == "iteration_000001":
            write(tmp_path, 2, keep=1)
        return load(folder)

    monkeypatch.setattr(checkpoint, "load", slowly)
    assert checkpoint.of_run(tmp_path, None).iteration == 2
    assert not caplog.records


def test_saving_an_iteration_again_replaces_it(tmp_path: Path) -> None:
    folder = write(tmp_path, 3)
    checkpoint.save(folder, {"weight": torch.zeros(1)}, {"iteration": "again"}, keep=1)
    assert checkpoint.load(folder).state == {"iteration": "again"}
    assert os.listdir(tmp_path / "checkpoints") == ["iteration_000003"]


@pytest.mark.fault("kill -9 while a checkpoint is replaced")
def test_a_checkpoint_set_aside_by_a_killed_replacement_is_put_back(tmp_path: Path) -> None:
    folder = write(tmp_path, 3)
    folder.rename(folder.with_name(".replaced-iteration_000003"))
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None
    assert loaded.state == {"iteration": 3}


@pytest.mark.fault("a damaged checkpoint", lost="the iterations after the checkpoint before it")
@pytest.mark.parametrize("name", [*checkpoint.FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_left_for_the_one_before_it_with_a_warning(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 1)
    path = write(tmp_path, 2) / name
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None
    assert loaded.state == {"iteration": 1}
    assert "iteration_000002" in caplog.text
    assert "going back" in caplog.text


@pytest.mark.fault("a damaged checkpoint", lost="the iterations after the checkpoint before it")
@pytest.mark.parametrize("content", ["[]", "null", '{"format": "stepcredit.checkpoint/1", "files": "none"}', "\0" * 300])
def test_a_manifest_of_any_content_is_a_damaged_checkpoint(tmp_path: Path, content: str) -> None:
    (write(tmp_path, 1) / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match="iteration_000001"):
        checkpoint.load(tmp_path / "checkpoints/iteration_000001")


@pytest.mark.fault("all checkpoints are damaged", lost="the run, which says so")
def test_nothing_is_made_up_when_every_checkpoint_is_damaged(tmp_path: Path) -> None:
    (write(tmp_path, 1) / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no checkpoint .* is intact"):
        checkpoint.load_latest(tmp_path)


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert checkpoint.load_latest(tmp_path) is None
    assert checkpoint.latest(tmp_path) is None


@pytest.mark.fault("a folder that cannot be written", lost="what came after the newest checkpoint")
def test_a_place_that_cannot_be_written_is_told_with_the_way_on(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where a folder should be")
    with pytest.raises(CheckpointError, match=f"(?s)not written.*resume={tmp_path}"):
        write(tmp_path, 1)


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from agents.runs import checkpoint
checkpoints = Path(sys.argv[1]) / "checkpoints"
checkpoint.save(checkpoint.folder_of(checkpoints, 1), {"weight": torch.zeros(10)}, {}, keep=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.save(checkpoint.folder_of(checkpoints, 2), {"weight": torch.zeros(100_000)}, {}, keep=1)
except checkpoint.CheckpointError as exc:
    print(exc)
"""


@pytest.mark.fault("a full disk at a checkpoint", lost="what came after the newest checkpoint")
def test_a_write_that_breaks_off_leaves_the_checkpoint_before_it_intact(tmp_path: Path) -> None:
    out, err = python(LIMITED, tmp_path).communicate()
    for part in ("iteration_000002 was not written", "needs about 1.4 MB", "free", "iteration_000001 is intact", "resume="):
        assert part in out, err
    assert os.listdir(tmp_path / "checkpoints") == ["iteration_000001"]
    checkpoint.load(tmp_path / "checkpoints/iteration_000001")


@pytest.mark.fault("a full disk at a checkpoint", lost="what came after the newest checkpoint")
def test_a_full_disk_leaves_the_checkpoint_before_it_intact(small_disk: Path) -> None:
    write(small_disk, 1)
    with pytest.raises(CheckpointError, match=r"(?s)No space left.*needs about 9.0 MB.*free.*iteration_000001 is intact"):
        write(small_disk, 2, size=2_000_000)
    assert os.listdir(small_disk / "checkpoints") == ["iteration_000001"]
    assert checkpoint.load(small_disk / "checkpoints/iteration_000001").state == {"iteration": 1}


@pytest.mark.fault("kill -9 while a checkpoint is deleted")
def test_the_leftovers_of_a_killed_deletion_are_no_checkpoint_and_go_with_the_next(tmp_path: Path) -> None:
    write(tmp_path, 2)
    halves = [".deleting-iteration_000001", ".writing-iteration_000003", ".iteration_000003.0123456789ab.partial"]
    for half in halves:
        (tmp_path / "checkpoints" / half).mkdir()
    assert checkpoint.latest(tmp_path) == tmp_path / "checkpoints/iteration_000002"
    write(tmp_path, 3)
    assert not set(halves) & set(os.listdir(tmp_path / "checkpoints"))


ENDLESS = """
import itertools, sys
from pathlib import Path
import torch
from agents.runs import checkpoint
checkpoints = Path(sys.argv[1]) / "checkpoints"
for iteration in itertools.count(1):
    tensors = {str(i): torch.full((20_000,), float(iteration)) for i in range(5)}
    checkpoint.save(checkpoint.folder_of(checkpoints, iteration), tensors, {"iteration": iteration}, keep=2)
    print(iteration, flush=True)
"""


@pytest.mark.fault("kill -9 while a checkpoint is written", lost="what came after the newest checkpoint")
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    child = python(ENDLESS, tmp_path)
    assert child.stdout is not None
    reached = 0
    for delay in (0.0, 0.002, 0.004, 0.007):
        if reached:
            child = python(ENDLESS, tmp_path)
        assert child.stdout is not None
        child.stdout.readline()
        last = int(child.stdout.readline())
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        loaded = checkpoint.load_latest(tmp_path)
        assert loaded is not None
        reached = loaded.state["iteration"]
        assert reached >= last
        assert all(torch.equal(t, torch.full((20_000,), float(reached))) for t in loaded.tensors.values())
        for path in (tmp_path / "checkpoints").iterdir():
            if path.name.startswith("iteration_"):
                checkpoint.load(path)
