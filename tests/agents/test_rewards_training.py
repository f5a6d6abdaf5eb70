"""Critiques, written factors and budgets in the training loop, composed with other methods, and resumed to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import agents.train
from agents.config import loading
from agents.runs.metrics import read_metrics
from tests.agents.test_methods import CONSTANT, episodes, train
from tests.agents.test_training import SMALL

QUIET = (*SMALL, *CONSTANT, "evaluation.after=false")
TURNS = ("rollout.curriculum.unit=turns", "rollout.curriculum.last=6", "rollout.curriculum.iterations=2")


@pytest.mark.parametrize(
    "composed",
    [
        ("algo=gigpo", "shaping=critique", "judge.noise=0.2", "shaping.critique.vote=majority"),
        ("algo=gigpo", "shaping=latent", "shaping.latent.sampled=4", *TURNS),
        ("algo=pure", "shaping=critique", "~shaping.implicit_prm"),
        ("algo=ppo", "shaping=length", *TURNS),
    ],
    ids=["gigpo critique", "gigpo latent turns", "pure critique", "ppo length turns"],
)
def test_they_go_with_other_methods(composed: tuple[str, ...], tmp_path: Path) -> None:
    rows = train(tmp_path, "run", *QUIET, *composed, "iterations=2")
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    played = episodes(tmp_path / "run", 2)
    name = composed[1].removeprefix("shaping=")
    paid = [step.shaped_rewards[name] for one in played for step in one.steps if name in step.shaped_rewards]
    assert any(paid)
    if name == "latent":  # the environment's own reward is kept as it is
        assert {step.reward for one in played for step in one.steps} <= {0.0, 10.0}
    if TURNS[0] in composed:
        assert [row["train/budget"] for row in rows[1:]] == [20, 6]
        assert max(len(one.steps) for one in played) <= 6 == played[0].turn_budget
    credited = [step.credit for i in (1, 2) for one in episodes(tmp_path / "run", i) for step in one.steps]
    assert any(credit and credit["advantage"] for credit in credited)


def test_what_they_hold_goes_on_to_the_bit(tmp_path: Path) -> None:
    """Decoder, factors, the noise of critiques and the curriculum."""
    small = (*QUIET, "algo=gigpo", "shaping=[critique,latent,length]", "judge.noise=0.2", "shaping.latent.sampled=3", *TURNS)
    whole = train(tmp_path, "whole", *small, "iterations=2")
    train(tmp_path, "stopped", *small, "iterations=1")
    agents.train.train(loading.load([f"resume={tmp_path / 'stopped'}", "iterations=2"]))
    resumed = read_metrics(tmp_path / "stopped" / "metrics.jsonl")
    for before, after in zip(whole, resumed, strict=True):
        same = {key for key in before if not key.startswith(("time/", "warmstart/", "tokens_per_s"))}
        assert {key: after[key] for key in same} == {key: before[key] for key in same}
    left, right = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(left[name], right[name]) for name in left)
