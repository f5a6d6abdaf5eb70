import json
import re
from itertools import pairwise

import gymnasium
import pytest

import envs
from envs.alfworld import planner, tasks
from envs.alfworld.config import ALFWorldConfig
from envs.alfworld.env import ALFWorldEnv
from envs.base import TaskError
from envs.checker import check
from envs.common.seeding import generator
from envs.common.structured import ConfigError
from tests.envs.alfworld import games


def won(env, task):
    """Play the planner's commands; returns every step's outcome."""
    env.reset(seed=0, options={"task": task})
    return [env.step(command) for command in planner.plan(tasks.load(env.config, task))]


@pytest.fixture
def official(tmp_path):
    """A folder in the official layout: two good games, one broken, one cut short."""
    text = json.dumps(games.contents(walkthrough=["look"]))
    for trial, body in (
        ("trial_1", text),
        ("trial_2", text),
        ("trial_3", text[:500]),
        ("trial_4", text.replace("(:goal", "(:gaol")),
    ):
        folder = tmp_path / "train" / "pick_and_place_simple-Apple-None-Fridge-1" / trial
        folder.mkdir(parents=True)
        (folder / "game.tw-pddl").write_text(body)
    return ALFWorldConfig(source="official", data=str(tmp_path))


def test_it_is_made_by_name_and_by_gymnasium():
    for env in (
        envs.make("alfworld", size="full", max_steps=7),
        gymnasium.make("stepcredit/ALFWorld-v0", size="full", max_steps=7),
    ):
        observation, info = env.reset(seed=3)
        assert observation.startswith("-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room.")
        assert info["task_id"].startswith("full/train/")
        assert (env.unwrapped.max_steps, env.unwrapped.name) == (7, "alfworld")


def test_it_keeps_the_contract_of_environments():
    assert check("alfworld") == []


@pytest.mark.parametrize("kind", range(6))
def test_winning_ends_the_episode_with_the_reward_and_all_subgoals(kind):
    env = ALFWorldEnv(ALFWorldConfig(success_reward=3.0))
    outcomes = won(env, env.tasks("train")[kind])
    assert [(reward, terminated, truncated) for _, reward, terminated, truncated, _ in outcomes] == [
        *[(0.0, False, False)] * (len(outcomes) - 1),
        (3.0, True, False),
    ]
    infos = [info for *_, info in outcomes]
    assert [info["success"] for info in infos] == [False] * (len(infos) - 1) + [True]
    assert [info["score"] for info in infos] == [0.0] * (len(infos) - 1) + [1.0]
    assert all(set(before["subgoals"]) <= set(after["subgoals"]) for before, after in pairwise(infos))
    assert len(infos[-1]["subgoals"]) >= 2
    with pytest.raises(RuntimeError):
        env.step("look")


def test_a_timeout_is_truncated_and_never_a_success():
    env = ALFWorldEnv(ALFWorldConfig(max_steps=2))
    env.reset(seed=0)
    env.step("look")
    _, reward, terminated, truncated, info = env.step("look")
    assert (reward, terminated, truncated, info["success"], info["reason"]) == (0.0, False, True, False, "time_limit")


def test_an_impossible_action_is_told_and_the_episode_goes_on():
    env = ALFWorldEnv()
    _, start = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step("dance on the table")
    assert (observation, reward, terminated, truncated, info["valid"]) == ("Nothing happens.", 0.0, False, False, False)
    assert info["state_key"] == start["state_key"]
    assert info["admissible_actions"] == start["admissible_actions"]


def test_lists_of_actions_belong_to_the_caller():
    env = ALFWorldEnv()
    _, info = env.reset(seed=0)
    expected = list(info["admissible_actions"])
    info["admissible_actions"].clear()
    *_, info = env.step("dance")
    assert info["admissible_actions"] == expected


def test_an_episode_does_not_depend_on_what_was_played_before():
    env, fresh = ALFWorldEnv(), ALFWorldEnv()
    first, other = env.tasks("train")[:2]
    for task in (first, first, other, first):
        again = [env.reset(seed=1, options={"task": task}), *(env.step(c) for c in ("go to cabinet 1", "look"))]
        new = [fresh.reset(seed=1, options={"task": task}), *(fresh.step(c) for c in ("go to cabinet 1", "look"))]
        assert again == new
        fresh = ALFWorldEnv()


def test_demonstrations_win_within_the_limit():
    env = ALFWorldEnv(ALFWorldConfig(max_steps=20))
    for task in env.tasks("train")[:12]:
        commands = env.imperfect_demonstration(task, generator(0, task), detours=0.5, suboptimal=False)
        assert len(commands) <= 20
        env.reset(seed=0, options={"task": task})
        assert [env.step(command)[2] for command in commands] == [False] * (len(commands) - 1) + [True]


def test_official_games_are_read_from_their_folder(official):
    env = ALFWorldEnv(official)
    task = "train/pick_and_place_simple-Apple-None-Fridge-1/trial_1"
    assert task in env.tasks("train")
    observation, _ = env.reset(seed=0, options={"task": task})
    assert observation.endswith("Your task is to: put a apple in sinkbasin.")
    assert won(env, task)[-1][2]


@pytest.mark.fault("a damaged game", lost="its task")
def test_one_bad_file_never_stops_a_split(official):
    env = ALFWorldEnv(official)
    for task in env.tasks("train"):
        if task.endswith(("trial_3", "trial_4")):
            with pytest.raises(TaskError, match=re.escape(task)):
                env.reset(seed=0, options={"task": task})
        else:
            env.reset(seed=0, options={"task": task})
            assert env.step("look")[4]["valid"]
    assert len(env.tasks("train")) == 4


def test_after_a_refused_task_there_is_no_episode(official):
    env = ALFWorldEnv(official)
    good, *_, bad = sorted(env.tasks("train"))
    env.reset(seed=0, options={"task": good})
    with pytest.raises(TaskError):
        env.reset(seed=0, options={"task": bad})
    env.reset(seed=0, options={"task": good})
    assert env.step("look")[4]["task_id"] == good


def test_an_unknown_task_is_a_task_error(official):
    with pytest.raises(TaskError, match="no generated task 'kitchen'"):
        ALFWorldEnv().reset(seed=0, options={"task": "kitchen"})
    with pytest.raises(TaskError, match=r"no official task '\.\./x'"):
        ALFWorldEnv(official).reset(seed=0, options={"task": "../x"})


def test_wrong_settings_are_named():
    with pytest.raises(ConfigError, match=r"alfworld\.source is 'offical'; allowed: generated, official"):
        envs.make("alfworld", source="offical")
    with pytest.raises(ConfigError, match=r"Did you mean 'alfworld\.max_steps'"):
        envs.make("alfworld", max_step=3)
    for key in ("train_games", "eval_games", "test_games", "max_steps"):
        with pytest.raises(ValueError, match=f"{key} is 0"):
            envs.make("alfworld", **{key: 0})


def test_a_missing_official_engine_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fast_downward", None)
    with pytest.raises(ImportError, match=r"pip install 'stepcredit\[alfworld\]'"):
        ALFWorldEnv(ALFWorldConfig(backend="textworld"))


def test_the_official_engine_plays_the_same_episode():
    pytest.importorskip("fast_downward", reason="the official engine is not installed: pip install 'stepcredit[alfworld]'")
    native, official = ALFWorldEnv(), ALFWorldEnv(ALFWorldConfig(backend="textworld"))
    for task in native.tasks("train")[:2]:
        commands = ["look", "dance", *planner.plan(tasks.load(native.config, task))]
        assert native.reset(seed=0, options={"task": task}) == official.reset(seed=0, options={"task": task})
        for command in commands:
            assert native.step(command) == official.step(command)
    official.close()
