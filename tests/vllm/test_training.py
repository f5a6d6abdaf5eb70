"""Whole runs with engine=vllm: the same metrics as with hf, and what was sampled is what is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from agents.config.loading import load, load_evaluate
from agents.evaluate import evaluate
from agents.runs.metrics import read_metrics
from agents.train import train

SMALL = [
    *("env=alfworld", "algo=gigpo", "engine=vllm", "rollout.groups=2", "rollout.group_size=4", "env.max_steps=6"),
    *("warmstart.steps=40", "warmstart.demonstrations=60", "evaluation.episodes=8", "iterations=2", "tracker=console"),
]


@pytest.mark.parametrize("more", [[], ["engine.constrained=scored", "env.context=window"]], ids=["admissible", "scored"])
def test_a_run_with_vllm_learns_from_what_was_sampled_and_is_evaluated(tmp_path: Path, more: list[str]) -> None:
    train(load([*SMALL, *more, f"out={tmp_path}", "run=x"]))
    rows = read_metrics(tmp_path / "x" / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    for row in rows[1:]:
        assert row["update/mismatch_max"] < 1e-4
        assert row["engine/restarts"] == row["train/faults"] == 0
        assert row["tokens/reused"] > 0
    if not more:
        evaluate(load_evaluate([f"run={tmp_path / 'x'}", f"out={tmp_path / 'found.json'}"]), Console(quiet=True))
        found = json.loads((tmp_path / "found.json").read_text())
        assert found["temperatures"]["1"]["types"]["all"]["episodes"] == 24, "three of each task"
