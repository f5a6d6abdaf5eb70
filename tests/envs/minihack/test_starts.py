"""Held-out starts: no task of eval or test begins like one of training, the same way every time."""

from __future__ import annotations

import numpy as np
import pytest

from envs.base import SPLITS, Split, TaskError
from envs.minihack import starts
from envs.minihack.config import MiniHackConfig
from envs.minihack.env import MiniHackEnv
from envs.minihack.game import Game, Seeds

APART = MiniHackConfig(["KeyRoom-S5"], train_tasks=150, eval_tasks=20, test_tasks=20, held_out_starts=True)


def begun(env: MiniHackEnv, split: Split) -> set[object]:
    found: set[object] = set()
    for task in env.tasks(split):
        env.start(task, np.random.default_rng(0))
        assert env._scene is not None
        found.add(starts.start(env._scene))
    return found


def test_splits_have_no_start_in_common() -> None:
    env = MiniHackEnv(APART)
    train, evaluated, tested = (begun(env, split) for split in SPLITS)
    assert len(train) > 100
    assert len(evaluated) > 10
    assert not train & evaluated
    assert not train & tested
    assert not evaluated & tested


def test_the_oracle_plays_the_start_that_the_agent_gets() -> None:
    env = MiniHackEnv(APART)
    task = env.tasks("test")[0]
    turn = env.start(task, np.random.default_rng(0))
    for action in env.demonstration(task, np.random.default_rng(0)):
        turn = env.act(action)
    assert turn.success


def test_a_level_with_a_single_start_says_that_none_can_be_held_out() -> None:
    env = MiniHackEnv(MiniHackConfig(["Room-5x5"], held_out_starts=True))
    whose = starts.belongs(Game("Room-5x5").reset(Seeds(1, 1)))
    for split in SPLITS:
        task = env.tasks(split)[0]
        if split == whose:
            env.start(task, np.random.default_rng(0))
        else:
            with pytest.raises(TaskError, match=r"Set env\.held_out_starts=false"):
                env.start(task, np.random.default_rng(0))


def test_the_setting_changes_the_hash_of_splits_and_no_task_without_it() -> None:
    env = MiniHackEnv(MiniHackConfig(["KeyRoom-S5"]))
    assert MiniHackEnv(APART).split_hash("train") != MiniHackEnv(MiniHackConfig(["KeyRoom-S5"], train_tasks=150)).split_hash(
        "train"
    )
    with_game = Game("KeyRoom-S5")
    assert env.seeds(with_game, "KeyRoom-S5/eval/000001") == Seeds.of("KeyRoom-S5/eval/000001")


def test_a_tenth_of_all_starts_is_kept_for_each_held_out_split() -> None:
    game = Game("MazeWalk-9x9")
    counts = [starts.belongs(game.reset(Seeds(n, n))) for n in range(300)]
    assert 10 < counts.count("eval") < 60
    assert 10 < counts.count("test") < 60


@pytest.mark.parametrize("number", [0, 3])
def test_seeds_are_functions_of_the_task(number: int) -> None:
    assert Seeds.of("KeyRoom-S5/train/000042", number) == Seeds.of("KeyRoom-S5/train/000042", number)
    assert Seeds.of("KeyRoom-S5/train/000042", number) != Seeds.of("KeyRoom-S5/train/000042", number + 1)
