"""Evaluations whose answers are searched by what a run has learned of single tokens, as a command, and what is refused."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from agents import evaluate
from agents.config import loading
from agents.rollout.build import open_sampler
from agents.runs import checkpoint
from agents.training.searching import searching
from envs.common.structured import ConfigError
from envs.trajectory import Step, Trajectory
from envs.trajectory_file import read
from tests.agents.rollout.test_beam import q_of
from tests.agents.test_methods import episodes, settings, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose reward model has learned from pairs."""
    out = tmp_path_factory.mktemp("runs")
    rows = train(out, "r_to_q", *settings("r_to_q"), "evaluation.after=false", "iterations=2")
    assert sum(row["token_reward/pairs"] for row in rows[1:]) > 0
    return out / "r_to_q"


def said(trajectory: Trajectory, step: int) -> tuple[list[int], list[int]]:
    """What stands before the answer of a step, and the answer."""
    before = [token for one in trajectory.steps[:step] for token in (*one.prompt_ids, *one.response_ids)]
    return [*before, *trajectory.steps[step].prompt_ids], list(trajectory.steps[step].response_ids)


def test_the_search_goes_by_the_model_that_paid_the_tokens(trained: Path) -> None:
    config = loading.load_evaluate([f"run={trained}", "evaluation.beams=4"])
    policy, saved = evaluate.restore(config)
    engine, name = searching(config, policy, saved)
    assert name == "token_reward"
    played = episodes(trained, 2)[:3]
    with closing(open_sampler(config, policy, engine)) as sampler:
        tries = sampler.player.dialogue.tries
        sums = [
            sum(q_of(engine.ratio, *said(t, i), tries.trie(step.admissible_actions or [])))
            for t in played
            for i, step in enumerate(t.steps)
        ]
    rewards = [step.shaped_rewards[name] for t in played for step in t.steps]
    assert [0.1 * q for q in sums] == pytest.approx(rewards, abs=1e-4)
    assert max(map(abs, rewards)) > 1e-3


def test_an_evaluation_searches_and_says_so(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [f"run={trained}", "engine.constrained=admissible", "evaluation.episodes=3"]
    assert evaluate.main([*asked, "evaluation.repeats=1", f"out={tmp_path}/sampled.json"]) == 0
    searched = [*asked, "evaluation.beams=3"]
    capsys.readouterr()
    assert evaluate.main([*searched, f"out={tmp_path}/searched.json", f"against={tmp_path}/sampled.json"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "answers: searched with 3 beams by the likelihood of shaping token_reward" in told
    assert "split eval, answers searched with 3 beams by the likelihood of shaping token_reward" in told
    assert f"against {tmp_path}/sampled.json" in told
    results = json.loads((tmp_path / "searched.json").read_text())
    assert results["searched"] == "searched with 3 beams by the likelihood of shaping token_reward"
    assert results["repeats"] == 1
    (found,) = results["temperatures"].values()
    assert found["types"]["all"]["episodes"] == 3
    steps = played(tmp_path, "searched")
    assert all(len(step.rollout_logprobs) == len(step.response_ids) > 0 for step in steps)
    assert all(step.action in (step.admissible_actions or ()) for step in steps)
    # The same again, for nothing is drawn.
    assert evaluate.main([*searched, f"out={tmp_path}/again.json"]) == 0
    assert [step.response_ids for step in played(tmp_path, "again")] == [step.response_ids for step in steps]


def test_free_answers_are_searched_too(trained: Path, tmp_path: Path) -> None:
    asked = [
        f"run={trained}",
        "engine.constrained=none",
        "evaluation.beams=2",
        "evaluation.beam_score=q",
        "evaluation.episodes=2",
        "env.max_steps=6",
    ]
    assert evaluate.main([*asked, f"out={tmp_path}/free.json"]) == 0
    assert {step.stop for step in played(tmp_path, "free")} <= {"stop", "length"}


def played(folder: Path, name: str) -> list[Step]:
    (file,) = folder.glob(f"{name}-*.episodes.jsonl")
    return [step for one in read(file) for step in one.steps]


def written(folder: Path, *arguments: str) -> Path:
    """The folder of a run of which nothing is there but what it was to do."""
    config = loading.load(["env=alfworld", *arguments])
    folder.mkdir()
    (folder / "config.yaml").write_text(loading.to_yaml(config))
    return folder


@pytest.mark.parametrize(
    ("of_run", "given", "words"),
    [
        (["algo=gigpo"], [], ["shaping=implicit_prm or token_reward", "has neither", "Name another run"]),
        (["algo=tgdpo"], [], ["has neither"]),
        (["algo=r_to_q"], ["engine.name=vllm"], ["engine.name is 'vllm'", "allowed with evaluation.beams: hf"]),
        (["algo=r_to_q"], ["engine.name=scripted"], ["engine.name is 'scripted'"]),
        (["algo=oprl"], ["engine.constrained=scored"], ["engine.constrained is 'scored'", "allowed"]),
        (["algo=oprl"], ["evaluation.repeats=2"], ["evaluation.repeats is 2", "the same answers each time"]),
        (["algo=oprl"], ["evaluation.beams=0"], ["evaluation.beams"]),
    ],
)
def test_what_cannot_be_searched_is_refused(of_run: list[str], given: list[str], words: list[str], tmp_path: Path) -> None:
    run = written(tmp_path / "run", *of_run)
    with pytest.raises(ConfigError) as refused:
        loading.load_evaluate([f"run={run}", "evaluation.beams=5", *given])
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_a_model_without_a_run_and_a_training_are_refused() -> None:
    with pytest.raises(ConfigError, match="name that run by run="):
        loading.load_evaluate(["env=alfworld", "evaluation.beams=5"])
    with pytest.raises(ConfigError, match=r"only agents\.evaluate does; allowed here: null"):
        loading.load(["env=alfworld", "algo=r_to_q", "evaluation.beams=5"])


def test_a_checkpoint_without_the_model_is_named(trained: Path) -> None:
    config = loading.load_evaluate([f"run={trained}", "evaluation.beams=4"])
    policy, saved = evaluate.restore(config)
    del saved.state["update"]["reward_models"]["token_reward"]
    with pytest.raises(checkpoint.CheckpointError, match="holds no model of shaping token_reward"):
        searching(config, policy, saved)
