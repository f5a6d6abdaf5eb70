"""An episode that outgrows what the model can read is lost, counted, shown and learned from like one that ran out of time."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from agents import evaluate
from agents.config.loading import load
from agents.judges.measuring.playing import told_by
from agents.replay.__main__ import main as replay
from agents.replay.build import view
from agents.rollout.choice import Scoring
from agents.rollout.constraint import ActionTries
from agents.rollout.engines.hf import HFEngine
from agents.rollout.engines.scripted import ScriptedEngine
from agents.runs.evaluation import rate
from agents.runs.metrics import read_metrics
from agents.train import main as train
from agents.training.gathering import RolloutError, to_learn_from
from algorithms import base
from envs import registry
from envs.base import StepResult
from envs.pool import Pool
from envs.trajectory import CONTEXT, NO_ACTIONS, Trajectory
from envs.trajectory_file import read, write
from tests.agents.parts import opened
from tests.agents.rollout.test_sampler import CORRIDOR, corridor_policy, episodes, sampler, writes
from tests.algorithms.batches import as_batch
from tests.envs import toys
from tests.envs.toys import Corridor, CorridorConfig

registry.register("passage", "tests/Passage-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)
N = 24


def play(max_length: int, env=CORRIDOR, n: int = N, engine=None, **settings) -> list[Trajectory]:
    """Episodes of one and the same policy, whatever it can read."""
    if engine is None:
        policy = corridor_policy()
        policy.max_length = max_length
        engine = HFEngine(policy)
    with Pool(env, mode="inline") as pool:
        return asyncio.run(sampler(engine, pool, **settings).play(episodes(n), 1.0))


def scoring(policy) -> Scoring:
    encode = lambda text: policy.tokenizer(text, add_special_tokens=False).input_ids  # noqa: E731
    return Scoring(ActionTries(encode, policy.tokenizer.eos_token_id), "none")


@pytest.mark.parametrize("how", ["free", "admissible", "scored"])
@pytest.mark.parametrize("context", ["full", "window"])
def test_with_less_context_a_fixed_policy_wins_no_more_and_every_episode_counts(how: str, context: str) -> None:
    won: dict[int, set[str]] = {}
    outgrown: dict[int, int] = {}
    for max_length in (512, 60, 24):
        policy = corridor_policy()
        policy.max_length = max_length
        settings = {"constrained": how == "admissible", "scoring": scoring(policy) if how == "scored" else None}
        played = play(max_length, engine=HFEngine(policy), context=context, **settings)
        found = rate(played)
        assert (found.episodes, found.faults) == (N, 0)
        won[max_length] = {one.group_id for one in played if one.success}
        outgrown[max_length] = found.out_of_context
        for one in played:
            if one.cut_off == CONTEXT and one.steps:
                assert one.steps[-1].truncated
                assert not one.steps[-1].terminated
                assert one.final_observation is not None
            assert not any(step.truncated or step.terminated for step in one.steps[:-1])
    assert won[24] <= won[60] <= won[512]
    assert 0 == outgrown[512] <= outgrown[60] <= outgrown[24]
    if context == "full":
        assert outgrown[24] > 0
    if how == "admissible" and context == "full":
        assert won[24] < won[512]


def test_an_answer_that_the_context_cuts_in_two_is_kept_and_not_executed() -> None:
    actions: list[str] = []

    class Watched(Corridor):
        def act(self, action: str) -> StepResult:
            actions.append(action)
            return super().act(action)

    played = play(28, env=partial(Watched, CorridorConfig()))
    cut = [one for one in played if one.steps and one.steps[-1].stop == "context"]
    assert cut, "no answer was cut in two: the test shows nothing"
    assert len(actions) == sum(len(one.steps) for one in played) - len(cut)
    for one in cut:
        last = one.steps[-1]
        assert one.cut_off == CONTEXT
        assert not one.success
        assert (last.truncated, last.valid, last.reward, last.executed) == (True, False, 0.0, False)
        assert len(last.response_ids) == len(last.rollout_logprobs) > 0
        assert sum(len(step.prompt_ids) + len(step.response_ids) for step in one.steps) == 28


def test_an_episode_whose_first_prompt_is_too_long_is_lost_without_a_step() -> None:
    played = play(4)
    assert all(one.steps == [] and one.error is None and one.cut_off == CONTEXT for one in played)
    found = rate(played)
    assert (found.episodes, found.successes, found.out_of_context) == (N, 0, N)


class DeadEnd(Corridor):
    """Lists nothing in its first cell, `from_the_start` nowhere."""

    from_the_start = False

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        if self.cell == 0 or self.from_the_start:
            turn.admissible_actions = []
        return turn


class NoWay(DeadEnd):
    from_the_start = True


@pytest.mark.fault("a task without any action", lost="its episodes")
def test_a_dead_end_is_lost_but_a_task_without_any_action_is_a_fault() -> None:
    policy = corridor_policy()
    played = play(512, env=partial(DeadEnd, CorridorConfig()), engine=HFEngine(policy), scoring=scoring(policy))
    ended = [one for one in played if one.cut_off == NO_ACTIONS]
    assert ended
    assert all(one.steps[-1].truncated and not one.success for one in ended)
    assert rate(played).episodes == N
    played = play(512, env=partial(NoWay, CorridorConfig()), engine=HFEngine(policy), scoring=scoring(policy))
    assert rate(played).faults == N
    assert "lists no action" in str(played[0].error)


# -- what methods make of it ------------------------------------------------------------------------------------------------


def lost(reason: str, group: str = "g") -> Trajectory:
    """Three steps that came to nothing, cut off for `reason`."""
    trajectory = walk(group, 3, False)
    trajectory.steps[-1].truncated, trajectory.reason = True, reason
    return trajectory


def walk(group: str, steps: int, won: bool) -> Trajectory:
    trajectory = play(512, n=1, engine=ScriptedEngine(lambda request: writes("wait")))[0]
    trajectory.group_id, trajectory.success = group, won
    trajectory.steps = trajectory.steps[:steps]
    trajectory.steps[-1].reward, trajectory.steps[-1].terminated = float(won), won
    return trajectory


@pytest.mark.parametrize("name", ["grpo", "gigpo", "hgpo", "rloo", "reinforce_pp", "ppo", "poad", "gdpo", "opo"])
def test_a_method_learns_from_it_as_from_a_time_out(name: str) -> None:
    found = []
    for reason in (CONTEXT, "time_limit"):
        batch = as_batch([lost(reason), walk("g", 2, True), walk("g", 4, False)])
        tokens = int(batch.tokens.sum())
        batch.values = torch.linspace(-0.5, 0.5, tokens).double().numpy()
        batch.logprobs = torch.full((tokens,), -1.0).double().numpy()
        assert not batch.faulted.any()
        advantages = base.build({"name": name}).advantages(batch)
        found.append(advantages.per_token(batch))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1].all()
    assert bool((found[0][0] != 0).any())


class Talkative(Corridor):
    """Says a lot before an episode begins."""

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        turn = super().start(task_id, rng)
        turn.observation = f"{'You walk on and on. ' * 8}{turn.observation}"
        return turn


registry.register("talk", "tests/Talk-v0", f"{__name__}:Talkative", toys.CorridorConfig, toys.CorridorPrompt)

# -- through the commands ---------------------------------------------------------------------------------------------------

SMALL = [
    "env=passage",
    "warmstart.enabled=false",
    "rollout.groups=4",
    "rollout.group_size=4",
    "optim.minibatch_episodes=16",
    "evaluation.every=1",
    "iterations=2",
    "threads=1",
]


@pytest.mark.parametrize("how", ["engine.constrained=admissible", "engine.constrained=none", "algo=twosome"])
def test_a_run_counts_it_says_it_once_and_trains_on_it(tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train([*SMALL, how, "model.max_length=40", f"out={tmp_path}", "run=it"]) == 0
    shown = capsys.readouterr().out
    rows = read_metrics(tmp_path / "it" / "metrics.jsonl")
    first = [*read(tmp_path / "it" / "trajectories" / "iteration_000001.jsonl.gz")]
    assert rows[1]["train/cut_off/context"] == sum(one.cut_off == CONTEXT for one in first) > 0
    assert rows[1]["train/success"] == sum(one.success for one in first) / 16
    assert rows[1]["train/faults"] == 0
    assert all(step.credit is not None for one in first for step in one.steps)
    assert all(row["eval/cut_off/context@1"] > 0 for row in rows)
    assert sum("outgrew the context of model.max_length=40" in line for line in shown.splitlines()) == 1
    assert "out of context" in shown
    said = (tmp_path / "it" / "warnings.txt").read_text()
    assert said.count("outgrew the context") == 1
    assert "docs/it-does-not-learn.md" in said
    assert replay([str(tmp_path / "it"), "iteration=1"]) == 0
    assert "lost: context" in capsys.readouterr().out


def test_an_evaluation_shows_it_beside_a_rate_of_all_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["env=passage", "model=tiny", "evaluation.repeats=4", "threads=1"]
    found = {}
    for max_length in (2048, 40, 16):
        out = tmp_path / f"{max_length}.json"
        assert evaluate.main([*asked, f"model.max_length={max_length}", f"out={out}"]) == 0
        results = json.loads(out.read_text(), parse_constant=pytest.fail)
        found[max_length] = results["temperatures"]["1"]["types"]["all"]
        shown = capsys.readouterr().out
        said = any("outgrew the context" in warning for warning in results["warnings"])
        assert bool(found[max_length]["cut_off"].get("context")) == ("too long for the context" in shown) == said
    assert [one["episodes"] for one in found.values()] == [12] * 3
    assert found[2048]["successes"] > found[40]["successes"] >= found[16]["successes"]
    assert 0 < found[40]["cut_off"]["context"] < found[16]["cut_off"]["context"]


def test_where_no_first_prompt_fits_training_stops_and_names_the_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*SMALL, "env=talk", "model.max_length=16", "evaluation.before=false", f"out={tmp_path}", "run=it"]
    assert train(asked) == 1
    assert "in 16 episodes the first prompt alone was longer than the model can read: raise model.max_length=16" in (
        capsys.readouterr().err
    )


def test_an_episode_without_a_step_does_not_keep_the_others_from_being_learned_from() -> None:
    config = load([*SMALL, "algo=gigpo"])
    empty = Trajectory("e", "t", "other", 0, "train")
    with opened(config) as parts:
        kept = to_learn_from([*parts.evaluation(), empty], 1, config)
    assert len(kept) == 3
    assert all(one.steps for one in kept)
    with pytest.raises(RolloutError, match=r"raise model\.max_length=2048"):
        to_learn_from([empty], 1, config)


def test_episodes_out_of_context_are_learned_from_as_lost_or_dropped_as_the_setting_says() -> None:
    played = [lost(CONTEXT), lost("time_limit"), walk("g", 2, True)]
    assert to_learn_from(played, 1, load([*SMALL])) == played
    dropping = load([*SMALL, "rollout.out_of_context=drop"])
    assert to_learn_from(played, 1, dropping) == played[1:]
    with pytest.raises(RolloutError, match=r"rollout\.out_of_context=lose"):
        to_learn_from(played[:1], 1, dropping)


# -- whoever reads episodes -------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_with_its_ending(tmp_path: Path) -> None:
    played = play(28)
    write(tmp_path / "it.jsonl", played)
    assert [one.cut_off for one in read(tmp_path / "it.jsonl")] == [one.cut_off for one in played]


def test_a_judge_is_shown_what_was_executed_and_no_more() -> None:
    env = Corridor(CorridorConfig())
    for one in play(28):
        told = told_by(env, one)
        executed = [step for step in one.steps if step.executed]
        assert [step.action for step in told.steps] == [step.action for step in executed]
        assert not told.steps or told.cut_off == one.cut_off


def test_the_replay_names_what_cut_an_episode_off() -> None:
    played = [*play(28, n=2), *play(4, n=1)]
    groups, _ = view(played, lambda ids: ["x"] * len(ids), lambda text: text)
    shown = [one for group in groups for one in group.episodes]
    assert {one.ending for one in shown} >= {"lost: context"}
    (empty,) = [one for one in shown if not one.steps]
    assert "first prompt is longer" in str(empty.left_out)
    fragment = next(one for one in shown if one.steps and "not executed" in one.steps[-1].marks)
    assert "cut off: context" in fragment.steps[-1].marks


def test_task_types_with_brackets_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rate = {"interval95": [0.0, 1.0], "success": 0.5, "score": 0.5, "steps": 1.0, "episodes": 2, "faults": 0}
    found = {"types": {"[/a] b": rate, "[red]x": rate, "all": rate}}
    evaluate.show({"environment": "e[x]", "split": "test", "repeats": 1, "temperatures": {"1": found}}, Console(width=80))
    out = capsys.readouterr().out
    assert all(text in out for text in ("[/a] b", "[red]x", "e[x]"))
