"""Trainings by several ranks (launcher=torchrun): equal to those of one process, resumed by any number, ended well."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from agents import train
from agents.runs.folder import RunFolder
from agents.runs.metrics import read_metrics
from tests import injections
from tests.injections import LONG, TINY, lives, module

ALONE = [*TINY, "algo=ppo", "shaping=calm", "checkpoint.every=1", "checkpoint.keep=9"]
RANKS = [*ALONE, "launcher=torchrun", "launcher.processes=2"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def ranks_of(process: int) -> dict[int, int]:
    """Process of each rank that a command has started."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    found = {}
    for child in map(int, children):
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found |= {int(line[5:]): child for line in variables if line.startswith(b"RANK=")}
    return found


def test_a_training_by_two_ranks_is_that_of_one_and_is_resumed_by_one_and_by_three(tmp_path: Path) -> None:
    assert train.main([*ALONE, f"out={tmp_path}", "run=alone", "iterations=3"]) == 0
    end = injections.ended(injections.start(module("agents.train", *RANKS, f"out={tmp_path}", "run=two", "iterations=2")))
    assert end.code == 0, end.err
    shutil.copytree(tmp_path / "two", tmp_path / "three")
    assert train.main([f"resume={tmp_path / 'two'}", "launcher.name=here", "launcher.processes=0", "iterations=3"]) == 0
    resume = module("agents.train", f"resume={tmp_path / 'three'}", "launcher.processes=3", "iterations=3")
    assert injections.ended(injections.start(resume)).code == 0
    alone = weights(tmp_path / "alone")
    for run in ("two", "three"):
        theirs = weights(tmp_path / run)
        assert theirs.keys() == alone.keys()
        for name, tensor in alone.items():
            torch.testing.assert_close(theirs[name], tensor, rtol=1e-5, atol=1e-5)
        for one, other in zip(
            read_metrics(tmp_path / "alone" / "metrics.jsonl"), read_metrics(tmp_path / run / "metrics.jsonl")
        ):
            for key in ("train/success", "update/loss", "update/grad_norm", "critic/loss"):
                assert key not in one or one[key] == pytest.approx(other[key], rel=1e-4, abs=1e-6)


@pytest.mark.fault("kill -9 of a rank", lost="what came after the newest checkpoint")
def test_a_rank_that_is_killed_ends_the_training_with_a_word_and_it_is_resumed(tmp_path: Path) -> None:
    run = tmp_path / "it"
    process = injections.start(module("agents.train", *RANKS, LONG, f"out={tmp_path}", "run=it"))
    injections.wait_until(injections.has_done(run, 2), process)
    found = ranks_of(process.pid)
    os.kill(found[1], signal.SIGKILL)
    end = injections.ended(process)
    assert end.code == 1
    assert "error: rank 1 was ended by SIGKILL, and the training with it" in end.err
    assert "another rank was lost during" in end.err
    assert RunFolder(run).resume_command in end.err
    assert "Traceback" not in end.err
    assert not any(map(lives, found.values()))
    done = read_metrics(run / "metrics.jsonl")[-1]["iteration"]
    assert train.main([f"resume={run}", "launcher.name=here", "launcher.processes=0", f"iterations={done + 2}"]) == 0
    assert [row["iteration"] for row in read_metrics(run / "metrics.jsonl")] == [*range(done + 3)]


@pytest.mark.fault("Ctrl-C at a training by ranks")
def test_ctrl_c_saves_a_training_by_ranks_and_ends_them_all(tmp_path: Path) -> None:
    run = tmp_path / "it"
    process = injections.start(module("agents.train", *RANKS, LONG, f"out={tmp_path}", "run=it"))
    injections.wait_until(injections.has_done(run, 2), process)
    found = ranks_of(process.pid)
    process.send_signal(signal.SIGINT)
    end = injections.ended(process)
    assert end.code == 130
    assert f"go on with: {RunFolder(run).resume_command}" in end.err
    assert RunFolder(run).get_status()["status"] == "interrupted"
    assert not any(map(lives, found.values()))


def test_what_ranks_cannot_do_is_refused_before_any_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([*TINY, "launcher=torchrun", "rollout.overlap=1"]) == 2
    assert "set rollout.overlap=0" in capsys.readouterr().err
    assert train.main([*TINY, "launcher.processes=2"]) == 2
    assert "launcher=torchrun" in capsys.readouterr().err
