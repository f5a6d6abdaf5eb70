"""Which positions can be solved, and in how many moves: checked against trying everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.sokoban.board import Level, Position, Room, cells
from envs.sokoban.deadends import dead_squares, is_dead_end
from envs.sokoban.distances import distances
from envs.sokoban.generator import dug
from envs.sokoban.search import GaveUp, descended, search


def by_trying(room: Room, start: Position) -> int | None:
    """Moves of a shortest solution, forwards, by breadth-first search with the rules alone; None if there is none."""
    layer, seen, moves = [start], {start}, 0
    while layer:
        if any(boxes == room.targets for _, boxes in layer):
            return moves
        further = []
        for position in layer:
            for action in room.moves(position):
                after = room.moved(position, action)
                if after is not None and after not in seen:
                    seen.add(after)
                    further.append(after)
        layer, moves = further, moves + 1
    return None


@st.composite
def positions(draw: st.DrawFn) -> tuple[Room, Position]:
    """Any position of a small room with one to three boxes, solvable or not."""
    boxes = draw(st.integers(1, 3))
    room = dug(draw(st.integers(5, 6)), draw(st.integers(5, 6)), boxes, np.random.default_rng(draw(st.integers(0, 10**6))))
    chosen = draw(st.permutations(list(cells(room.floor))))[: boxes + 1]
    return room, (chosen[0], sum(1 << cell for cell in chosen[1:]))


def wins(room: Room, position: Position, actions: list[str]) -> bool:
    for action in actions:
        after = room.moved(position, action)
        assert after is not None
        position = after
    return position[1] == room.targets


@settings(max_examples=60, deadline=None)
@given(positions())
def test_what_is_called_a_dead_end_is_one_and_distances_and_search_are_exact(case: tuple[Room, Position]) -> None:
    room, position = case
    truth = by_trying(room, position)
    if is_dead_end(room, position[1], dead_squares(room)):
        assert truth is None
    known = distances(room)
    assert known.get(position) == truth
    for solution in (search(room, position), descended(room, known, position)):
        assert (None if solution is None else len(solution)) == truth
        assert solution is None or wins(room, position, solution)


@pytest.mark.parametrize(
    "drawing",
    [
        "#####\n#$_@#\n#__.#\n#####",  # in a corner
        "######\n#_$__#\n#@___#\n#_.__#\n######",  # along a wall without a target
        "######\n#_$$_#\n#@...#\n#_$__#\n######",  # two boxes hold each other at the wall
        "######\n#____#\n#_$$_#\n#_$$@#\n#....#\n######",  # four in a square
        "######\n##$_@#\n#_$._#\n#_._##\n######",  # walls on both sides of a pair
    ],
)
def test_usual_dead_ends_are_found(drawing: str) -> None:
    level = Level.read(drawing)
    assert is_dead_end(level.room, level.start[1], dead_squares(level.room))


@pytest.mark.parametrize(
    "drawing",
    [
        "#####\n#@$.#\n#####",
        "######\n#_**_#\n#@___#\n#__$.#\n######",  # frozen, but on their targets
        "######\n#_*$_#\n#@_._#\n######",  # along a wall, one of them with a target there
    ],
)
def test_boxes_that_are_where_they_belong_are_no_dead_end(drawing: str) -> None:
    level = Level.read(drawing)
    assert not is_dead_end(level.room, level.start[1] & level.room.targets, dead_squares(level.room))


def test_a_dead_end_that_no_rule_sees_is_known_by_the_distances_and_the_search() -> None:
    """The box would have to be pushed from where the player cannot go."""
    level = Level.read("######\n#.@$_#\n######")
    assert not is_dead_end(level.room, level.start[1], dead_squares(level.room))
    assert by_trying(level.room, level.start) is None
    assert level.start not in distances(level.room)
    assert search(level.room, level.start) is None


def test_a_search_that_takes_too_long_says_so() -> None:
    level = Level.read("########\n#@_____#\n#_$__$_#\n#______#\n#_.__._#\n#______#\n########")
    assert search(level.room, level.start) is not None
    with pytest.raises(GaveUp):
        search(level.room, level.start, most=3)
