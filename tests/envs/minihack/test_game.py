"""A level of MiniHack: the same episode for the same seeds wherever it is played, and how it ends."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from envs.base import TaskError
from envs.minihack.game import Game, Seeds, _name

WAYS = ("north", "east", "south", "west", "pickup", "apply")


def played(number: int) -> list[tuple[str, str, float]]:
    """Key, message and reward at each step of random actions in a game of its own."""
    game, rng = Game("KeyRoom-S5"), np.random.default_rng(number)
    scene = game.reset(Seeds.of(f"KeyRoom-S5/train/{number:06d}"))
    record = [(scene.key, scene.message, 0.0)]
    for _ in range(60):
        scene, reward, end = game.step(WAYS[int(rng.integers(len(WAYS)))])
        record.append((scene.key, scene.message, reward))
        if end:
            break
    game.close()
    return record


def test_equal_seeds_give_equal_episodes_in_one_thread_and_in_sixteen() -> None:
    alone = [played(number) for number in range(16)]
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(played, range(16))) == alone
    assert len({record[0][0] for record in alone}) > 8


def test_a_game_begun_again_is_the_same_whatever_was_played_before() -> None:
    game = Game("KeyRoom-S5")
    first = game.reset(Seeds(1, 2)).key
    for action in WAYS:
        game.step(action)
    assert game.reset(Seeds(3, 4)).key != first
    assert game.reset(Seeds(1, 2)).key == first


def test_a_scene_that_is_kept_does_not_change() -> None:
    game = Game("KeyRoom-S5")
    scene = game.reset(Seeds(1, 2))
    key, chars = scene.key, scene.chars.copy()
    for action in ("north", "south", "east", "west"):
        game.step(action)
    assert scene.key == key
    assert np.array_equal(scene.chars, chars)


def test_luck_comes_from_the_seed_and_not_from_todays_moon() -> None:
    game = Game("KeyRoom-S5")
    messages = {game.reset(Seeds(number, number)).message for number in range(60)}
    assert any("Full moon" in message for message in messages)
    assert any("New moon" in message for message in messages)


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(TaskError, match="no level 'KeyRoom-S6'"):
        Game("KeyRoom-S6")


@pytest.mark.parametrize("level", ["KeyRoom-S5", "Room-Ultimate-15x15", "Quest-Hard", "Zap"])
def test_every_action_of_a_level_has_a_name_of_its_own(level: str) -> None:
    game = Game(level)
    names = {_name(action) for action in game._nle.actions[:-1]}  # the last one only declines questions
    assert len(names) == len(game._nle.actions) - 1
    assert game.actions.keys() == names - {"shell", "jump"}
    assert {"north", "southwest"} <= game.actions.keys()
