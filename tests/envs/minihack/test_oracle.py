"""The oracle wins levels that it has not seen, and what it achieves on the way is told by the rules, each once."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from envs.base import NoOracle, Unsolvable
from envs.minihack.game import Game, Seeds
from envs.minihack.oracle import demonstration
from envs.minihack.subgoals import Subgoals


def events(game: Game, seeds: Seeds, actions: list[str]) -> tuple[list[tuple[int, str]], str | None]:
    """(step, subgoal) as they come, and how the episode ended."""
    subgoals, before, end = Subgoals(game.level), game.reset(seeds), None
    known = subgoals.update(None, before, False)
    found = []
    for number, action in enumerate(actions):
        after, _, end = game.step(action)
        now = subgoals.update(before, after, end == "won")
        found += [(number, name) for name in now if name not in known]
        before, known = after, now
    return found, end


def winnable(game: Game, count: int, detours: float = 0.0) -> list[tuple[Seeds, list[str]]]:
    """Levels out of `count` that the oracle wins, with its way."""
    won = []
    for number in range(count):
        seeds = Seeds.of(f"{game.level}/train/{number:06d}")
        with suppress(Unsolvable):
            won.append((seeds, demonstration(game, seeds, np.random.default_rng(number), detours, limit=400)))
    return won


def test_it_finds_the_key_that_it_stands_on() -> None:
    """Some agents begin on the key, which the map then does not show."""
    game = Game("KeyRoom-S5")
    assert len(winnable(game, 60)) == 60


@pytest.mark.parametrize("level", ["KeyRoom-S5", "KeyRoom-S15", "Room-15x15", "Corridor-R2", "MazeWalk-9x9"])
def test_it_wins_with_and_without_detours(level: str) -> None:
    game = Game(level)
    straight, roundabout = winnable(game, 10), winnable(game, 10, detours=0.5)
    assert [seeds for seeds, _ in straight] == [seeds for seeds, _ in roundabout]
    assert len(straight) >= 6
    for seeds, actions in [*straight, *roundabout]:
        assert events(game, seeds, actions)[1] == "won"


def test_key_door_and_stairs_are_told_in_their_order_and_once() -> None:
    game = Game("KeyRoom-S5")
    orders = set()
    for seeds, actions in winnable(game, 20):
        found, end = events(game, seeds, actions)
        assert end == "won"
        orders.add(tuple(name for _, name in found))
    whole = ("pick up the key", "open the door", "reach the stairs")
    # Where the agent begins behind the door, the stairs are all there is to do.
    assert orders - {whole[2:]} == {whole}


def test_the_key_is_picked_up_when_it_is_carried_and_the_door_open_when_the_map_says_so() -> None:
    game = Game("KeyRoom-S5")
    for seeds, actions in winnable(game, 20):
        told = {name: step for step, name in events(game, seeds, actions)[0]}
        scene = game.reset(seeds)
        doors = {tuple(place) for place in np.argwhere(scene.chars == ord("+")).tolist()}
        for step, action in enumerate(actions):
            scene, _, end = game.step(action)
            if end:
                break
            carried = any("key" in text.lower() for _, text in scene.inventory)
            assert carried == (told.get("pick up the key", len(actions)) <= step)
            doors |= {tuple(place) for place in np.argwhere(scene.chars == ord("+")).tolist()}
            closed = any(scene.described(*place) == "closed door" for place in doors)
            assert closed == (bool(doors) and told.get("open the door", len(actions)) > step)


def test_it_says_so_where_it_cannot_win() -> None:
    with pytest.raises(NoOracle, match="Quest-Hard"):
        demonstration(Game("Quest-Hard"), Seeds(1, 2), np.random.default_rng(0))
    with pytest.raises(Unsolvable, match="max_steps=2"):
        demonstration(Game("KeyRoom-S5"), Seeds.of("KeyRoom-S5/train/000000"), np.random.default_rng(0), limit=2)


def test_one_who_dawdles_wins_or_runs_out_of_time() -> None:
    """And does not stop half-way: this one walked where it saw no way on."""
    game = Game("KeyRoom-S5")
    for number in range(740, 760):
        seeds = Seeds.of(f"KeyRoom-S5/train/{number:06d}")
        for detours in (0.0, 0.9):
            actions = demonstration(game, seeds, np.random.default_rng(number), detours, suboptimal=True, limit=100)
            assert events(game, seeds, actions)[1] == "won" or len(actions) == 100
