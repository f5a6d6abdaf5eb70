"""CALM in the training loop: it pays, goes on after a stop as if there was none, and no judge's outage ends a run."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import agents.train
from agents.config import loading
from envs.common.structured import ConfigError
from tests.agents.test_methods import CONSTANT, episodes, train
from tests.agents.test_training import SMALL

QUIET = (*SMALL, *CONSTANT, "shaping=calm", "evaluation.after=false")


@pytest.fixture
def closed_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_rules_verdicts_pay_beside_the_environments_reward(tmp_path: Path) -> None:
    rows = train(tmp_path, "run", *QUIET, "algo=gigpo", "shaping.calm.coefficient=2", "iterations=1")
    played = episodes(tmp_path / "run", 1)
    known = sum(len(t.steps[-1].subgoals) for t in played)
    assert known > 0
    assert sum(step.shaped_rewards["calm"] for t in played for step in t.steps) == 2 * known
    assert rows[-1]["calm/subgoals"] == known / len(played)
    assert {step.reward for t in played for step in t.steps} <= {0.0, 10.0}


def test_a_noisy_judge_goes_on_after_a_stop_as_if_there_was_none(tmp_path: Path) -> None:
    settings = (*QUIET, "algo=ppo", "shaping.calm.form=potential", "judge.noise=0.3")
    train(tmp_path, "whole", *settings, "iterations=2")
    train(tmp_path, "stopped", *settings, "iterations=1")
    agents.train.train(loading.load([f"resume={tmp_path / 'stopped'}", "iterations=2"]))
    whole, stopped = (episodes(tmp_path / name, 2) for name in ("whole", "stopped"))
    assert [step.judged for t in whole for step in t.steps] == [step.judged for t in stopped for step in t.steps]
    assert [step.credit for t in whole for step in t.steps] == [step.credit for t in stopped for step in t.steps]


def test_training_goes_on_without_its_judge_and_counts(
    tmp_path: Path, closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"judge.base_url=http://127.0.0.1:{closed_port}/v1"
    rows = train(tmp_path, "run", *QUIET, "judge=endpoint", "judge.model=any", address, "judge.retries=0", "iterations=2")
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    assert rows[-1]["calm/judged"] == rows[-1]["calm/subgoals"] == 0
    assert rows[-1]["calm/failed"] + rows[-1]["calm/open"] > 0
    assert len([record for record in caplog.records if "judge" in record.getMessage()]) == 1


def test_a_model_without_language_is_not_asked_to_judge(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"judge\.kind is 'policy'.*no chat template"):
        train(tmp_path, "run", *QUIET, "judge=policy")
