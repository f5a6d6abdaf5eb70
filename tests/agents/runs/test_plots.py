"""Plots: drawn from metrics.jsonl alone, with or without evaluations, one run or several."""

import json
from pathlib import Path

import numpy as np
from matplotlib.image import imread

from agents.runs import plots


def rows(gain: float) -> list[dict[str, float]]:
    table: list[dict[str, float]] = [{"iteration": 0, "eval/success@1": 0.1, "time/cpu": 0.0, "time/evaluation": 2.0}]
    for i in range(1, 21):
        row = {
            "iteration": i,
            "train/success": gain * i,
            "train/reward": 10 * gain * i,
            "time/rollout": 1.0,
            "time/update": 0.5,
        }
        if i % 5 == 0:
            row |= {"eval/success@1": 0.1 + gain * i, "eval/success@0.4": gain * i, "time/cpu": 1.5 * i, "time/evaluation": 2.0}
        table.append(row)
    return table


def write(path: Path, table: list[dict[str, float]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    return path


def ink(path: Path) -> float:
    """Share of pixels that are not white."""
    return float(np.mean(np.any(imread(path)[..., :3] < 0.95, axis=-1)))


def test_a_run_is_drawn_as_success_reward_and_time(tmp_path: Path) -> None:
    files = plots.plot_run(write(tmp_path / "metrics.jsonl", rows(0.03)), tmp_path / "plots")
    names = {path.name for path in files}
    expected = {"eval_success_by_iteration.png", "eval_success_by_cpu.png", "train_success.png", "train_reward.png", "time.png"}
    assert names == expected
    assert all(ink(path) > 0.01 for path in files)


def test_several_runs_share_their_axes(tmp_path: Path) -> None:
    both = plots.compare({"gigpo": rows(0.03), "grpo": rows(0.02)}, tmp_path / "both")
    one = plots.compare({"gigpo": rows(0.03)}, tmp_path / "one")
    assert [path.name for path in both] == [path.name for path in one]
    success = "train_success.png"
    assert ink(tmp_path / "both" / success) > ink(tmp_path / "one" / success)


def test_a_run_without_evaluations_or_without_lines_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    plain = [{"iteration": i, "train/success": 0.5} for i in range(3)]
    assert [p.name for p in plots.plot_run(write(tmp_path / "a.jsonl", plain), tmp_path / "a")] == ["train_success.png"]
    assert plots.plot_run(write(tmp_path / "b.jsonl", []), tmp_path / "b") == []


def test_a_number_that_is_null_is_left_out(tmp_path: Path) -> None:
    holes = [{"iteration": 1, "train/success": None}, {"iteration": 2, "train/success": 0.5}]
    assert plots.plot_run(write(tmp_path / "m.jsonl", holes), tmp_path / "plots") == [tmp_path / "plots/train_success.png"]
