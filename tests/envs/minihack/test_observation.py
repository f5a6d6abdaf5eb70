"""What is said of a scene: each part can be left out, and what is said is what the map shows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.minihack import observation
from envs.minihack.config import MiniHackConfig
from envs.minihack.env import MiniHackEnv
from envs.minihack.game import Game, Seeds
from envs.minihack.looks import COLUMNS, LOOKS, ROWS, WIDTH
from envs.minihack.oracle import WAYS
from envs.minihack.scene import Scene

TASK = "KeyRoom-S5/train/000000"
LEVELS = ["KeyRoom-S5", "KeyRoom-Dark-S15", "Room-Ultimate-15x15", "River", "Quest-Medium", "MazeWalk-Mapped-9x9"]


def scene(level: str, number: int = 0) -> Scene:
    return Game(level).reset(Seeds.of(f"{level}/train/{number:06d}"))


def said(action: str | None = None, **settings: Any) -> str:
    env = MiniHackEnv(MiniHackConfig(**settings))
    text = env.reset(options={"task": TASK})[0]
    return env.step(action)[0] if action else text


@pytest.mark.parametrize(
    ("setting", "off", "line"),
    [
        ("message", False, "Message: "),
        ("map", "none", "Map:"),
        ("legend", False, "Legend: "),
        ("surroundings", False, "Next to you: "),
        ("objects", False, "You see: "),
        ("inventory", False, "You carry: "),
        ("status", False, "Status: "),
        ("last_action", False, "Last action: "),
    ],
)
def test_each_part_can_be_left_out(setting: str, off: object, line: str) -> None:
    whole, without = (said("apply", **settings).splitlines() for settings in ({}, {setting: off}))
    assert any(text.startswith(line) for text in whole)
    assert not any(text.startswith(line) for text in without)
    if setting != "map":  # which takes its legend with it
        assert [text for text in whole if not text.startswith(line)] == without


def test_without_a_map_there_is_no_legend() -> None:
    assert "Legend" not in said(map="none")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("number", range(3))
def test_a_cropped_map_has_nine_rows_and_the_agent_in_its_middle(level: str, number: int) -> None:
    shown = scene(level, number)
    rows = observation.drawn(shown, observation.cropped(shown))
    assert len(rows) == 9
    assert all(len(row) <= 9 for row in rows)
    assert rows[4][4] == "@"
    (row, column), blank = shown.place, ord(" ")
    for r in range(9):
        for c in range(9):
            place = (row + r - 4, column + c - 4)
            inside = 0 <= place[0] < ROWS and 0 <= place[1] < COLUMNS
            assert rows[r].ljust(9)[c] == chr(shown.chars[place] if inside else blank)


@pytest.mark.parametrize("level", LEVELS)
def test_a_full_map_shows_every_known_place(level: str) -> None:
    shown = scene(level)
    rows = observation.drawn(shown, observation.known(shown))
    everything = bytes(shown.chars.ravel()).decode("latin-1")
    assert sorted("".join(rows).replace(" ", "")) == sorted(everything.replace(" ", ""))


@pytest.mark.parametrize("level", LEVELS)
def test_the_legend_explains_every_character_of_the_map(level: str) -> None:
    shown = scene(level)
    for cells in (observation.cropped(shown), observation.known(shown)):
        characters = set("".join(observation.drawn(shown, cells))) - {" "}
        explained = observation.legend(shown, cells)
        assert {entry[0] for entry in re.split(", (?=. )", explained)} == characters
        assert "@ you" in explained


def test_another_human_in_the_legend_is_not_the_agent() -> None:
    shown = scene("KeyRoom-S5")
    row, column = shown.place
    looks = shown.looks.copy()
    looks[row, column + 1] = LOOKS.number(ord("@"), b"peaceful watchman".ljust(WIDTH, b"\0"))
    both = replace(shown, looks=looks)
    assert "@ you or peaceful watchman" in observation.legend(both, observation.cropped(both))


@pytest.mark.parametrize("level", LEVELS)
def test_things_lie_where_it_says(level: str) -> None:
    shown = scene(level)
    row, column = shown.place
    for thing in observation.things(shown):
        if " more of " in thing:
            continue
        found = re.fullmatch(r"(.+?)((?: (?:north|south|east|west) \d+)+)", thing)
        assert found
        ways = {way: int(n) for way, n in re.findall(r"(\w+) (\d+)", found.group(2))}
        r = row + ways.get("south", 0) - ways.get("north", 0)
        c = column + ways.get("east", 0) - ways.get("west", 0)
        assert shown.described(r, c).endswith(found.group(1))


def test_of_many_alike_the_nearest_are_listed_and_the_others_counted() -> None:
    listed = observation.things(scene("River"))
    boulders = [thing for thing in listed if thing.startswith("boulder")]
    assert len(boulders) == observation.SHOWN_OF_A_KIND
    assert any(re.fullmatch(r"\d+ more of (boulder|water)", thing) for thing in listed)


def test_the_nearest_things_come_first() -> None:
    for level in LEVELS:
        ways = [re.findall(r" (\d+)", thing) for thing in observation.things(scene(level)) if " more of " not in thing]
        distances = [max(map(int, numbers)) for numbers in ways]
        assert distances == sorted(distances)
    assert len(observation.things(scene("River"))) > 3


def test_surroundings_are_those_that_an_action_leads_to() -> None:
    shown = scene("KeyRoom-S5")
    assert list(observation.around(shown, ["north", "west", "apply"])) == ["north", "west"]
    assert list(observation.around(shown, list(WAYS))) == list(WAYS)


@given(st.integers(1 - ROWS, ROWS - 1), st.integers(1 - COLUMNS, COLUMNS - 1))
def test_a_way_can_be_read_back(down: int, right: int) -> None:
    signs = {"south": (1, 0), "north": (-1, 0), "east": (0, 1), "west": (0, -1)}
    steps = [(signs[way], int(n)) for way, n in re.findall(r"(\w+) (\d+)", observation._way(down, right))]
    assert (sum(s[0] * n for s, n in steps), sum(s[1] * n for s, n in steps)) == (down, right)


def test_hunger_and_levitation_are_told() -> None:
    shown = scene("KeyRoom-S5")
    assert observation.status(shown) == "hit points 12 of 12"
    shown.stats[21], shown.stats[25] = 3, 0x400 | 0x20
    assert observation.status(shown) == "hit points 12 of 12, weak with hunger, blind, levitating"


def test_what_was_picked_up_is_told_apart_from_what_was_there() -> None:
    env = MiniHackEnv(MiniHackConfig())
    text = env.reset(options={"task": "KeyRoom-S5/train/000003"})[0]
    assert "You see here a key" in text
    assert "Picked up" not in text
    text = env.step("pickup")[0]
    assert re.search(r"^Picked up: g: .*[Kk]ey", text, re.MULTILINE)


def test_an_impossible_answer_leaves_the_last_action_as_it_was() -> None:
    env = MiniHackEnv(MiniHackConfig())
    env.reset(options={"task": TASK})
    first = env.step("east")[0]
    assert first.endswith("Last action: east")
    assert env.step("fly")[0] == first
