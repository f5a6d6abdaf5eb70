"""Every method of conf/algo, for real: it plays, credits, updates, is saved, and goes on after a stop as if there was none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import agents.train
from agents.config import loading
from agents.config.compose import groups
from agents.runs.metrics import read_metrics
from algorithms import base
from envs.trajectory import Trajectory
from envs.trajectory_file import read
from tests.agents.test_training import SMALL

METHODS = groups()["algo"]
CONSTANT = ["optim.warmup=0", "optim.schedule=constant", "critic.lr=1e-3", "evaluation.every=0", "evaluation.before=false"]


def train(out: Path, name: str, *arguments: str) -> list[dict[str, float]]:
    agents.train.train(loading.load([*SMALL, *CONSTANT, f"out={out}", f"run={name}", *arguments]))
    return read_metrics(out / name / "metrics.jsonl")


def episodes(run: Path, iteration: int) -> list[Trajectory]:
    return list(read(run / "trajectories" / f"iteration_{iteration:06d}.jsonl.gz"))


@pytest.mark.parametrize("method", METHODS)
def test_it_trains(method: str, tmp_path: Path) -> None:
    rows = train(tmp_path, "run", f"algo={method}", "iterations=2", "evaluation.after=false")
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    assert all(torch.isfinite(torch.tensor(row["update/loss"])) for row in rows[1:])
    played = episodes(tmp_path / "run", 2)
    assert rows[-1]["env/steps"] == sum(len(t.steps) for i in (1, 2) for t in episodes(tmp_path / "run", i))
    credits = [step.credit["advantage"] for t in played for step in t.steps if step.credit is not None]
    flat = [value for one in credits for value in (one if isinstance(one, list) else [one])]
    assert credits
    # Pass@k credits only a group's one best episode, and in these few groups there may be none.
    assert any(value not in (None, 0.0) for value in flat) or method == "passk_grpo" or rows[-1]["train/reward"] in (0.0, 10.0)


@pytest.mark.parametrize("method", ["poad", "oprl"])
def test_what_learns_beside_the_policy_goes_on_too(method: str, tmp_path: Path) -> None:
    settings = (f"algo={method}", "evaluation.after=false")
    whole = train(tmp_path, "whole", *settings, "iterations=3")
    train(tmp_path, "stopped", *settings, "iterations=1")
    agents.train.train(loading.load([f"resume={tmp_path / 'stopped'}", "iterations=3"]))
    resumed = read_metrics(tmp_path / "stopped" / "metrics.jsonl")
    for before, after in zip(whole, resumed, strict=True):
        same = {key for key in before if not key.startswith(("time/", "warmstart/", "tokens_per_s"))}
        assert {key: after[key] for key in same} == {key: before[key] for key in same}
    left, right = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_every_registered_method_has_settings_to_choose() -> None:
    used = {loading.load([f"algo={option}"]).algo["name"] for option in METHODS}
    assert used == set(base.names())
