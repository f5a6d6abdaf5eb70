"""Episodes through engine, prompter and pool: what is stored is what was sampled, and a fault stays with its episode."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial

import pytest

from agents.models.policy import Policy
from agents.models.tokenizer import build
from agents.rollout.dialogue import Plain
from agents.rollout.engines.base import Request, Sampling
from agents.rollout.engines.hf import HFEngine
from agents.rollout.engines.scripted import ScriptedEngine
from agents.rollout.sampler import Episode, Rollout, group_episodes
from agents.runs.evaluation import by_type, pass_at, rate, wilson
from agents.training.packing import rows
from envs.base import TextEnv
from envs.pool import Pool
from envs.trajectory import Trajectory
from tests.agents.models.models_for_tests import small_policy
from tests.envs.toys import Corridor, CorridorConfig, CorridorPrompt, Moody

TOKENIZER = build(["hang die raise left right look around nonsense"], words=[f"cell {i}" for i in range(12)])


def writes(text: str) -> list[int]:
    return [*TOKENIZER(text, add_special_tokens=False).input_ids, TOKENIZER.eos_token_id]


def rollout(engine, env: Callable[[], TextEnv], pool: Pool, **settings) -> Rollout:
    tokenizer = engine.policy.tokenizer if isinstance(engine, HFEngine) else TOKENIZER
    prompt = CorridorPrompt()
    prompter = Plain(tokenizer, prompt)
    sampling = Sampling(max_tokens=6, stop_ids=prompter.stop_ids)
    return Rollout("test", engine, prompter, prompt, pool, sampling, **settings)


def episodes(n: int) -> list[Episode]:
    tasks = Corridor(CorridorConfig()).tasks("train")
    return [Episode(tasks[i % len(tasks)], f"g{i}", i, 100 + i, "train") for i in range(n)]


def play(engine, env, mode: str, n: int = 6, **settings) -> tuple[list[Trajectory], Rollout, Pool]:
    with Pool(env, workers=2, mode=mode, step_timeout=1.0) as pool:  # type: ignore[arg-type]
        made = rollout(engine, env, pool, **settings)
        return asyncio.run(made.play(episodes(n))), made, pool


CORRIDOR = partial(Corridor, CorridorConfig())
MOODY = partial(Moody, CorridorConfig())


def corridor_policy() -> Policy:
    policy = small_policy()
    policy.tokenizer = build(
        ["left right look around you are in a corridor exit cell wall"], words=[f"thing {i}" for i in range(60 - 12)]
    )
    return policy


@pytest.mark.parametrize("context", ["full", "window"])
@pytest.mark.parametrize("constrained", [False, True])
def test_what_is_trained_on_is_what_was_sampled(context: str, constrained: bool) -> None:
    engine = HFEngine(corridor_policy())
    sampled: list[list[int]] = []
    original = engine.generate

    async def recording(request: Request):
        done = await original(request)
        sampled.append(list(request.ids) + done.ids)
        return done

    engine.generate = recording  # type: ignore[method-assign]
    played, _, _ = play(engine, CORRIDOR, "inline", context=context, constrained=constrained)
    assert all(t.error is None and t.steps for t in played)
    first = [0]
    for t in played:
        first.append(first[-1] + sum(len(s.response_ids) for s in t.steps))
    packed = rows(played, first[:-1], longest_row=0)
    if context == "full":
        longest = {tuple(ids) for ids in sampled}
        assert all(tuple(row.ids) in longest for row in packed)
    else:
        assert sorted(map(tuple, sampled)) == sorted(tuple(row.ids) for row in packed)
    if constrained:
        assert all(step.action in step.admissible_actions for t in played for step in t.steps)


def test_no_session_outlives_its_episode_and_places_are_taken_over() -> None:
    engine = HFEngine(corridor_policy(), max_batch=2)
    alive = []
    original = engine.generate

    async def watched(request: Request):
        alive.append(len(engine._index))
        return await original(request)

    engine.generate = watched  # type: ignore[method-assign]
    played, _, _ = play(engine, CORRIDOR, "inline", n=7, concurrency=2)
    assert len(played) == 7
    assert max(alive) <= 2
    assert engine._slots == []


@pytest.mark.parametrize(("word", "kind"), [("hang", "timeout"), ("die", "crash"), ("raise", "exception")])
def test_a_fault_is_retried_alone_then_reported_apart_and_never_a_success(word: str, kind: str) -> None:
    """Episode 2 misbehaves at its second step, every time it is tried; the others never notice."""

    def script(request: Request) -> list[int]:
        bad = request.session.startswith("2.") and len(request.ids) > 12
        return writes(word if bad else "look")

    clean, _, _ = play(ScriptedEngine(lambda r: writes("look")), MOODY, "processes", n=4)
    played, made, _ = play(ScriptedEngine(script), MOODY, "processes", n=4, retries=3)
    assert played[2].error is not None
    assert kind in played[2].error
    assert not played[2].success
    assert made.retried >= 3
    for i in (0, 1, 3):
        assert [s.observation for s in played[i].steps] == [s.observation for s in clean[i].steps]
    summary = rate(played)
    assert summary.faults >= 1
    assert summary.episodes + summary.faults == 4


def test_a_retry_plays_the_same_episode_again() -> None:
    tries = {"n": 0}

    def script(request: Request) -> list[int]:
        if request.session == "0.0" and len(request.ids) > 12:
            tries["n"] += 1
            return writes("raise")
        return writes("look")

    played, made, _ = play(ScriptedEngine(script), MOODY, "inline", n=1, retries=1)
    clean, _, _ = play(ScriptedEngine(lambda r: writes("look")), MOODY, "inline", n=1)
    assert tries["n"] == 1
    assert made.retried == 1
    assert played[0].error is None
    assert [s.observation for s in played[0].steps] == [s.observation for s in clean[0].steps]


def test_an_answer_that_is_no_action_is_told_and_the_episode_goes_on() -> None:
    answers = iter(["nonsense"] + ["look"] * 200)
    played, _, _ = play(ScriptedEngine(lambda r: writes(next(answers))), CORRIDOR, "inline", n=1)
    assert not played[0].steps[0].valid
    assert len(played[0].steps) > 1
    assert played[0].error is None


def test_members_of_a_group_share_the_game_and_differ_in_sampling() -> None:
    made = group_episodes(7, "train", 3, ["a", "b"], 4, "train")
    assert len(made) == 8
    assert len({e.group_id for e in made}) == 2
    assert len({(e.group_id, e.seed) for e in made}) == 2
    assert len({e.sample_seed for e in made}) == 8
    assert made == group_episodes(7, "train", 3, ["a", "b"], 4, "train")
    assert made != group_episodes(7, "train", 4, ["a", "b"], 4, "train")


def outcome(task: str, success: bool, error: str | None = None) -> Trajectory:
    return Trajectory("e", task, "g", 0, "eval", success=success, score=float(success), error=error)


def test_rates_leave_faults_out_and_report_them() -> None:
    played = [outcome("a", True), outcome("a", False), outcome("b", False), outcome("b", False, "timeout: 1 s")]
    assert rate(played).success == pytest.approx(1 / 3)
    assert rate(played).faults == 1
    assert by_type(played, lambda task: task)["b"].episodes == 1


def test_a_mean_of_no_episodes_is_no_number() -> None:
    found = rate([outcome("a", False, "crash: gone")])
    assert (found.episodes, found.faults) == (0, 1)
    assert all(math.isnan(number) for number in (found.success, found.score, found.steps))


def test_wilsons_interval_holds_the_known_values() -> None:
    low, high = wilson(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_pass_at_k_is_the_unbiased_estimate() -> None:
    played = [outcome("a", i < 2) for i in range(4)] + [outcome("b", False) for _ in range(4)]
    assert pass_at(played, 1) == pytest.approx(0.25)
    assert pass_at(played, 2) == pytest.approx((1 - 1 / 6) / 2)
    assert pass_at(played, 5) is None


def test_a_task_without_an_attempt_leaves_no_mean_over_the_others() -> None:
    played = [outcome("a", True), outcome("a", True), outcome("b", False, "crash: gone"), outcome("b", False)]
    assert pass_at(played, 1) == 0.5
    assert pass_at(played, 2) is None
    assert pass_at([outcome("a", True), outcome("b", False, "crash: gone")], 1) is None
