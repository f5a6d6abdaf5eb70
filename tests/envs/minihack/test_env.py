"""MiniHack as an environment: the same episode everywhere, ends that mean what they say, actions that are what they seem."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import envs
from envs.base import TaskError
from envs.checker import check
from envs.common.seeding import generator
from envs.minihack.config import MiniHackConfig
from envs.minihack.env import MiniHackEnv
from envs.minihack.game import Seeds
from envs.pool import Mode, Pool

KEYROOM = ["north", "east", "south", "west", "pickup", "apply"]


def made(*levels: str, **settings: Any) -> MiniHackEnv:
    return MiniHackEnv(MiniHackConfig(list(levels), **settings))


def played(env: MiniHackEnv, task: str, number: int = 0) -> list[tuple[Any, ...]]:
    """All that an episode of random actions answers."""
    rng = generator(number, "random policy")
    observation, info = env.reset(seed=number, options={"task": task})
    record: list[tuple[Any, ...]] = [(observation, info)]
    while not record[-1][2:4].count(True):
        actions = info["admissible_actions"]
        record.append(env.step(actions[int(rng.integers(len(actions)))]))
        info = record[-1][4]
    return record


# -- the same episode everywhere --------------------------------------------------------------------------------------------

TASKS = [f"{level}/train/{n:06d}" for n in range(4) for level in ("KeyRoom-S5", "Room-Ultimate-5x5", "River-Monster", "Zap")]
MAKE = partial(envs.make, "minihack", levels=["KeyRoom-S5", "Room-Ultimate-5x5", "River-Monster", "Zap"], max_steps=30)


async def _in_pool(mode: Mode, workers: int) -> list[list[tuple[Any, ...]]]:
    async def episode(pool: Pool, number: int, task: str) -> list[tuple[Any, ...]]:
        rng = generator(number, "random policy")
        with pool.slot() as env:
            observation, info = await env.reset(seed=number, task=task)
            record: list[tuple[Any, ...]] = [(observation, info)]
            while not record[-1][2:4].count(True):
                actions = info["admissible_actions"]
                record.append(tuple(await env.step(actions[int(rng.integers(len(actions)))])))
                info = record[-1][4]
            return record

    async with Pool(MAKE, workers=workers, mode=mode) as pool:
        return await asyncio.gather(*(episode(pool, number, task) for number, task in enumerate(TASKS)))


def test_equal_seeds_give_equal_episodes_in_one_process_in_16_threads_and_in_4_processes() -> None:
    env = MAKE()
    assert isinstance(env, MiniHackEnv)
    alone = [played(env, task, number) for number, task in enumerate(TASKS)]
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(lambda n: played(MAKE(), TASKS[n], n), range(len(TASKS)))) == alone  # type: ignore[arg-type]
    assert asyncio.run(_in_pool("threads", 16)) == alone
    assert asyncio.run(_in_pool("processes", 4)) == alone
    assert len({record[0][1]["state_key"] for record in alone}) == len(TASKS)


def test_an_episode_depends_on_its_task_and_actions_and_not_on_the_seed_of_the_reset() -> None:
    env = made("KeyRoom-S5")
    keys = {env.reset(seed=seed, options={"task": "KeyRoom-S5/train/000007"})[1]["state_key"] for seed in range(5)}
    assert len(keys) == 1


@pytest.mark.parametrize("levels", [["keyroom"], ["Room-*", "river"], ["Zap", "Freeze-Wand-Restricted"]])
def test_it_keeps_the_contract(levels: list[str]) -> None:
    assert not check("minihack", levels=levels, train_tasks=6)


def test_an_environment_goes_from_level_to_level_and_leaves_nothing_of_one_behind() -> None:
    env = made("KeyRoom-S5", "Zap", max_steps=20)
    folders = []
    for level, can in (("KeyRoom-S5", "apply"), ("Zap", "zap"), ("KeyRoom-S5", "apply")):
        text, info = env.reset(options={"task": f"{level}/train/000000"})
        assert can in info["admissible_actions"]
        assert ("zap" in info["admissible_actions"]) is (level == "Zap")
        assert "Last action" not in text
        assert "Last action: north" in env.step("north")[0]
        assert env._game
        folders.append(Path(env._game._nle.nethack._vardir))
        assert [folder.exists() for folder in folders] == [False] * (len(folders) - 1) + [True]
    env.close()
    assert not folders[-1].exists()


def test_chance_that_is_drawn_anew_follows_the_seed_and_leaves_what_has_happened_as_it_is() -> None:
    env = made("Room-Monster-15x15", max_steps=30)
    task = "Room-Monster-15x15/train/000000"

    def walked(seed: int | None) -> list[str]:
        keys = [env.reset(seed=1, options={"task": task})[1]["state_key"]]
        for step in range(30):
            if step == 8 and seed is not None:
                assert env.reseed(seed) == "anew"
            _, _, terminated, truncated, info = env.step(("east", "south", "west", "north")[step % 4])
            keys.append(info["state_key"])
            if terminated or truncated:
                break
        return keys

    usual, *others = [walked(seed) for seed in (None, 7, 8, 7, None)]
    assert all(keys[:9] == usual[:9] for keys in others)
    assert others[0] == others[2]
    assert others[3] == usual  # nothing is left of it in the next episode
    assert len({str(keys) for keys in (usual, *others)}) == 3


# -- ends -------------------------------------------------------------------------------------------------------------------


def test_the_time_limit_is_the_environments_own_and_a_truncation() -> None:
    """MiniHack's own for this level is 100, and would be reported as the end."""
    env = made("Room-5x5", max_steps=150)
    env.reset(options={"task": "Room-5x5/train/000000"})
    answers = [env.step("northwest") for _ in range(150)]
    assert [answer[2:4] for answer in answers] == [(False, False)] * 149 + [(False, True)]
    assert answers[-1][4]["reason"] == "time_limit"
    assert not answers[-1][4]["success"]


def test_death_ends_an_episode_and_is_no_success() -> None:
    env = made("HideNSeek-Lava")
    for task in env.tasks("train")[:5]:
        observation, _, terminated, truncated, info = played(env, task)[-1]
        if terminated and not info["success"]:
            assert not truncated
            assert info["score"] == 0
            assert "you have lost" in observation
            assert info["admissible_actions"] == []
            return
    pytest.fail("nobody died in the lava")


def test_the_oracles_way_wins_and_passes_the_milestones_in_order() -> None:
    env = made("KeyRoom-S5", actions=KEYROOM)
    for task in env.tasks("train")[:12]:
        actions = env.demonstration(task, np.random.default_rng(0))
        env.reset(options={"task": task})
        answers = [env.step(action) for action in actions]
        observation, reward, terminated, _, info = answers[-1]
        assert (reward, terminated, info["success"], info["score"]) == (1.0, True, True, 1.0)
        assert "you have won" in observation
        assert info["subgoals"][-1] == "reach the stairs"
        reached = [len(answer[4]["subgoals"]) for answer in answers]
        assert reached == sorted(reached)


def test_an_oracle_makes_detours_and_dawdles_as_it_is_asked() -> None:
    env = made("KeyRoom-S5", actions=KEYROOM, max_steps=100)
    ways = {(0.0, False): 0, (0.9, False): 0, (0.0, True): 0}
    for number, task in enumerate(env.tasks("train")[:10]):
        for detours, suboptimal in ways:
            ways[detours, suboptimal] += len(
                env.imperfect_demonstration(task, np.random.default_rng(number), detours, suboptimal)
            )
    straight, roundabout, slow = ways.values()
    assert straight < roundabout < slow


# -- actions ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonsense", ["", "open sesame", "North", "shell", "kick"])
def test_what_is_no_action_takes_no_time(nonsense: str) -> None:
    env = made("KeyRoom-S5", actions=KEYROOM)
    _, before = env.reset(options={"task": "KeyRoom-S5/train/000000"})
    _, reward, terminated, _, info = env.step(nonsense)
    assert (reward, terminated, info["valid"], info["changed"]) == (0.0, False, False, False)
    assert info["state_key"] == before["state_key"]


def test_nobody_leaves_the_game_for_a_shell() -> None:
    assert "shell" not in made("Zap").reset(options={"task": "Zap/train/000000"})[1]["admissible_actions"]


def test_questions_are_answered_by_their_letters_and_directions_by_their_names() -> None:
    env = made("Wield")
    env.reset(options={"task": "Wield/train/000000"})
    observation, *_, info = env.step("wield")
    assert "What do you want to wield? [- ab or ?*]" in observation
    assert info["admissible_actions"] == ["a", "b", "esc"]
    observation, *_, info = env.step("b")
    assert "b: a +2 sling (weapon in hand)" in observation
    assert {"wield", "north"} <= set(info["admissible_actions"])
    *_, info = env.step("kick")
    assert {"north", "southwest", "esc"} <= set(info["admissible_actions"])
    assert "wield" not in info["admissible_actions"]
    *_, valid = env.step("wield")
    assert not valid["valid"]


def test_an_action_that_there_is_not_is_named_with_what_there_is() -> None:
    with pytest.raises(TaskError, match=r"no action 'pikup'\. Did you mean 'pickup'"):
        made("KeyRoom-S5", actions=["north", "pikup"]).reset(options={"task": "KeyRoom-S5/train/000000"})
    with pytest.raises(TaskError, match="Room-5x5 has none of the actions kick; it has: north, "):
        made("Room-5x5", actions=["kick"]).reset(options={"task": "Room-5x5/train/000000"})


def test_an_action_that_takes_no_time_costs_what_the_settings_say() -> None:
    for penalty in (-0.01, -0.5, 0.0):
        env = made("KeyRoom-S5", penalty_step=penalty)
        env.reset(options={"task": "KeyRoom-S5/train/000000"})
        assert env.step("apply")[1] == pytest.approx(penalty)


# -- what changed -----------------------------------------------------------------------------------------------------------


def steps_of(env: MiniHackEnv, task: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """For each step of random play: new milestones, and whether anything changed."""
    reached: tuple[str, ...] = ()
    for *_, info in played(env, task)[1:]:
        yield tuple(name for name in info["subgoals"] if name not in reached), info["changed"]
        reached = info["subgoals"]


def test_the_filter_keeps_few_steps_and_every_milestone() -> None:
    env = made("KeyRoom-S5", actions=KEYROOM, max_steps=100)
    steps = [step for task in env.tasks("train")[:60] for step in steps_of(env, task)]
    events = [changed for new, changed in steps if new]
    assert len(events) > 20
    assert all(events)
    assert sum(changed for _, changed in steps) < 0.05 * len(steps)


def test_walking_about_in_a_lit_room_changes_nothing() -> None:
    env = made("Room-5x5")
    _, info = env.reset(options={"task": "Room-5x5/train/000000"})
    key = info["state_key"]
    env.step("southeast")  # off the stairs that it came by, which then show
    *_, info = env.step("north")
    assert info["state_key"] != key
    assert info["changed"] is False


# -- splits -----------------------------------------------------------------------------------------------------------------


def test_splits_mean_the_levels_they_always_meant() -> None:
    env = made("KeyRoom-S5")
    assert Seeds.of("KeyRoom-S5/train/000000") == (7242530543028955134, 1114507788914748199)
    assert env.reset(options={"task": "KeyRoom-S5/train/000000"})[1]["state_key"] == "ac4afbd9e51754b4"
    assert env.split_hash("eval") == "a963e3230c5829a4"
    assert made("quest").split_hash("eval") == "e204f1d69a101ce2"


def test_splits_take_the_levels_in_turn_and_share_no_task() -> None:
    env = made("Room-5x5", "KeyRoom-S5", train_tasks=5, eval_tasks=3)
    assert env.tasks("train")[:3] == ("Room-5x5/train/000000", "KeyRoom-S5/train/000000", "Room-5x5/train/000001")
    assert (len(env.tasks("train")), len(env.tasks("eval"))) == (5, 3)
    assert env.task_type("KeyRoom-S5/eval/000001") == "KeyRoom-S5"
    assert env.subgoals("KeyRoom-S5/eval/000001") == ("pick up the key", "open the door", "reach the stairs")


@pytest.mark.parametrize("task", ["KeyRoom-S5/000001", "KeyRoom-S5/train/1", "Room-5x5/train/000001", "../train/000001", ""])
def test_a_task_that_there_is_not_is_refused(task: str) -> None:
    with pytest.raises(TaskError, match="no task"):
        made("KeyRoom-S5").reset(options={"task": task})


@pytest.mark.parametrize("setting", ["train_tasks", "eval_tasks", "test_tasks"])
def test_a_split_has_at_least_one_task(setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        MiniHackConfig(**{setting: 0})
    with pytest.raises(ValueError, match="actions is empty"):
        MiniHackConfig(actions=[])


# -- looking at episodes ----------------------------------------------------------------------------------------------------


def test_frames_show_the_map_where_they_are_asked_for() -> None:
    task = {"task": "KeyRoom-S5/train/000000"}
    assert "frame" not in made("KeyRoom-S5").reset(options=task)[1]
    frame = made("KeyRoom-S5", frames=True).reset(options=task)[1]["frame"]
    assert "@" in frame
    assert "+" in frame
    assert "hit points" in frame
    assert frame.startswith("You are lucky!  Full moon tonight.\n")
