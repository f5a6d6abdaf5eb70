"""Episodes through engine, dialogue and pool: what is stored is what was sampled, and a fault stays with its episode."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
from contextlib import closing
from functools import partial

import pytest
import torch

from agents.config import loading
from agents.models.policy import Policy
from agents.models.tokenizer import build
from agents.rollout.build import fresh_policy, make_env, open_sampler
from agents.rollout.dialogue import Plain
from agents.rollout.engines.base import Completion, EngineError, Request, Sampling, Weights
from agents.rollout.engines.hf import HFEngine
from agents.rollout.engines.scripted import ScriptedEngine
from agents.rollout.episode import Player, derive_seed
from agents.rollout.faults import Faults
from agents.rollout.planner import Episode, group_episodes
from agents.rollout.sampler import Sampler
from agents.runs.evaluation import by_type, pass_at, rate, wilson
from agents.training.experience import Experience
from envs.pool import Pool
from envs.pool.processes import ProcessWorker
from envs.trajectory import Trajectory
from tests.agents.models.models_for_tests import small_policy
from tests.envs.toys import Corridor, CorridorConfig, CorridorPrompt, Mined, MinedConfig, Moody

TOKENIZER = build(["hang die raise exit left right look around nonsense"], words=[f"cell {i}" for i in range(12)])


def writes(text: str) -> list[int]:
    return [*TOKENIZER(text, add_special_tokens=False).input_ids, TOKENIZER.eos_token_id]


def sampler(engine, pool: Pool, **settings) -> Sampler:
    tokenizer = engine.policy.tokenizer if isinstance(engine, HFEngine) else TOKENIZER
    prompt = CorridorPrompt()
    dialogue = Plain(tokenizer, prompt)
    sampling = Sampling(max_tokens=6, stop_ids=dialogue.stop_ids)
    of_sampler = {name: settings.pop(name) for name in ("retries", "concurrency", "faults") if name in settings}
    return Sampler("test", Player(engine, dialogue, prompt, sampling, **settings), pool, **of_sampler)


def episodes(n: int) -> list[Episode]:
    tasks = Corridor(CorridorConfig()).tasks("train")
    return [Episode(tasks[i % len(tasks)], f"g{i}", i, 100 + i, "train") for i in range(n)]


def play(engine, env, mode: str, n: int = 6, **settings) -> list[Trajectory]:
    with Pool(env, workers=2, mode=mode, step_timeout=1.0) as pool:  # type: ignore[arg-type]
        return asyncio.run(sampler(engine, pool, **settings).play(episodes(n), 1.0))


CORRIDOR = partial(Corridor, CorridorConfig())
MOODY = partial(Moody, CorridorConfig())
MINED_TASKS = Mined(MinedConfig(train=2)).tasks("train")


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
    played = play(engine, CORRIDOR, "inline", context=context, constrained=constrained)
    assert all(t.error is None and t.steps for t in played)
    packed = Experience.of(played).rows()
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
    played = play(engine, CORRIDOR, "inline", n=7, concurrency=2)
    assert len(played) == 7
    assert max(alive) <= 2
    assert engine._slots == []


@pytest.mark.fault("an environment raises, dies or hangs", lost="the episode, if it fails again")
@pytest.mark.parametrize(("word", "kind"), [("hang", "timeout"), ("die", "crash"), ("raise", "exception")])
def test_a_fault_is_retried_alone_then_reported_apart_and_never_a_success(word: str, kind: str) -> None:
    """Episode 2 misbehaves at its second step, every time it is tried; the others never notice."""

    def script(request: Request) -> list[int]:
        bad = request.seed in {derive_seed(102, t) for t in range(1, 99)}
        return writes(word if bad else "look")

    clean = play(ScriptedEngine(lambda r: writes("look")), MOODY, "processes", n=4)
    played = play(ScriptedEngine(script), MOODY, "processes", n=4, retries=3)
    assert played[2].error is not None
    assert kind in played[2].error
    assert not played[2].success
    assert played[2].attempt == 3
    for i in (0, 1, 3):
        assert [s.observation for s in played[i].steps] == [s.observation for s in clean[i].steps]
    summary = rate(played)
    assert summary.faults >= 1
    assert summary.episodes + summary.faults == 4


@pytest.mark.fault("a task fails again and again beside others", lost="its own episodes")
@pytest.mark.parametrize(
    ("mode", "word"),
    [("inline", "exit"), ("threads", "exit"), ("threads", "hang"), ("processes", "hang"), ("processes", "die")],
)
def test_a_task_that_fails_uses_up_no_retry_of_its_neighbors(mode: str, word: str) -> None:
    """Two of five episodes misbehave in a worker that they share with the others, none of which may be retried at all."""
    bad = {derive_seed(seed, 1) for seed in (101, 103)}

    def script(request: Request) -> list[int]:
        return writes(word if request.seed in bad else "look")

    alone = play(ScriptedEngine(lambda r: writes("look")), MOODY, "inline", n=5)
    with Pool(MOODY, workers=1, mode=mode, step_timeout=0.5) as pool:  # type: ignore[arg-type]
        played = asyncio.run(sampler(ScriptedEngine(script), pool, retries=0).play(episodes(5), 1.0))
    for i in (0, 2, 4):
        assert played[i].error is None
        assert [step.observation for step in played[i].steps] == [step.observation for step in alone[i].steps]
    for i in (1, 3):
        assert played[i].error is not None
        assert "worker_lost" not in played[i].error


@pytest.mark.fault("workers die of themselves again and again", lost="the episodes in them")
def test_a_worker_that_dies_of_itself_again_and_again_does_not_go_on_for_ever() -> None:
    async def run(pool: Pool) -> list[Trajectory]:
        def script(request: Request) -> list[int]:
            (worker,) = pool._workers
            assert isinstance(worker, ProcessWorker)
            os.kill(worker.pid, signal.SIGKILL)
            return writes("look")

        return await sampler(ScriptedEngine(script), pool, retries=1).play(episodes(1), 1.0)

    with Pool(MOODY, workers=1, mode="processes") as pool:
        (played,) = asyncio.run(run(pool))
    assert played.attempt == 1
    assert played.error is not None
    assert "killed by SIGKILL" in played.error


@pytest.mark.fault("a task fails again and again", lost="the task")
@pytest.mark.parametrize(("retries", "limit", "tries"), [(0, 3, 3), (1, 3, 3), (5, 4, 4), (1, 0, 8)])
def test_a_task_that_fails_again_and_again_is_set_aside(retries: int, limit: int, tries: int) -> None:
    said: list[str] = []
    seeds: list[int] = []
    faults = Faults(limit, said.append)
    planned = [Episode(task, f"{task}-{i}", i, 10 * n + i, "train") for n, task in enumerate(MINED_TASKS) for i in range(4)]

    def script(request: Request) -> list[int]:
        seeds.append(request.seed)
        return writes("look")

    with Pool(partial(Mined, MinedConfig(mine="raise", train=2)), mode="inline") as pool:
        made = sampler(ScriptedEngine(script), pool, retries=retries, concurrency=1, faults=faults)
        played = asyncio.run(made.play(planned, 1.0))
    assert sum(seeds.count(derive_seed(i, 0)) for i in range(4)) == tries
    assert all(one.error is not None for one in played[:4])
    assert all(one.error is None and one.attempt == 0 for one in played[4:])
    if limit:
        assert list(faults.set_aside) == ["mined-0"]
        assert played[3].error == "set aside: exception: ZeroDivisionError: the corridor has no end"
        assert not played[3].steps
        (told,) = said
        assert f"task mined-0 is set aside for the rest of the run: its environment failed {limit} times in a row" in told
    else:
        assert not said
        assert not faults.set_aside


def test_a_task_that_fails_now_and_then_is_not_set_aside() -> None:
    faults = Faults(limit=3)
    for _ in range(9):
        for _ in range(2):
            faults.failed("flaky", "timeout")
        faults.ended("flaky")
    assert not faults.set_aside


def test_an_engines_faults_are_none_of_the_task() -> None:
    class Gone(ScriptedEngine):
        async def generate(self, request: Request) -> Completion:
            raise EngineError("connection lost")

    faults = Faults(limit=2)
    played = play(Gone(lambda r: writes("look")), CORRIDOR, "inline", n=9, faults=faults)
    assert all(one.error == "engine: connection lost" for one in played)
    assert not faults.set_aside


@pytest.mark.fault("an engine returns probabilities that are no numbers", lost="the episode")
def test_probabilities_that_are_no_numbers_are_a_fault_and_reach_no_update() -> None:
    policy = corridor_policy()
    with torch.no_grad():
        for p in policy.model.parameters():
            p.fill_(float("nan"))
    played = play(HFEngine(policy), CORRIDOR, "inline", n=3)
    assert [str(one.error).startswith("engine: the model's probabilities are nan") for one in played] == [True] * 3
    assert not any(one.steps for one in played)


@pytest.mark.fault("a task fails again and again, over a resume", lost="the task")
def test_a_resumed_run_goes_on_with_what_was_set_aside() -> None:
    first = Faults(limit=2)
    for task in ("a", "a", "b"):
        first.failed(task, "crash: gone")
    second = Faults(limit=2, say=lambda message: None)
    second.load_state(json.loads(json.dumps(first.state())))
    assert second.set_aside == {"a": "crash: gone"}
    second.failed("b", "crash: gone, too")
    assert list(second.set_aside) == ["a", "b"]


@pytest.mark.fault("an engine cannot answer a request", lost="the episode, if it fails again")
def test_a_request_that_the_engine_cannot_answer_costs_its_episode_alone() -> None:
    bad = {derive_seed(102, t) for t in range(1, 99)}

    class Shaky(ScriptedEngine):
        left = 1

        async def generate(self, request: Request) -> Completion:
            if request.seed in bad and self.left > 0:
                self.left -= 1
                raise EngineError("connection lost")
            return await super().generate(request)

    clean = play(ScriptedEngine(lambda r: writes("look")), CORRIDOR, "inline", n=4)
    engine = Shaky(lambda r: writes("look"))
    played = play(engine, CORRIDOR, "inline", n=4, retries=1)
    assert [t.attempt for t in played] == [0, 0, 1, 0]
    assert [t.steps for t in played] == [t.steps for t in clean]
    engine.left = 9
    lost = play(engine, CORRIDOR, "inline", n=4, retries=1)[2]
    assert lost.error == "engine: connection lost"
    assert not lost.success


def test_a_retry_plays_the_same_episode_again() -> None:
    tries = {"n": 0}

    def script(request: Request) -> list[int]:
        if not tries["n"] and len(request.ids) > 12:
            tries["n"] += 1
            return writes("raise")
        return writes("look")

    played = play(ScriptedEngine(script), MOODY, "inline", n=1, retries=1)
    clean = play(ScriptedEngine(lambda r: writes("look")), MOODY, "inline", n=1)
    assert tries["n"] == 1
    assert played[0].attempt == 1
    assert played[0].error is None
    assert [s.observation for s in played[0].steps] == [s.observation for s in clean[0].steps]


def test_an_answer_that_is_no_action_is_told_and_the_episode_goes_on() -> None:
    answers = iter(["nonsense"] + ["look"] * 200)
    played = play(ScriptedEngine(lambda r: writes(next(answers))), CORRIDOR, "inline", n=1)
    assert not played[0].steps[0].valid
    assert len(played[0].steps) > 1
    assert played[0].error is None


def test_groups_come_as_they_end_with_their_members_in_the_order_of_the_plan() -> None:
    planned = [Episode(e.task_id, f"g{i // 3}", e.seed, e.sample_seed, e.split) for i, e in enumerate(episodes(9))]
    first = {derive_seed(100, t) for t in range(99)}

    class Slow(ScriptedEngine):
        """Takes its time with the first episode."""

        async def generate(self, request: Request) -> Completion:
            for _ in range(99 if request.seed in first else 0):
                await asyncio.sleep(0)
            return await super().generate(request)

    async def main(made: Sampler) -> tuple[list[list[Trajectory]], list[Trajectory]]:
        return [group async for group in made.groups(planned, 1.0)], await made.play(planned, 1.0)

    with Pool(CORRIDOR, mode="inline") as pool:
        groups, played = asyncio.run(main(sampler(Slow(lambda r: writes("look")), pool)))
    assert [group[0].group_id for group in groups] == ["g1", "g2", "g0"]
    by_id = {group[0].group_id: group for group in groups}
    assert [t for name in ("g0", "g1", "g2") for t in by_id[name]] == played


@pytest.mark.fault("an engine fails", lost="what came after the newest checkpoint")
def test_a_fault_in_a_group_ends_the_stream_and_says_what_went_wrong() -> None:
    def script(request: Request) -> list[int]:
        raise ZeroDivisionError

    async def main(made: Sampler) -> None:
        async for _ in made.groups(episodes(3), 1.0):
            pytest.fail("no group can have ended")

    with Pool(CORRIDOR, mode="inline") as pool, pytest.raises(ExceptionGroup) as raised:
        asyncio.run(main(sampler(ScriptedEngine(script), pool)))
    assert raised.group_contains(ZeroDivisionError)


def test_training_and_evaluation_may_play_at_once_and_change_nothing_of_each_other() -> None:
    policy = corridor_policy()

    def actions(played: list[Trajectory]) -> list[list[str]]:
        return [[step.action for step in t.steps] for t in played]

    async def together(made: Sampler) -> list[list[Trajectory]]:
        return list(await asyncio.gather(made.play(episodes(6), 1.0), made.play(episodes(6), 0.5)))

    with Pool(CORRIDOR, mode="inline") as pool:
        both = asyncio.run(together(sampler(HFEngine(policy, max_batch=4), pool)))
        alone = [asyncio.run(sampler(HFEngine(policy), pool).play(episodes(6), t)) for t in (1.0, 0.5)]
    assert [actions(played) for played in both] == [actions(played) for played in alone]


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


@pytest.mark.fault("a rollout is broken off", lost="its episodes")
@pytest.mark.parametrize("mode", ["inline", "threads"])
@pytest.mark.parametrize("way", ["break", "error", "cancel"])
def test_groups_that_nobody_waits_for_any_more_leave_nothing_behind(mode: str, way: str) -> None:
    """More episodes than the engine has places, so that some are still waiting for one when the consumer leaves."""
    engine = HFEngine(corridor_policy(), max_batch=3)

    async def leave(playing: Sampler) -> None:
        async for _ in playing.groups(episodes(12), 1.0):
            if way == "break":
                return
            if way == "error":
                raise KeyError
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    async def main(pool: Pool) -> list[Trajectory]:
        playing = sampler(engine, pool, concurrency=8)
        await asyncio.gather(asyncio.create_task(leave(playing)), return_exceptions=True)
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)
        assert not engine._slots
        assert not engine._waiting
        assert not any(worker.seats for worker in pool._workers)
        await engine.update_weights(Weights(1, {}))
        return await asyncio.wait_for(playing.play(episodes(6), 1.0), timeout=60)

    with Pool(CORRIDOR, workers=2, mode=mode) as pool:  # type: ignore[arg-type]
        assert all(one.error is None for one in asyncio.run(main(pool)))


@pytest.mark.parametrize("ignore", [True, False])
def test_an_end_token_ends_no_answer_where_that_is_asked_for(ignore: bool) -> None:
    """engine.ignore_end, by which speed is measured."""
    settings = ["env=alfworld", "algo=gigpo", "engine.constrained=none", f"engine.ignore_end={ignore}", "engine.max_tokens=90"]
    config = loading.load([*settings, "env.max_steps=3", "model.tiny.hidden=64", "env.train_games=4", "threads=1"])
    with closing(open_sampler(config, fresh_policy(config))) as player:
        tasks = make_env(config).tasks("train")[:2]
        played = asyncio.run(player.play(group_episodes(0, "train", 1, tasks, 8, "train"), 1.0))
        end = player.player.dialogue.stop_ids[0]
    answers = [step.response_ids for one in played for step in one.steps]
    assert any(end in answer for answer in answers)
    assert all(len(answer) == 90 for answer in answers) == ignore
