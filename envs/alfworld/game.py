"""An ALFWorld game as data: reads `game.tw-pddl` (JSON around PDDL) into an immutable `Game`; plays nothing.

The file holds a planning domain, a text grammar and one problem (objects, initial facts, goal). Domain and grammar are the same
in every game but for the task's line; they are only checked for being of the version that is played here.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from envs.alfworld.goals import TASK_TYPES, Goal, TaskType
from envs.alfworld.problem import ABILITIES, STATES, PlaceError, Problem, sinks
from envs.base import TaskError
from envs.common.files import regular

__all__ = ["GAME_FILE", "TASK_TYPES", "Game", "Goal", "Item", "Receptacle", "TaskType", "load_game", "parse_game"]
GAME_FILE = "game.tw-pddl"
_TASK = re.compile(r'"Your task is to: ([^"\\#{}\[\]]*)"')


class Receptacle(NamedTuple):
    """A place that holds objects: furniture or an appliance."""

    id: str
    name: str
    """As the texts call it: `cabinet 3`."""
    type: str
    """As the problem calls it: `CabinetType`."""
    location: int
    """Index of the spot where the agent stands to use it; receptacles may share one."""
    openable: bool
    opened: bool
    """Whether it is open at the start."""


class Item(NamedTuple):
    """An object and its state at the start."""

    id: str
    name: str
    type: str
    places: tuple[int, ...]
    """Receptacles that it is in; official games have objects that are in several."""
    locations: tuple[int, ...]
    """Spots that it lies at: what slicing looks at, not always those of its receptacles."""
    inside: tuple[int, ...] | None
    """Objects in it if it is a vessel, else None."""
    abilities: frozenset[str]
    """Of pickupable, toggleable, cleanable, heatable, coolable, sliceable."""
    states: frozenset[str]
    """Of isClean, isHot, isCool, isSliced, isToggled."""


@dataclass(frozen=True, slots=True)
class Game:
    """One game. Objects and receptacles stand in the order of their lower-cased ids, which is the order of every list."""

    source: str
    """Where it came from, for messages."""
    task: str
    """The task's line without "Your task is to: "."""
    goal: Goal
    receptacles: tuple[Receptacle, ...]
    objects: tuple[Item, ...]
    locations: tuple[str, ...]
    start: int
    """Index of the agent's first location."""
    can_contain: frozenset[tuple[str, str]]
    """(receptacle type, object type) pairs that fit."""
    sinks: frozenset[str]
    """Receptacle types that clean."""
    walkthrough: tuple[str, ...]
    """Commands that win, where the file has them; else empty."""
    hash: str
    """16 hex digits that name problem and task."""

    @property
    def task_type(self) -> TaskType:
        """One of the six types of task."""
        return self.goal.task_type


def load_game(path: str | Path) -> Game:
    """Read a `game.tw-pddl` file. Raises TaskError with file and place."""
    return parse_game(read_json(read_bytes(path), str(path)), str(path))


def read_bytes(path: str | Path) -> bytes:
    """A game file's bytes. Raises TaskError."""
    try:
        return regular(path).read_bytes()
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror}); ALFWORLD_DATA names the folder of the games") from None


def read_json(contents: bytes, source: str) -> dict[str, Any]:
    """The JSON object in a game file's bytes. Raises TaskError naming `source` and line."""
    try:
        data = orjson.loads(contents)
    except orjson.JSONDecodeError as error:
        raise TaskError(
            f"{source}: not JSON at line {error.lineno}, column {error.colno} ({error.msg}); the file is broken or cut short"
        ) from None
    if not isinstance(data, dict):
        raise TaskError(f"{source}: holds a JSON {type(data).__name__}; expected an object with the key 'pddl_problem'")
    return data


def parse_game(data: Mapping[str, Any], source: str) -> Game:
    """Build a Game from the contents of a `game.tw-pddl`. Raises TaskError naming `source`, key and line."""
    for key in ("pddl_domain", "grammar", "pddl_problem"):
        if key not in data:
            raise TaskError(f"{source}: key '{key}' is missing; found: {', '.join(sorted(data)) or 'none'}")
        if not isinstance(data[key], str):
            raise TaskError(f"{source}: key '{key}' holds a {type(data[key]).__name__}; expected text")
    walkthrough = data.get("walkthrough") or ()
    if not isinstance(walkthrough, (list, tuple)) or not all(isinstance(command, str) for command in walkthrough):
        raise TaskError(f"{source}: key 'walkthrough' must be a list of commands")
    try:
        cleaning = sinks(data["pddl_domain"])
        task = _task_line(data["grammar"])
        return _assemble(Problem(data["pddl_problem"]), source, task, cleaning, tuple(walkthrough))
    except PlaceError as error:
        raise TaskError(f"{source}: {error}") from None


def _task_line(grammar: str) -> str:
    found = _TASK.search(grammar)
    if not found:
        raise PlaceError("key 'grammar': no line 'Your task is to: ...'")
    _check_commands(grammar[: found.start()] + grammar[found.end() :])
    return found[1]


@lru_cache(maxsize=8)
def _check_commands(grammar: str) -> None:
    if '"move {o} to {r}"' not in grammar:
        raise PlaceError(
            "key 'grammar': no command 'move {o} to {r}'; games made for alfworld before 0.4 ('put .. in/on ..') "
            "are not supported: get them again with `alfworld-download` of alfworld 0.4.2"
        )


def _assemble(problem: Problem, source: str, task: str, cleaning: Iterable[str], walkthrough: tuple[str, ...]) -> Game:
    """Put a problem's facts together."""
    facts, written = problem.facts, problem.written
    if len(facts["atlocation"]) != 1:
        raise PlaceError(f"key 'pddl_problem': {len(facts['atlocation'])} facts atLocation; expected one")
    start = facts["atlocation"][0][1]
    spot_of = problem.one_each("receptacleatlocation")
    receptacle_type, object_type = problem.one_each("receptacletype"), problem.one_each("objecttype")
    for odd in receptacle_type.keys() ^ spot_of.keys():
        raise PlaceError(f"key 'pddl_problem': '{written[odd]}' needs both facts receptacleType and receptacleAtLocation")

    spots = sorted({start, *spot_of.values(), *(spot for _, spot in facts["objectatlocation"])})
    receptacles, objects = sorted(receptacle_type), sorted(object_type)
    spot_index, receptacle_index, object_index = ({name: i for i, name in enumerate(n)} for n in (spots, receptacles, objects))
    for predicate, first, second in (
        ("inreceptacle", object_index, receptacle_index),
        ("objectatlocation", object_index, spot_index),
        ("inreceptacleobject", object_index, object_index),
    ):
        for a, b in facts[predicate]:
            if a not in first or b not in second:
                odd = a if a not in first else b
                raise PlaceError(f"key 'pddl_problem': '{written[odd]}' in ({predicate} {a} {b}) has no type of its own")

    names = _names([*receptacles, *objects])
    openable, opened, vessels = (problem.names(p) for p in ("openable", "opened", "isreceptacleobject"))
    places, lies_at = problem.grouped("inreceptacle"), problem.grouped("objectatlocation")
    able, state = problem.marked(ABILITIES), problem.marked(STATES)
    inside: dict[str, list[int]] = {}
    for inner, outer in facts["inreceptacleobject"]:
        inside.setdefault(outer, []).append(object_index[inner])

    def receptacle(id_: str) -> Receptacle:
        kind, spot = written[receptacle_type[id_]], spot_index[spot_of[id_]]
        return Receptacle(written[id_], names[id_], kind, spot, id_ in openable, id_ in opened)

    def item(id_: str) -> Item:
        kind = written[object_type[id_]]
        in_receptacles = tuple(sorted(receptacle_index[place] for place in places[id_]))
        at_spots = tuple(sorted(spot_index[spot] for spot in lies_at[id_]))
        holds = tuple(sorted(inside.get(id_, ()))) if id_ in vessels else None
        return Item(
            written[id_], names[id_], kind, in_receptacles, at_spots, holds, frozenset(able[id_]), frozenset(state[id_])
        )

    return Game(
        source=source,
        task=task,
        goal=problem.goal,
        receptacles=tuple(map(receptacle, receptacles)),
        objects=tuple(map(item, objects)),
        locations=tuple(written[spot] for spot in spots),
        start=spot_index[start],
        can_contain=frozenset((written[place], written[thing]) for place, thing in facts["cancontain"]),
        sinks=frozenset(written[kind.lower()] for kind in cleaning if kind.lower() in written),
        walkthrough=walkthrough,
        hash=hashlib.sha256(f"{task}\n{problem.text}".encode()).hexdigest()[:16],
    )


def _names(ids: list[str]) -> dict[str, str]:
    """Lower-cased id -> `name n`; numbers count down in the order of the ids of one name, receptacles and objects together."""
    stems = {}
    for id_ in ids:
        stem, bar, _ = id_.partition("_bar_")
        if not bar:
            raise PlaceError(f"key 'pddl_problem': the id '{id_}' has no '_bar_', after which its name would end")
        stems[id_] = stem + "basin" if "basin" in id_ else stem
    left = Counter(stems.values())
    names = {}
    for id_ in sorted(ids):
        stem = stems[id_]
        names[id_] = f"{stem} {left[stem]}"
        left[stem] -= 1
    return names
