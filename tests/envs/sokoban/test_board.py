"""The rules: what moves, what is pushed, what is in the way, and what a drawing must be."""

from __future__ import annotations

import pytest

from envs.sokoban.board import ACTIONS, BACK, Level

ROOM = """
######
#@$_.#
#_.$_#
######
"""


def played(drawing: str, actions: str) -> str:
    """The board after some moves, of which each must change something."""
    level = Level.read(drawing)
    position = level.start
    for action in actions.split():
        after = level.room.moved(position, action)
        assert after is not None
        position = after
    return level.room.drawn(position)


def test_a_move_goes_one_cell_and_pushes_one_box() -> None:
    assert played(ROOM, "down") == "######\n#_$_.#\n#@.$_#\n######"
    assert played(ROOM, "right") == "######\n#_@$.#\n#_.$_#\n######"
    assert played(ROOM, "right right") == "######\n#__@*#\n#_.$_#\n######"


def test_the_player_may_stand_on_a_target_and_a_box_be_pushed_off_one() -> None:
    assert played(ROOM, "down right") == "######\n#_$_.#\n#_+$_#\n######"
    assert played("#######\n#@*_.$#\n#######", "right") == "#######\n#_+$.$#\n#######"


@pytest.mark.parametrize(
    ("drawing", "action"),
    [
        ("####\n#@##\n#*_#\n####", "up"),  # a wall
        ("#####\n#@$##\n#_._#\n#####", "right"),  # a wall behind the box
        ("######\n#@$$_#\n#..__#\n######", "right"),  # another box behind it
        ("######\n#@*$_#\n#.___#\n######", "right"),
    ],
)
def test_what_is_in_the_way_leaves_everything_as_it_is(drawing: str, action: str) -> None:
    level = Level.read(drawing)
    assert level.room.moved(level.start, action) is None
    assert action not in level.room.moves(level.start)


def test_moves_are_those_that_change_something() -> None:
    level = Level.read(ROOM)
    positions, seen = [level.start], {level.start}
    while positions:
        position = positions.pop()
        after = {action: level.room.moved(position, action) for action in ACTIONS}
        assert level.room.moves(position) == [action for action, one in after.items() if one is not None]
        new = {one for one in after.values() if one is not None} - seen
        positions += new
        seen |= new
    assert len(seen) > 30


def test_from_where_one_came_one_can_always_go_back() -> None:
    level = Level.read(ROOM)
    for action in level.room.moves(level.start):
        after = level.room.moved(level.start, action)
        assert after is not None
        assert BACK[action] in level.room.moves(after)


def test_a_drawing_is_read_as_it_is_drawn() -> None:
    for drawing in (ROOM.strip("\n"), "#######\n#+*_$_#\n#######"):
        level = Level.read(drawing)
        assert level.room.drawn(level.start) == drawing
    assert level.room.place(level.start[0]) == (2, 2)


@pytest.mark.parametrize(
    ("drawing", "what"),
    [
        ("####\n#@$.#\n####", "equally long"),
        ("#####\n#@$o#\n#####", r"no symbol 'o'; allowed: # _ \. \$"),
        ("#####\n#_$.#\n#####", "this one has 0, 1 and 1"),
        ("#####\n#@__#\n#####", "this one has 1, 0 and 0"),
        ("######\n#@$$.#\n######", "this one has 1, 2 and 1"),
        ("#####\n#@$._\n#####", "the border of a level must be walls"),
    ],
)
def test_what_is_no_level_is_refused_with_the_reason(drawing: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Level.read(drawing)
