"""A run that cannot learn says so once, with an example and the settings to change; one that can says nothing."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

from agents import evaluate
from agents.config.commands import EvaluateConfig
from agents.config.loading import load, load_evaluate
from agents.rollout.engines.hf import HFEngine
from agents.rollout.engines.scripted import ScriptedEngine
from agents.rollout.planner import evaluation_episodes
from agents.runs import signals
from agents.runs.metrics import read_metrics
from agents.runs.random_policy import random_policy
from agents.runs.signals import Signals
from agents.train import main as train
from envs import registry
from envs.base import StepResult
from envs.pool import Pool
from envs.trajectory import Trajectory
from envs.trajectory_file import read
from tests.agents.parts import opened
from tests.agents.rollout.test_out_of_context import SMALL
from tests.agents.rollout.test_sampler import CORRIDOR, TOKENIZER, corridor_policy, episodes, sampler, writes
from tests.envs import toys
from tests.envs.toys import Corridor

ROOT = Path(__file__).resolve().parents[3]


class Silent(Corridor):
    """Does not list its actions."""

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.admissible_actions = None
        return turn


class Crumbling(Corridor):
    """Breaks down in every task but the first of its split."""

    def act(self, action: str) -> StepResult:
        if self.length in (9, 10):
            raise ZeroDivisionError("the corridor has no end")
        return super().act(action)


class Hopeless(Corridor):
    """Nobody ever gets out."""

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.reward, turn.success, turn.score = 0.0, False, 0.0
        return turn


class Global(Corridor):
    """Draws from numpy's own generator."""

    def act(self, action: str) -> StepResult:
        np.random.random()
        return super().act(action)


for kind in (Silent, Crumbling, Hopeless, Global):
    registry.register(
        kind.__name__.lower(),
        f"tests/{kind.__name__}-v0",
        f"{__name__}:{kind.__name__}",
        toys.CorridorConfig,
        toys.CorridorPrompt,
    )


def config(*more: str) -> EvaluateConfig:
    return load_evaluate(["env=passage", *more])


def said_of(played: list[Trajectory], *more: str) -> list[str]:
    found: list[str] = []
    watch = Signals(config(*more), TOKENIZER, found.append)
    watch.look(played, "iteration 1")
    watch.look(played, "iteration 2")
    return [message for message in found if "unknown to the tokenizer" not in message]


def play(engine, **settings) -> list[Trajectory]:
    with Pool(CORRIDOR, mode="inline") as pool:
        return asyncio.run(sampler(engine, pool, **settings).play(episodes(8), 1.0))


# -- what is said of episodes -----------------------------------------------------------------------------------------------


def test_an_invalid_answer_is_shown_once_with_why_it_was_refused() -> None:
    (said,) = said_of(play(ScriptedEngine(lambda request: writes("nonsense"))))
    assert "none of the actions of iteration 1 were valid" in said
    assert "wrote 'nonsense <end>'" in said
    assert "the environment does not take 'nonsense' for a possible action" in said
    assert said.endswith("More in docs/it-does-not-learn.md")


def test_an_answer_in_the_wrong_form_is_told_from_one_that_the_environment_refuses() -> None:
    (said,) = said_of(play(ScriptedEngine(lambda request: writes("nonsense")[:-1])), "engine.constrained=none")
    assert "it has not the form that the prompt asks for" in said
    assert "engine.constrained=admissible" in said


def test_answers_cut_off_at_max_tokens_are_measured_and_said() -> None:
    played = play(HFEngine(corridor_policy()))  # at random it rarely ends an answer within 6 tokens
    found = Signals(config(), TOKENIZER, lambda message: None).measure(played)
    steps = [step for one in played for step in one.steps]
    assert found["cut_answers"] == np.mean([step.stop == "length" for step in steps]) > signals.CUT
    assert found["response_tokens"] == np.mean([len(step.response_ids) for step in steps])
    cut, invalid = said_of(played, "engine.max_tokens=6")
    assert f"{found['cut_answers']:.0%} of the answers of iteration 1 were cut off at engine.max_tokens=6" in cut
    assert "cut off at engine.max_tokens=6" in invalid


def test_words_that_the_tokenizer_does_not_know_are_counted_and_named() -> None:
    played = play(ScriptedEngine(lambda request: writes("look")))
    found = Signals(config(), TOKENIZER, lambda message: None).measure(played)
    ids = [token for one in played for step in one.steps for token in step.prompt_ids]
    assert found["unknown_tokens"] == ids.count(TOKENIZER.unk_token_id) / len(ids) > signals.UNKNOWN
    said: list[str] = []
    Signals(config(), TOKENIZER, said.append).look(played, "iteration 1")
    assert any("unknown to the tokenizer" in one and "'You'" in one for one in said)


def test_a_token_that_means_something_else_too_is_not_taken_for_unknown_words() -> None:
    tokenizer = corridor_policy().tokenizer
    tokenizer.unk_token = tokenizer.eos_token
    played = play(ScriptedEngine(lambda request: [*request.ids[:1], tokenizer.eos_token_id]))
    assert Signals(config(), tokenizer, lambda message: None).measure(played)["unknown_tokens"] == 0


def test_a_healthy_run_is_told_nothing() -> None:
    policy = corridor_policy()
    policy.tokenizer = toys_tokenizer()
    played = play(HFEngine(policy), constrained=True)
    found: list[str] = []
    Signals(config(), policy.tokenizer, found.append).look(played, "iteration 1")
    assert found == []


def toys_tokenizer():
    from agents.models.tokenizer import build

    texts = ["you are in go left right wait nothing happens your task is to leave corridor of cells look"]
    return build(texts, words=[*(f"cell {i}" for i in range(12)), *(f"of {i}" for i in range(12))])


# -- what is said of updates ------------------------------------------------------------------------------------------------

MOVED = {"update/steps": 2.0, "update/grad_norm": 0.5, "update/skipped_steps": 0.0}
STILL = {"update/steps": 0.0, "update/grad_norm": 0.0, "update/skipped_rows": 7.0}


def group(*returns: float) -> list[Trajectory]:
    made = play(ScriptedEngine(lambda request: writes("look")))[: len(returns)]
    for one, value in zip(made, returns, strict=True):
        one.steps[-1].reward, one.success = value, value > 0
    return made


def learning(iterations, compares: bool = True) -> list[str]:
    found: list[str] = []
    watch = Signals(config(), TOKENIZER, found.append)
    for groups, metrics in iterations:
        watch.learned(groups, metrics, compares)
    return found


def test_equal_returns_in_every_group_are_said_after_three_iterations_in_a_row() -> None:
    lost, mixed = [group(0, 0), group(0, 0)], [group(0, 0), group(0, 1)]
    assert learning([(lost, MOVED)] * 2 + [(mixed, MOVED)] + [(lost, MOVED)] * 2) == []
    (said,) = learning([(lost, MOVED)] * 7)
    assert "the episodes of each task returned the same" in said
    assert "0 of 4 were won" in said
    assert "rollout.group_size" in said


def test_all_won_is_no_failure() -> None:
    (said,) = learning([([group(1, 1)], MOVED)] * 3)
    assert "all were won" in said


def test_a_method_that_compares_no_episodes_needs_different_returns_anywhere() -> None:
    different = [group(0, 0), group(1, 1)]
    assert learning([(different, MOVED)] * 3, compares=False) == []
    assert len(learning([(different, MOVED)] * 3, compares=True)) == 1


def test_a_gradient_of_zero_is_said_after_three_iterations_and_an_infinite_one_at_once() -> None:
    mixed = [group(0, 1)]
    assert learning([(mixed, STILL)] * 2 + [(mixed, MOVED)] + [(mixed, STILL)] * 2) == []
    (said,) = learning([(mixed, STILL)] * 3)
    assert "7 rows were left out" in said
    (said,) = learning([(mixed, MOVED | {"update/skipped_steps": 2.0})])
    assert "infinite" in said
    assert learning([(mixed, {})] * 5) == []  # the critic learns alone


def test_a_real_run_that_nobody_can_win_says_why_it_stands_still(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [*SMALL, "env=hopeless", "env.max_steps=3", "iterations=4", "loss.entropy=0", "evaluation.every=0"]
    assert train([*asked, f"out={tmp_path}", "run=it"]) == 0
    rows = read_metrics(tmp_path / "it" / "metrics.jsonl")
    assert all(row["train/alike"] == 1.0 and row["update/rows"] == 0 for row in rows[1:])
    assert (tmp_path / "it" / "warnings.txt").read_text().count("there is nothing to learn from") == 1
    assert capsys.readouterr().out.count("there is nothing to learn from") == 1


def test_every_warning_has_its_section_in_the_documentation() -> None:
    page = (ROOT / signals.PAGE).read_text(encoding="utf-8")
    for name in ("train/cut_off/context", "train/cut_answers", "train/valid", "train/unknown_tokens", "train/alike"):
        assert f"`{name}`" in page
    for name in ("update/grad_norm", "update/skipped_rows", "update/skipped_steps", "eval/random_success", "warnings.txt"):
        assert name in page


# -- random actions ---------------------------------------------------------------------------------------------------------


def floor(*settings: str, seconds: float = 20.0):
    with opened(load_evaluate(list(settings))) as parts:
        episodes = evaluation_episodes(parts.config.evaluation, parts.env, parts.config.seed)
        return parts.runner.run(random_policy(parts.sampler, episodes, seconds))


def test_random_actions_are_the_same_in_every_process_and_of_every_model() -> None:
    asked = ["env=passage", "evaluation.repeats=8"]
    one, other = floor(*asked), floor(*asked, "env.pool.mode=threads", "model.max_length=16", "env.pool.workers=3")
    assert one.rate == other.rate
    assert one.rate is not None
    assert one.rate.episodes == 24
    assert 0 < one.rate.successes < 24
    assert floor(*asked, "seed=1").rate != one.rate


def test_a_baseline_that_cannot_be_measured_says_why() -> None:
    assert "does not list its actions" in floor("env=silent", "engine.constrained=none").skipped
    assert "slow" in floor("env=passage", seconds=0.0).skipped


@pytest.mark.fault("environments fail while random actions are measured", lost="those episodes")
def test_a_fault_stays_out_of_the_baseline_and_is_counted() -> None:
    found = floor("env=crumbling").rate
    assert found is not None
    assert (found.episodes, found.faults) == (1, 2)


def test_the_baseline_stands_beside_the_evaluation_and_changes_no_other_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clocks = ("time/", "tokens_per_s")
    asked = [*SMALL, "env=global", "engine.constrained=admissible", f"out={tmp_path}"]
    assert train([*asked, "run=with"]) == 0
    assert "random actions" in capsys.readouterr().out
    monkeypatch.setattr("agents.training.measures.random_policy", partial(random_policy, seconds=0.0))
    assert train([*asked, "run=without"]) == 0
    assert "success of random actions is not measured: the environment is slow" in capsys.readouterr().out
    mine, others = (
        [{k: v for k, v in row.items() if not k.startswith(clocks)} for row in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("with", "without")
    )
    random = {key: mine[0].pop(key) for key in [*mine[0]] if key.startswith("eval/random")}
    assert set(random) == {"eval/random_success", "eval/random_score", "eval/random_faults"}
    assert mine == others


# -- faults beside rates ----------------------------------------------------------------------------------------------------


@pytest.mark.fault("environments fail in an evaluation", lost="those episodes, which the same command plays again")
def test_an_evaluation_says_of_how_many_episodes_its_rates_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "it.json"
    asked = ["env=crumbling", "engine.constrained=admissible", "evaluation.repeats=2", f"out={out}", "threads=1"]
    assert evaluate.main(asked) == 0
    shown = capsys.readouterr().out
    found = json.loads(out.read_text(), parse_constant=pytest.fail)["temperatures"]["1"]
    assert (found["types"]["all"]["episodes"], found["types"]["all"]["faults"]) == (2, 4)
    assert found["pass@k"] == {"1": None, "2": None}
    assert "faults: 4 episodes were cut off by a crash or a hang and are in no rate" in shown
    assert "pass@1, pass@2 not known: a task has only 0 episodes without a fault" in shown


def test_a_rate_of_no_episodes_is_null_in_the_file_and_a_dash_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "it.json"
    asked = ["engine.constrained=admissible", f"out={out}", "threads=1"]
    registry.register("rubble", "tests/Rubble-v0", f"{__name__}:Rubble", toys.CorridorConfig, toys.CorridorPrompt)
    assert evaluate.main([*asked, "env=rubble"]) == 0
    found = json.loads(out.read_text(), parse_constant=pytest.fail)["temperatures"]["1"]["types"]["all"]
    assert (found["success"], found["score"], found["episodes"], found["faults"]) == (None, None, 0, 9)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("all ")][-1:]
    assert line.split()[1] == "-"


class Rubble(Corridor):
    """Breaks down at the first step."""

    def act(self, action: str) -> StepResult:
        if self.length >= 8:  # those of the evaluation
            raise ZeroDivisionError("the corridor has fallen in")
        return super().act(action)


@pytest.mark.fault("an environment fails in a greedy episode", lost="the episode")
def test_a_greedy_episode_that_a_fault_cut_off_is_counted(tmp_path: Path) -> None:
    asked = [*SMALL, "env=shaky", "algo=remax", "iterations=1", "evaluation.every=0", "evaluation.before=false"]
    registry.register("shaky", "tests/Shaky-v0", f"{__name__}:Shaky", toys.CorridorConfig, toys.CorridorPrompt)
    assert train([*asked, f"out={tmp_path}", "run=it"]) == 0
    (row,) = [row for row in read_metrics(tmp_path / "it" / "metrics.jsonl") if row["iteration"] == 1]
    played = [*read(tmp_path / "it" / "trajectories" / "iteration_000001.jsonl.gz")]
    greedy = [one for one in played if one.group_id.endswith("+greedy")]
    assert row["train/greedy_faults"] == sum(one.error is not None for one in greedy) > 0
    assert row["train/faults"] == sum(one.error is not None for one in played) - row["train/greedy_faults"]


class Shaky(Corridor):
    """Breaks down under who stays long, as a greedy policy does that knows one action only."""

    def act(self, action: str) -> StepResult:
        if self._steps == 12:
            raise ZeroDivisionError("the corridor has fallen in")
        return super().act(action)


def test_the_settings_named_are_settings() -> None:
    known = load(["env=alfworld"])
    for setting in (
        "model.max_length",
        "engine.max_tokens",
        "env.history",
        "rollout.group_size",
        "rollout.dynamic_sampling.rounds",
    ):
        assert attrgetter(setting)(known) is not None
