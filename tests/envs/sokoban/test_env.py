"""Sokoban as an environment: rewards, ends, dead ends that are seen, demonstrations that win."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import envs
from agents.config import loading
from envs.base import SPLITS
from envs.checker import check
from envs.sokoban.board import ACTIONS
from envs.sokoban.config import SokobanConfig
from envs.sokoban.env import SokobanEnv

TASK = "6x6-1/train/000007"


def begun(task: str = TASK, **settings: Any) -> SokobanEnv:
    env = SokobanEnv(SokobanConfig(**settings))
    env.reset(options={"task": task})
    return env


def wandering(env: SokobanEnv, seed: int, steps: int = 15) -> Iterator[tuple[str, float, bool, bool, dict[str, Any]]]:
    """What an episode of random possible moves answers, step by step."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        moves = env._task.level.room.moves(env._position)  # type: ignore[union-attr]
        result = env.step(moves[int(rng.integers(len(moves)))])
        yield result
        if result[2] or result[3]:
            break


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"boxes": 2, "longest": 15, "observation": "coordinates", "all_actions": True},
        {"observation": "both", "dead_ends": "end", "last_action": False},
    ],
)
def test_it_keeps_the_contract(settings: dict[str, Any]) -> None:
    assert check("sokoban", train_tasks=12, eval_tasks=3, test_tasks=3, **settings) == []


@pytest.mark.parametrize("settings", [{}, {"boxes": 2, "longest": 20, "max_steps": 25}])
def test_the_oracle_solves_every_task_within_the_limit_in_as_few_moves_as_possible(settings: dict[str, Any]) -> None:
    env = SokobanEnv(SokobanConfig(train_tasks=25, **settings))
    for split in SPLITS:
        for task in env.tasks(split)[:25]:
            env.reset(options={"task": task})
            actions = env.demonstration(task, np.random.default_rng(0))
            results = [env.step(action) for action in actions]
            assert results[-1][2]
            assert results[-1][4]["success"]
            assert len(actions) <= env.max_steps
            first = (len(actions) - 1) // 5 * 5 + 1
            assert env.task_type(task) == f"{first} to {first + 4} moves"
            boxes = env.config.boxes
            assert sum(result[1] for result in results) == pytest.approx(10 + boxes - 0.1 * len(actions))


@pytest.mark.parametrize(("detours", "suboptimal"), [(0.0, False), (0.9, False), (0.9, True)])
def test_demonstrations_win_and_slow_ones_win_or_run_out_of_time(detours: float, suboptimal: bool) -> None:
    env = SokobanEnv()
    won = shortest = 0
    for number, task in enumerate(env.tasks("train")[:60]):
        actions = env.imperfect_demonstration(task, np.random.default_rng(number), detours, suboptimal)
        env.reset(options={"task": task})
        results = [env.step(action) for action in actions]
        assert all(result[4]["valid"] and result[4]["solvable"] for result in results)
        assert results[-1][4]["success"] or (suboptimal and len(actions) == env.max_steps)
        won += results[-1][4]["success"]
        shortest += len(actions) == len(env.demonstration(task, np.random.default_rng(0)))
    assert won == 60 if not suboptimal else 10 < won < 60
    assert shortest == 60 if not detours else shortest < 40


def test_rewards_are_those_of_a_step_a_box_on_a_target_off_it_and_the_win() -> None:
    env = begun("6x6-2/train/000000", boxes=2, longest=12, max_steps=200)
    room = env._task.level.room  # type: ignore[union-attr]
    seen = set()
    for number in range(60):
        env.reset(options={"task": f"6x6-2/train/{number:06d}"})
        room, before = env._task.level.room, 0  # type: ignore[union-attr]
        for _, reward, terminated, _, info in wandering(env, number, steps=100):
            after = room.placed(env._position[1])
            assert info["score"] == after / 2
            change = after - before
            expected = -0.1 + {1: 1.0, 0: 0.0, -1: -1.0}[change] + (10.0 if after == 2 else 0.0)
            assert reward == pytest.approx(expected)
            assert info["success"] == terminated == (after == 2)
            seen.add((change, terminated))
            before = after
    assert seen == {(0, False), (1, False), (-1, False), (1, True)}


def test_subgoals_are_boxes_on_targets_at_a_time_and_stay_reached() -> None:
    names = ("1 box is on a target", "2 boxes are on targets", "every box is on a target")
    env = begun("6x6-3/train/000000", boxes=3, longest=15)
    assert tuple(env.subgoals("6x6-3/train/000000")) == names
    assert SokobanEnv().subgoals(TASK) == ("the box is on the target",)
    actions = env.demonstration("6x6-3/train/000000", np.random.default_rng(0))
    reached = [env.step(action)[4]["subgoals"] for action in actions]
    assert reached[-1] == names
    assert all(first == second[: len(first)] for first, second in pairwise(reached))


def test_only_a_push_changes_what_a_subgoal_depends_on() -> None:
    env = begun()
    boxes = env._position[1]
    kinds = set()
    for number in range(10):
        env.reset(options={"task": TASK})
        boxes = env._position[1]
        for _, _, terminated, _, info in wandering(env, number):
            now = int(info["state_key"].split()[1], 16)
            assert info["changed"] == (now != boxes or terminated)
            kinds.add(info["changed"])
            boxes = now
    assert kinds == {True, False}


@pytest.mark.parametrize("action", ["left", "Left", " LEFT\n"])
def test_actions_are_understood_in_any_case(action: str) -> None:
    one, other = begun(), begun()
    (possible, *_) = one._task.level.room.moves(one._position)  # type: ignore[union-attr]
    word = action.replace("left", possible).replace("Left", possible.title()).replace("LEFT", possible.upper())
    assert one.step(word)[4] == other.step(possible)[4]
    assert one.step(word)[4]["valid"] or possible not in one._task.level.room.moves(one._position)  # type: ignore[union-attr]


@pytest.mark.parametrize("action", ["", "jump", "up down", "push up", "northwest", "UPP", "上"])
def test_what_is_no_move_changes_nothing_costs_a_step_and_is_told(action: str) -> None:
    env = begun(all_actions=True)
    before = env._position
    text, reward, terminated, truncated, info = env.step(action)
    assert (env._position, reward, terminated, truncated, info["valid"]) == (before, -0.1, False, False, False)
    assert text.endswith("Last action: none of up, down, left, right")


def test_a_move_into_a_wall_is_impossible_or_a_move_that_does_nothing() -> None:
    for all_actions in (False, True):
        env = begun(all_actions=all_actions)
        before, moves = env._position, env._task.level.room.moves(env._position)  # type: ignore[union-attr]
        blocked = next(action for action in ACTIONS if action not in moves)
        text, reward, _, _, info = env.step(blocked)
        assert (env._position, reward, info["valid"], info["changed"]) == (before, -0.1, all_actions, False)
        assert info["admissible_actions"] == (list(ACTIONS) if all_actions else moves)
        assert text.endswith(f"Last action: {blocked}, which moved nothing")


def stuck(env: SokobanEnv) -> tuple[str, float, bool, bool, dict[str, Any]]:
    """The answer to the step of a random episode by which the level could not be solved any more."""
    for number in range(100):
        env.reset(options={"task": f"6x6-1/train/{number:06d}"})
        for result in wandering(env, number):
            if not result[4]["solvable"]:
                return result
    raise AssertionError("no random episode got stuck")


def test_the_step_that_makes_a_level_unsolvable_is_seen_in_info_and_frame() -> None:
    text, _, terminated, _, info = stuck(SokobanEnv())
    assert info["solvable"] is False
    assert info["frame"].endswith("\ncannot be solved any more")
    assert not terminated
    assert "solved" not in text


def test_dead_ends_are_told_or_end_the_episode_as_lost_where_this_is_set() -> None:
    told = stuck(SokobanEnv(SokobanConfig(dead_ends="tell")))
    assert "\nState: cannot be solved any more\n" in told[0]
    assert not told[2]
    assert told[4]["admissible_actions"]
    ended = stuck(SokobanEnv(SokobanConfig(dead_ends="end")))
    assert ended[2]
    assert not ended[4]["success"]
    assert ended[4]["admissible_actions"] == []


def test_what_makes_it_unsolvable_is_a_push_and_nothing_makes_it_solvable_again() -> None:
    env = SokobanEnv(SokobanConfig(max_steps=60))
    seen = 0
    for number in range(40):
        _, info = env.reset(options={"task": f"6x6-1/train/{number:06d}"})
        solvable = info["solvable"]
        assert solvable
        for *_, info in wandering(env, number, steps=60):
            assert solvable or not info["solvable"]
            assert info["changed"] or info["solvable"] == solvable
            seen += solvable and not info["solvable"]
            solvable = info["solvable"]
    assert seen > 10


def test_in_a_large_room_dead_ends_are_known_where_a_rule_sees_them() -> None:
    task = "8x8-3/train/000000"
    env = begun(task, height=8, width=8, boxes=3, longest=30, max_steps=200)
    found = set()
    for number in range(5):
        env.reset(options={"task": task})
        found |= {info["solvable"] for *_, info in wandering(env, number, steps=200)}
    assert found >= {None, False}


def test_the_frame_counts_the_moves_that_are_left() -> None:
    env = begun()
    actions = env.demonstration(TASK, np.random.default_rng(0))
    _, info = env.reset(options={"task": TASK})
    left = [info["frame"], *(env.step(action)[4]["frame"] for action in actions)]
    words = [f"can be solved in {n} move{'s' if n > 1 else ''}" for n in range(len(actions), 0, -1)] + ["solved"]
    assert [frame.split("\n")[-1] for frame in left] == words
    assert all(len(frame.split("\n")) == 7 and ("@" in frame or "+" in frame) for frame in left)


def test_a_state_key_is_the_position_however_it_was_reached() -> None:
    env = begun()
    for number in range(20):
        _, info = env.reset(options={"task": TASK})
        there = {info["state_key"]: env._position}
        for *_, info in wandering(env, number):
            assert there.setdefault(info["state_key"], env._position) == env._position
        assert len(set(there.values())) == len(there)


def test_nothing_is_left_to_chance() -> None:
    env = begun()
    assert env.reseed(5) == "no chance"
    assert len({env.reset(seed=seed, options={"task": TASK})[0] for seed in range(4)}) == 1


def test_a_training_and_its_warm_start_are_configured_for_it() -> None:
    config = loading.load(["env=sokoban", "algo=gigpo", "device=cpu"])
    assert (config.env.name, config.env.context, config.env.settings.max_steps) == ("sokoban", "window", 15)
    assert envs.make("sokoban").config == config.env.settings  # type: ignore[attr-defined]
