"""`stepcredit.train` and `evaluate`: from a script, inside an event loop as in a notebook, and what an interruption leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepcredit
from agents.config.compose import compose
from agents.runs.folder import RunFolderError
from envs import registry
from stepcredit.running import lines, outside_event_loops
from tests.envs import toys

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {
    "env": "footway",
    "warmstart": {"enabled": False},
    "rollout": {"groups": 2, "group_size": 4},
    "evaluation": {"episodes": 4, "every": 2},
    "checkpoint": {"every": 2},
    "threads": 1,
}
registry.register("footway", "tests/Footway-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> stepcredit.Run:
    """A run that is over, of three iterations."""
    return stepcredit.train("run=it", **SMALL, out=tmp_path_factory.mktemp("runs"), iterations=3)


def test_a_run_says_where_it_is_and_what_came_of_it(finished: stepcredit.Run) -> None:
    assert finished.folder.name == "it"
    assert finished.status == "finished"
    assert [line["iteration"] for line in finished.metrics] == [0, 1, 2, 3]
    assert 0 <= (finished.evaluation["success@1"] or 0) <= 1
    assert stepcredit.Run(str(finished.folder)) == finished
    assert len(list(finished.trajectories(2))) == 8
    assert len(list(finished.trajectories())) == 24


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stepcredit.train("run=it", **SMALL, out=tmp_path, iterations=1)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_run_is_resumed_and_evaluated_by_what_train_returned(finished: stepcredit.Run) -> None:
    again = stepcredit.train(resume=finished, iterations=4)
    assert again == finished
    assert len(again.metrics) == 5
    results = stepcredit.evaluate(run=again, evaluation={"episodes": 3, "temperature": [1.0]})
    assert results["temperatures"]["1"]["types"]["all"]["episodes"] == 9
    assert results == stepcredit.evaluate("evaluation.episodes=3", f"run={again.folder}", "evaluation.temperature=[1.0]")
    played = list(stepcredit.read_trajectories(again, split="eval"))
    assert {one.split for one in played} == {"eval"}
    assert len(played) == 9


def test_inside_an_event_loop_training_and_evaluation_give_the_same(finished: stepcredit.Run, tmp_path: Path) -> None:
    async def cell() -> tuple[stepcredit.Run, dict[str, Any]]:
        run = stepcredit.train("run=it", **SMALL, out=tmp_path, iterations=3)
        return run, stepcredit.evaluate(run=run, evaluation={"episodes": 2})

    run, results = asyncio.run(cell())
    assert results["tasks"] == 2
    for here, there in zip(run.metrics, finished.metrics):
        assert here["train/success"] == there["train/success"] if "train/success" in there else True
        assert here.get("update/loss") == there.get("update/loss")


def test_what_cannot_be_run_raises_and_leaves_no_folder(tmp_path: Path, finished: stepcredit.Run) -> None:
    with pytest.raises(stepcredit.ConfigError, match=r"Did you mean 'optim\.lr'"):
        stepcredit.train(**SMALL, out=tmp_path / "runs", optim={"lrr": 1.0})
    with pytest.raises(stepcredit.ConfigError, match="max_steps is 0"):
        stepcredit.train("env.max_steps=0", **SMALL, out=tmp_path / "runs")
    with pytest.raises(RunFolderError, match="already holds a run"):
        stepcredit.train("run=it", **SMALL, out=finished.folder.parent)
    with pytest.raises(stepcredit.ConfigError, match="nothing is left to do"):
        stepcredit.train(resume=finished, iterations=1)
    assert not (tmp_path / "runs").exists()


def test_an_error_during_training_reaches_the_caller_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agents.training.trainer import Trainer

    def broken(self: Trainer, iteration: int) -> None:
        raise ZeroDivisionError("of a plug-in")

    monkeypatch.setattr(Trainer, "_iterate", broken)
    with pytest.raises(ZeroDivisionError) as raised:
        stepcredit.train("run=it", **SMALL, out=tmp_path, iterations=3)
    notes = "\n".join(raised.value.__notes__)
    assert f"the traceback is in {tmp_path / 'it' / 'traceback.txt'}" in notes
    assert f"resume={tmp_path / 'it'}" in notes
    assert stepcredit.Run(tmp_path / "it").status == "failed"


SCRIPT = """
import asyncio, stepcredit
from tests.stepcredit.test_running import SMALL

def train():
    stepcredit.train("run=it", **SMALL, out={out!r}, iterations=100000)

async def cell():
    train()

{call}
"""


@pytest.mark.parametrize("call", ["train()", "asyncio.run(cell())"], ids=["script", "notebook"])
def test_ctrl_c_saves_and_ends_the_script(tmp_path: Path, call: str) -> None:
    program = SCRIPT.format(out=str(tmp_path), call=call)
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    while not child.stdout.readline().startswith("[3/"):
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate()
    assert "stopped and saved after iteration" in errors
    run = stepcredit.Run(tmp_path / "it")
    assert run.status == "interrupted"
    (newest,) = sorted(os.listdir(run.folder / "checkpoints"))[-1:]
    assert newest == f"iteration_{int(run.metrics[-1]['iteration'] or 0):06d}"


@pytest.mark.fault("Ctrl-C in a notebook")
def test_in_a_loop_the_first_interrupt_asks_and_the_second_stops_at_once() -> None:
    stop, ended = threading.Event(), []

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(20)
        os.kill(os.getpid(), signal.SIGINT)
        try:
            for _ in range(2000):
                time.sleep(0.01)
        except KeyboardInterrupt:
            ended.append("at once")
            raise

    async def cell() -> None:
        with pytest.raises(KeyboardInterrupt):
            outside_event_loops(work, stop)

    asyncio.run(cell())
    assert ended == ["at once"]


@pytest.mark.parametrize(
    ("settings", "overrides"),
    [
        ({"iterations": 20, "seed": np.int64(3)}, ["iterations=20", "seed=3"]),
        ({"optim": {"lr": 1e-4}, "time_budget_s": None}, ["optim.lr=0.0001", "time_budget_s=null"]),
        ({"env": {"name": "alfworld", "max_steps": 9}}, ["env=alfworld", "env.max_steps=9"]),
        ({"shaping": ["calm", "invalid_action"]}, ["shaping=[calm,invalid_action]"]),
        ({"warmstart": {"enabled": False}, "run": "a b"}, ["warmstart.enabled=false", "run='a b'"]),
        ({"out": Path("x/y"), "critic": {"hidden": (4, 2)}}, ["out=x/y", "critic.hidden=[4,2]"]),
    ],
)
def test_settings_are_written_as_on_the_command_line(settings: dict[str, Any], overrides: list[str]) -> None:
    assert lines(settings) == overrides
    compose("train", overrides)


def test_values_of_any_text_reach_the_configuration_unchanged() -> None:
    for text in ("null", "true", "1e3", "it's", "a,b", "x=y", "[", "é ü", ""):
        values = compose("train", lines({"model": {"system": text}, "engine": {"stop": [text, "b"]}}))
        assert values["model"]["system"] == text
        assert values["engine"]["stop"] == [text, "b"]


def test_a_setting_that_has_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="a setting is <object"):
        lines({"seed": object()})
