"""Plans win, and demonstrations win as a searching agent would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs.alfworld import planner
from envs.alfworld.engine import Engine
from envs.alfworld.game import Game, parse_game
from envs.alfworld.generator import generate
from envs.alfworld.goals import TASK_TYPES
from envs.alfworld.household import SIZES
from envs.alfworld.planner import demonstration, plan
from envs.base import TaskError

LIMIT = 20


@pytest.fixture(scope="module")
def games() -> list[Game]:
    """600 games, 100 of each type."""
    return [
        parse_game(generate(kind, size, seed), f"{size} {kind} {seed}")
        for kind in TASK_TYPES
        for size in SIZES
        for seed in range(50)
    ]


def play(game: Game, commands: list[str]) -> Engine:
    """An engine after commands that are all possible, of which only the last may win."""
    engine = Engine(game)
    for command in commands:
        assert not engine.won, f"{game.source}: won before '{command}' of {commands}"
        assert engine.step(command)[1], f"{game.source}: '{command}' of {commands} is impossible"
    return engine


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def targets(game: Game) -> set[str]:
    return {item.name for item in game.objects if item.type == game.goal.object}


def test_every_generated_game_is_won_by_its_plan(games: list[Game]) -> None:
    for game in games:
        commands = plan(game)
        assert play(game, commands).won
        assert len(commands) <= 12
        assert tuple(commands) == game.walkthrough


def test_demonstrations_win_within_the_limit(games: list[Game]) -> None:
    for i, game in enumerate(games):
        for detours in (0.0, 0.4, 1.0):
            commands = demonstration(game, rng(i), detours, LIMIT)
            assert play(game, commands).won
            assert len(commands) <= LIMIT


def test_demonstrations_take_nothing_but_targets(games: list[Game]) -> None:
    for i, game in enumerate(games):
        taken = [command for command in demonstration(game, rng(i), 1.0, LIMIT) if command.startswith("take ")]
        assert {command.split(" from ")[0].removeprefix("take ") for command in taken} <= targets(game)


def test_dawdling_changes_nothing_and_happens_as_often_as_said(games: list[Game]) -> None:
    idle = total = 0
    for i, game in enumerate(games):
        assert "look" not in demonstration(game, rng(i), 1.0, LIMIT)
        engine = Engine(game)
        commands = demonstration(game, rng(i), 0.0, 400, suboptimal=True)
        for command in commands:
            before = engine.state_key
            engine.step(command)
            assert command != "look" or engine.state_key == before
        idle, total = idle + commands.count("look"), total + len(commands)
    # At probability p there is p / (1 - p) of it before each command, so a share p of all.
    assert planner.IDLE - 0.05 < idle / total < planner.IDLE + 0.05


def test_one_that_dawdles_wins_or_runs_out_of_steps(games: list[Game]) -> None:
    won = 0
    for i, game in enumerate(games):
        assert play(game, demonstration(game, rng(i), 0.9, 400, suboptimal=True)).won
        commands = demonstration(game, rng(i), 0.9, 20, suboptimal=True)
        won += play(game, commands).won
        assert play(game, commands).won or len(commands) == 20
    assert won < len(games) / 2


def visited_in_vain(commands: list[str]) -> list[str]:
    """Places that were gone to and, opened or not, left again without doing anything."""
    acts = [command for command in commands if not command.startswith(("open ", "look"))]
    pairs = zip(acts, [*acts[1:], "end"])
    return [here.removeprefix("go to ") for here, then in pairs if here.startswith("go to ") and then.startswith("go to ")]


def test_without_detours_no_place_is_visited_in_vain(games: list[Game]) -> None:
    for i, game in enumerate(games):
        assert not visited_in_vain(demonstration(game, rng(i), 0.0, LIMIT))


def test_detours_visit_other_places_first_and_none_twice(games: list[Game]) -> None:
    counts = []
    for i, game in enumerate(games):
        wrong = visited_in_vain(demonstration(game, rng(i), 1.0, LIMIT))
        assert len(wrong) == len(set(wrong)) <= 6  # two searches of 3
        counts.append(len(wrong))
    assert np.mean(np.array(counts) > 0) > 0.9
    assert set(counts) >= {1, 2, 3}


def test_detours_never_pass_by_what_is_searched(games: list[Game]) -> None:
    for i, game in enumerate(games):
        places = [place for item in game.objects if item.name in targets(game) for place in item.places]
        holding = {game.receptacles[place].name for place in places}
        commands = demonstration(game, rng(i), 1.0, LIMIT)
        taking = next(i for i, command in enumerate(commands) if command.startswith("take "))
        assert not holding.intersection(visited_in_vain(commands[:taking]))


def test_detours_happen_as_often_as_asked(games: list[Game]) -> None:
    simple = [game for game in games if game.task_type == "pick_and_place_simple"]
    share = np.mean([bool(visited_in_vain(demonstration(game, rng(i), 0.4, LIMIT))) for i in range(10) for game in simple])
    assert 0.3 < share < 0.5


def test_demonstrations_of_a_seed_are_equal(games: list[Game]) -> None:
    assert demonstration(games[0], rng(5), 1.0, LIMIT) == demonstration(games[0], rng(5), 1.0, LIMIT)


def test_a_limit_that_no_plan_fits_is_an_error(games: list[Game]) -> None:
    with pytest.raises(TaskError, match=r"env\.max_steps=2"):
        demonstration(games[0], rng(0), 0.4, limit=2)


def test_an_impossible_task_is_an_error(games: list[Game]) -> None:
    with pytest.raises(TaskError, match="cannot be done"):
        plan(replace(games[0], can_contain=frozenset()))


def test_official_games_are_won_by_plans_and_demonstrations(official_games: list[Game]) -> None:
    for i, game in enumerate(official_games):
        assert play(game, plan(game)).won
        assert play(game, demonstration(game, rng(i), 1.0, LIMIT)).won
