"""Generated games: reproducible, in official proportions, sensible, and playable by the official engine."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections import Counter

import numpy as np
import orjson
import pytest

from envs.alfworld import vocabulary
from envs.alfworld.catalogue import KINDS, ROOMS
from envs.alfworld.engine import Engine
from envs.alfworld.game import Game, load_game, parse_game
from envs.alfworld.generator import generate, write_game
from envs.alfworld.goals import TASK_TYPES
from envs.alfworld.household import SIZES, household
from envs.common.seeding import generator

SEEDS = range(25)


@pytest.fixture(scope="module")
def games() -> dict[str, list[Game]]:
    """Games of every type, by size."""
    return {
        size: [parse_game(generate(kind, size, seed), f"{size} {kind} {seed}") for kind in TASK_TYPES for seed in SEEDS]
        for size in SIZES
    }


def digest(size: str) -> str:
    files = [orjson.dumps(generate(kind, size, seed)) for kind in TASK_TYPES for seed in range(2)]  # type: ignore[arg-type]
    return hashlib.sha256(b"".join(files)).hexdigest()[:16]


def test_seeds_give_the_games_they_always_gave() -> None:
    # A change here changes every split: raise generator.VERSION with it.
    assert {size: digest(size) for size in SIZES} == {"small": "b1de20b5fac16095", "full": "118018187c540d2c"}


def test_a_game_does_not_depend_on_what_was_generated_before() -> None:
    alone = generate("pick_two_obj_and_place", "small", 7)
    generate("look_at_obj_in_light", "full", 1)
    assert generate("pick_two_obj_and_place", "small", 7) == alone


def test_seeds_types_and_sizes_give_different_games() -> None:
    problems = {generate(kind, size, seed)["pddl_problem"] for kind in TASK_TYPES for size in SIZES for seed in range(10)}
    assert len(problems) == len(TASK_TYPES) * len(SIZES) * 10


def test_small_games_have_eight_receptacles_and_eight_objects_of_few_kinds(games: dict[str, list[Game]]) -> None:
    for game in games["small"]:
        assert len(game.receptacles) == len(game.objects) == 8
        assert max(Counter(receptacle.type for receptacle in game.receptacles).values()) <= 4
        assert max(Counter(item.type for item in game.objects).values()) <= 3


def test_full_games_have_official_proportions(games: dict[str, list[Game]]) -> None:
    for game in games["full"]:
        assert 7 <= len(game.receptacles) <= 54
        assert 19 <= len(game.objects) <= 76


def test_small_games_hide_about_a_third_of_their_objects(games: dict[str, list[Game]]) -> None:
    hidden = [game.receptacles[item.places[0]].openable for game in games["small"] for item in game.objects]
    assert 0.2 < np.mean(hidden) < 0.6


def test_objects_begin_where_such_things_are_found(games: dict[str, list[Game]]) -> None:
    for game in games["small"] + games["full"]:
        for item in game.objects:
            for place in item.places:
                kind = game.receptacles[place].type
                assert kind.removesuffix("Type") in KINDS[item.type.removesuffix("Type")].found
                assert (kind, item.type) in game.can_contain


def test_a_target_begins_in_many_kinds_of_places(games: dict[str, list[Game]]) -> None:
    drawn = [household("pick_heat_then_place_in_recep", "small", generator(seed, "targets")) for seed in range(200)]
    for name in ("Apple", "Mug"):
        places = {home.receptacles[place] for home in drawn for kind, place in home.objects if kind == name == home.target}
        assert len(places) >= 4


def test_no_game_is_won_at_the_start_or_unnamed(games: dict[str, list[Game]]) -> None:
    for game in games["small"] + games["full"]:
        assert not Engine(game).won
        assert game.goal.object.removesuffix("Type").lower() in game.task.split()


def test_every_type_of_task_comes_in_two_wordings(games: dict[str, list[Game]]) -> None:
    for kind in TASK_TYPES:
        tasks = [game.task for game in games["small"] if game.task_type == kind]
        assert 5 < sum(task.startswith(("put a ", "put two ", "look at ")) for task in tasks) < len(tasks) - 5


@pytest.mark.parametrize("size", SIZES)
def test_the_vocabulary_covers_every_text(games: dict[str, list[Game]], size: str) -> None:
    known = set(vocabulary.names(size))  # type: ignore[arg-type]
    for game in games[size]:
        texts = [Engine(game).reset()] + [item.name for item in game.objects if item.places]
        assert known.issuperset(re.findall(r"[a-z]+ \d+", " ".join(texts)))


def test_the_full_vocabulary_covers_official_games(official_games: list[Game]) -> None:
    known = set(vocabulary.names("full"))
    for game in official_games:
        assert known.issuperset(receptacle.name for receptacle in game.receptacles)
        assert known.issuperset(item.name for item in game.objects if item.places)
        assert {item.name.split()[0] for item in game.objects if not item.places} <= {*vocabulary.types(), *vocabulary.SCENERY}


def test_rooms_only_hold_what_the_tables_know() -> None:
    accepted = {place for kind in KINDS.values() for place in kind.accepted}
    for room in ROOMS.values():
        assert set(room.objects) | set(room.small_objects) <= set(KINDS)
        assert set(room.small_objects) <= set(room.objects)
        assert set(room.small_receptacles) <= set(room.receptacles) <= accepted | {"Toaster"}
        assert sum(least for least, _ in room.small_receptacles.values()) <= 8
        assert not room.small_objects or sum(most for _, most in room.small_receptacles.values()) >= 8


def test_an_unknown_type_or_size_names_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match="pick_and_place_simple"):
        generate("pick_up", "small", 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="small, full"):
        generate("pick_and_place_simple", "tiny", 0)  # type: ignore[arg-type]


def test_a_written_game_is_read_back(tmp_path: pytest.TempPathFactory) -> None:
    data = generate("pick_cool_then_place_in_recep", "full", 3)
    path = tmp_path / "task" / "trial" / "game.tw-pddl"  # type: ignore[operator]
    write_game(path, data)
    assert load_game(path).hash == parse_game(data, "here").hash


@pytest.mark.skipif(importlib.util.find_spec("textworld") is None, reason="needs the extra alfworld")
@pytest.mark.parametrize("kind", ["look_at_obj_in_light", "pick_heat_then_place_in_recep"])
def test_the_official_engine_plays_a_generated_game_alike(kind: str) -> None:
    from envs.alfworld.textworld_backend import TextWorldEngine

    data = generate(kind, "small", 0)  # type: ignore[arg-type]
    ours, official = Engine(parse_game(data, "here")), TextWorldEngine(data, "here")
    try:
        assert ours.reset() == official.reset()
        for command in ["look", *data["walkthrough"]]:
            assert ours.admissible == official.admissible
            assert ours.step(command) == official.step(command)
        assert ours.won
        assert official.won
    finally:
        official.close()
