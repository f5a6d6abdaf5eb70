"""Runs as a training leaves them, small and with known numbers, for the tests of the report."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from agents.config import loading
from agents.runs.folder import RunFolder
from tests.agents.replay.replayed import episode, step, write_run

SETTINGS = ["env=alfworld", "algo=gigpo", "iterations=3", "rollout.groups=2", "rollout.group_size=4", "evaluation.episodes=20"]
ROWS = [
    {"iteration": 0, "eval/success@1": 0.25, "eval/pick@1": 0.5, "eval/faults@1": 0.0, "eval/random_success": 0.05,
     "eval/cut_off/time_limit@1": 3.0, "time/evaluation": 2.0, "time/wall": 12.0, "time/cpu": 9.0, "env/steps": 0.0},
    {"iteration": 1, "train/success": 0.5, "train/reward": 5.0, "train/steps": 6.0, "tokens_per_s": 700.0, "time/rollout": 2.0,
     "time/update": 1.0, "update/grad_norm": 0.5, "time/wall": 15.0, "time/cpu": 11.0, "env/steps": 100.0},
    {"iteration": 2, "train/success": 0.75, "train/reward": 7.5, "train/steps": 5.0, "tokens_per_s": 800.0, "time/rollout": 4.0,
     "time/update": 1.0, "update/grad_norm": None, "eval/success@1": 0.75, "eval/pick@1": 0.9, "eval/faults@1": 0.0,
     "time/evaluation": 1.0, "time/wall": 22.0, "time/cpu": 15.0, "env/steps": 300.0},
]  # fmt: skip
NUMBERS = {
    "correlation_corrected": {"value": 0.4, "low": 0.3, "high": 0.5},
    "within_corrected": {"value": 0.2, "low": None, "high": None},
}


def write(folder: Path, *settings: str, word: str = "plain", rows: Sequence[dict[str, Any]] = ROWS, **status: Any) -> RunFolder:
    """The folder of a run; `word` stands wherever a model, an environment or a file of others could have put it."""
    won = episode([step(word, {"advantage": 1.0}, observation=word)], word, success=True)
    lost = [episode([step(action, {"advantage": -value})] * 2, word) for action, value in ((word, 0.5), ("wait", 0.25))]
    run = write_run(folder, [won, *lost], 2, config=_config(*settings))
    lines = [json.dumps({name.replace("pick", word): value for name, value in row.items()}) for row in rows]
    run.metrics.write_text("".join(f"{line}\n" for line in lines))
    run.status.write_text(json.dumps({"status": "finished", "host": word, "pid": os.getpid(), **status}))
    run.splits.write_text(json.dumps({"eval": {"hash": word, "ids": [word] * 120, "count": 120}}))
    run.starts.write_text(json.dumps({"time": word, "host": word, "gpus": [word], "versions": {word: word}}) + "\n")
    run.add_warning(f"the model wrote {word}")
    rate = {"episodes": 40, "success": 0.5, "interval95": [0.35, 0.65], "cut_off": {word: 2}, "faults": 1}
    evaluation = {"split": word, "checkpoint": {"iteration": 2}, "temperatures": {"1": {"types": {word: rate, "all": rate}}}}
    (run.path / "evaluation-test-0123456789ab.json").write_text(json.dumps({**evaluation, "random": rate}))
    audit = run.path / "audit-01234567"
    audit.mkdir(exist_ok=True)
    method = {"name": word, "steps": {"numbers": NUMBERS}}
    (audit / "audit.json").write_text(json.dumps({"iteration": word, "episodes": 8, "methods": [method]}))
    (audit / "audit.html").write_text("<!DOCTYPE html><title>audit</title>")
    return run


@cache
def _config(*settings: str) -> str:
    return loading.to_yaml(loading.load([*SETTINGS, *settings]))
