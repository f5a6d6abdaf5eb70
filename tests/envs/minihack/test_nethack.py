"""What NetHack and MiniHack do otherwise than one would think, and what becomes of it here."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs.minihack.config import MiniHackConfig
from envs.minihack.env import MiniHackEnv
from envs.minihack.game import Game, Seeds, _choices
from envs.minihack.subgoals import Subgoals, names


def begun(level: str, number: int = 0, **settings: object) -> tuple[MiniHackEnv, str]:
    env = MiniHackEnv(MiniHackConfig([level], **settings))  # type: ignore[arg-type]
    return env, env.reset(options={"task": f"{level}/train/{number:06d}"})[0]


def test_a_game_that_ends_without_a_reward_is_lost() -> None:
    """MiniHack reports Memento's trap as a task that was successful, with reward -1."""
    rewards = {}
    for number in range(4):
        for way in ("north", "south"):
            env, _ = begun("Memento-Short-F2", number)
            for action in ["east"] * 7 + [way] * 3 + ["east"] * 4:
                observation, reward, terminated, _, info = env.step(action)
                if terminated:
                    rewards[reward > 0] = (info["success"], info["score"], "you have won" in observation, info["subgoals"])
                    break
    assert rewards[False] == (False, 0.0, False, ())
    assert rewards[True] == (True, 1.0, True, ("kill the grid bug",))


def test_a_question_that_no_action_answers_can_be_declined() -> None:
    """All stones thrown away, NetHack asks what else to throw, and takes none of this level's keys but "a"."""
    env, _ = begun("LavaCross-Levitate-Potion-Inv-Restricted", max_steps=300)
    rng = np.random.default_rng(0)
    for _ in range(250):
        *_, info = env.step("fire")
        if "esc" in info["admissible_actions"] and "north" not in info["admissible_actions"]:
            break
        actions = info["admissible_actions"]
        env.step(actions[int(rng.integers(len(actions)))])
    assert "esc" in info["admissible_actions"]
    observation, reward, terminated, _, info = env.step("esc")
    assert (reward, terminated, info["valid"]) == (-0.01, False, True)
    assert "fire" in info["admissible_actions"]
    assert "esc" not in info["admissible_actions"]
    assert "What do you want" not in observation


@pytest.mark.parametrize(("level", "task", "action"), [("Pray-Distr", 215, "pray"), ("Sink-Distr", 160, "quaff")])
def test_an_episode_is_not_won_by_what_was_done_in_the_one_before(level: str, task: int, action: str) -> None:
    """MiniHack judges the first scene by the last action of the episode before; here the agent begins on the goal."""
    env, _ = begun(level)
    env.step(action)
    env.reset(options={"task": f"{level}/train/{task:06d}"})
    _, reward, terminated, _, info = env.step("northwest")
    assert (reward > 0, terminated, info["success"]) == (False, False, False)


def test_who_wields_another_thing_has_picked_up_nothing() -> None:
    env, _ = begun("Wield")
    for action in ("wield", "b"):
        observation, *_ = env.step(action)
    assert "sling (weapon in hand)" in observation
    assert "Picked up" not in observation


def test_it_is_told_what_the_agent_stands_on() -> None:
    env, observation = begun("KeyRoom-S5")
    assert "Under you" not in observation
    for action in ("east", "east", "south"):
        observation, *_, info = env.step(action)
    assert "Under you: key" in observation
    standing = info["state_key"]
    observation, *_ = env.step("south")  # a wall
    assert "You see here" not in observation
    assert "Under you: key" in observation
    observation, *_, info = env.step("pickup")
    assert "Under you" not in observation
    assert info["state_key"] != standing
    observation, *_ = env.step("north")
    assert "Under you" not in observation


@pytest.mark.parametrize("prefix", ["fight", "move", "rush"])
def test_a_prefix_waits_for_a_direction_and_says_no_old_message(prefix: str) -> None:
    env, _ = begun("Zap")
    env.step("down")
    observation, *_, info = env.step(prefix)
    assert "You can't go down here" not in observation
    assert {"north", "southwest", "esc"} <= set(info["admissible_actions"])
    assert "zap" not in info["admissible_actions"]
    *_, info = env.step("east")
    assert "zap" in info["admissible_actions"]


@pytest.mark.parametrize(
    ("message", "letters"),
    [
        ("What do you want to eat? [ac-e or ?*]", "acde"),
        ("What do you want to wield? [- ab or ?*]", "-ab"),
        ("Really attack? [yn] (n)", "yn"),
        ("What do you want to throw? [$a or ?*]", "$a"),
        ("Hello Agent, welcome to NetHack!", ""),
    ],
)
def test_a_question_says_which_characters_answer_it(message: str, letters: str) -> None:
    assert "".join(_choices(message)) == letters


def test_a_direction_is_one_of_the_compass_down_or_oneself() -> None:
    env, _ = begun("Zap")
    *_, info = env.step("kick")
    compass = ["north", "east", "south", "west", "northeast", "southeast", "southwest", "northwest"]
    assert info["admissible_actions"] == [*compass, "down", "wait", "esc"]


def test_other_questions_for_a_direction_are_recognized() -> None:
    env, _ = begun("Zap")
    *_, info = env.step("chat")
    assert {"north", "esc"} <= set(info["admissible_actions"])


def test_a_level_of_ones_own_ends_at_the_stairs_whatever_it_is_called(tmp_path: Path) -> None:
    file = tmp_path / "mine.des"
    room = ('LEVEL: "mylevel"', 'ROOM: "ordinary" , lit, (3,3), (center,center), (4,3) {', "STAIR: (0,0), down", "}")
    file.write_text("\n".join(room))
    for name in ("ReadingRoom", "Eatery", "KeyRoom-S6"):
        env = MiniHackEnv(MiniHackConfig([name], {name: str(file)}))
        assert env.subgoals(f"{name}/train/000000") == ("reach the stairs",)
        assert env.reset(options={"task": f"{name}/train/000000"})[0].startswith("Task: reach the stairs\n")


def test_what_is_carried_from_the_start_is_no_milestone() -> None:
    assert names("LavaCross-Levitate-Potion-Inv-Full") == ("reach the stairs",)
    assert names("LavaCross-Levitate-Potion-Pickup-Full")[0] == "pick up the potion"
    assert names("WoD-Easy-Full") == ("kill the minotaur",)


@pytest.mark.parametrize("now", ["open door", "broken door", "doorway", "closed door"])
def test_a_door_is_open_when_it_is_closed_no_more(now: str) -> None:
    scene = Game("KeyRoom-S5").reset(Seeds.of("KeyRoom-S5/train/000000"))
    (row, column), *_ = np.argwhere(scene.chars == ord("+"))
    things = {**scene.things, (row, column): now}
    subgoals = Subgoals("KeyRoom-S5")
    subgoals.update(None, scene, False)
    reached = subgoals.update(scene, replace(scene, things=things), False)
    assert reached == (() if now == "closed door" else ("open the door",))


def test_what_was_carried_and_changes_its_name_was_not_picked_up() -> None:
    scene = Game("KeyRoom-S5").reset(Seeds.of("KeyRoom-S5/train/000000"))
    key, named = ("g", "a key"), ("g", "the Master Key of Thievery")
    for before, after, reached in (((), (key,), True), ((key,), (named,), False), ((key,), (), False)):
        subgoals = Subgoals("KeyRoom-S5")
        scenes = (replace(scene, inventory=before), replace(scene, inventory=after))
        assert bool(subgoals.update(*scenes, False)) is reached


def test_stairs_that_were_in_sight_at_the_start_are_sighted_by_no_step() -> None:
    game = Game("CorridorBattle")
    for number in range(40):
        rng, subgoals = np.random.default_rng(number), Subgoals("CorridorBattle")
        scene = game.reset(Seeds.of(f"CorridorBattle/train/{number:06d}"))
        first = "staircase down" in scene.things.values()
        subgoals.update(None, scene, False)
        for _ in range(60):
            before = scene
            scene, _, end = game.step(list(game.possible)[int(rng.integers(len(game.possible)))])
            reached = subgoals.update(before, scene, end == "won")
            assert not (first and "see the stairs" in reached)
            if end:
                break


def test_games_in_threads_leave_the_warnings_of_the_process_as_they_were() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: Game("Room-5x5").reset(Seeds(n, n)).key, range(16)))
    assert list(warnings.filters) == before
