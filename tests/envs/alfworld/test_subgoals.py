"""Subgoals: reached in order, never lost, and all of them exactly in games that were won."""

from __future__ import annotations

import numpy as np
import pytest

from envs.alfworld.engine import Engine
from envs.alfworld.game import Game, parse_game
from envs.alfworld.generator import generate
from envs.alfworld.goals import TASK_TYPES, TaskType
from envs.alfworld.planner import plan
from envs.alfworld.subgoals import NAMES, Subgoals


def game_of(kind: TaskType, seed: int = 0) -> Game:
    return parse_game(generate(kind, "small", seed), f"{kind} {seed}")


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_a_plan_reaches_them_in_order_and_all_of_them_with_its_last_command(kind: TaskType) -> None:
    for seed in range(20):
        game = game_of(kind, seed)
        engine, subgoals = Engine(game), Subgoals(game)
        assert subgoals.update(engine) == ()
        for command in plan(game):
            engine.step(command)
            reached = subgoals.update(engine)
            assert reached == NAMES[kind][: len(reached)]
            assert (reached == NAMES[kind]) == engine.won


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_they_are_never_lost_and_complete_only_by_winning(kind: TaskType) -> None:
    rng = np.random.default_rng(0)
    for seed in range(10):
        game = game_of(kind, seed)
        engine, subgoals = Engine(game), Subgoals(game)
        before: tuple[str, ...] = ()
        won = False
        for _ in range(200):
            busy = [c for c in engine.admissible if not c.startswith(("go ", "look", "help", "inventory", "examine"))]
            options = busy if busy and rng.random() < 0.6 else engine.admissible
            engine.step(options[int(rng.integers(len(options)))])
            reached = subgoals.update(engine)
            won = won or engine.won
            assert set(reached) >= set(before)
            assert (len(reached) == len(NAMES[kind])) == won
            before = reached


def test_what_is_put_back_was_still_held() -> None:
    game = game_of("pick_clean_then_place_in_recep")
    engine, subgoals = Engine(game), Subgoals(game)
    commands = plan(game)
    taking = next(i for i, command in enumerate(commands) if command.startswith("take "))
    for command in commands[: taking + 1]:
        engine.step(command)
        reached = subgoals.update(engine)
    assert reached == ("hold target",)
    item, place = commands[taking].removeprefix("take ").split(" from ")
    assert engine.step(f"move {item} to {place}")[1]
    assert subgoals.update(engine) == ("hold target",)


def test_a_wrong_object_reaches_nothing() -> None:
    game = game_of("pick_and_place_simple")
    engine, subgoals = Engine(game), Subgoals(game)
    wrong = next(item for item in game.objects if item.type != game.goal.object and "pickupable" in item.abilities)
    place = game.receptacles[wrong.places[0]]
    for command in (f"go to {place.name}", f"open {place.name}", f"take {wrong.name} from {place.name}"):
        engine.step(command)
    assert engine.held is not None
    assert subgoals.update(engine) == ()


def test_official_plans_reach_all(official_games: list[Game]) -> None:
    for game in official_games:
        engine, subgoals = Engine(game), Subgoals(game)
        for command in plan(game):
            assert len(subgoals.update(engine)) < len(subgoals.names)
            engine.step(command)
        assert subgoals.update(engine) == subgoals.names
