"""Draws a household from the tables of `catalogue`: a room, what stands and lies in it, and something to do there.

Files, ids and geometry are left to `generator`; which households make up a split to `tasks`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from envs.alfworld.catalogue import KINDS, LAMP, ROOMS, Room
from envs.alfworld.goals import CHANGES, TASK_TYPES, TaskType

Size = Literal["small", "full"]
SIZES: tuple[Size, ...] = get_args(Size)
SMALL_RECEPTACLES = 8
SMALL_OBJECTS = 8
FULL_OBJECTS = 19
"""A full game has at least as many, as official ones do."""
MOST_OF_A_KIND = 3

_TOOLS = {"cleanable": "SinkBasin", "heatable": "Microwave", "coolable": "Fridge"}


@dataclass
class Household:
    """A room with things in it and something to do there."""

    task_type: TaskType
    target: str
    goal: str
    """Type of the receptacle where the target belongs, or of the lamp to look at it under."""
    wording: int
    receptacles: list[str]
    """Their types; a receptacle is its index."""
    objects: list[tuple[str, int]]
    """(type, receptacle) of each."""
    scenery: list[str] = field(default_factory=list)

    def content(self) -> str:
        """16 hex digits, equal for households that differ at most in wording, numbering or geometry."""
        filled: list[list[str]] = [[] for _ in self.receptacles]
        for kind, place in self.objects:
            filled[place].append(kind)
        rooms = sorted((kind, *sorted(inside)) for kind, inside in zip(self.receptacles, filled))
        return hashlib.sha256(repr((self.task_type, self.target, self.goal, rooms)).encode()).hexdigest()[:16]


def household(task_type: TaskType, size: Size, rng: np.random.Generator) -> Household:
    """Draw a room in which the task can be done and is not yet done. Raises ValueError for an unknown type or size."""
    if task_type not in TASK_TYPES:
        raise ValueError(f"task type is '{task_type}'; allowed: {', '.join(TASK_TYPES)}")
    if size not in SIZES:
        raise ValueError(f"size is '{size}'; allowed: {', '.join(SIZES)}")
    while True:
        room = ROOMS[_pick(rng, _rooms(task_type, size))]
        receptacles = _small_receptacles(room, rng) if size == "small" else _full_receptacles(room, rng)
        choices = _goals(task_type, room.small_objects if size == "small" else room.objects, set(receptacles))
        if choices:  # rarely the furniture drawn allows no task of this type
            target = _pick(rng, sorted(choices))
            goal = _pick(rng, choices[target])
            break
    home = Household(task_type, target, goal, int(rng.integers(2)), receptacles, [])
    stay_out = {goal} if task_type in ("pick_and_place_simple", "pick_two_obj_and_place") else set()
    least = 2 if task_type == "pick_two_obj_and_place" else 1
    _place(home, target, int(rng.integers(least, MOST_OF_A_KIND + 1 if size == "full" else least + 2)), stay_out, rng)
    if task_type == "look_at_obj_in_light":
        _place(home, LAMP, 1, set(), rng)
    if size == "small":
        _fill_small(home, room, rng)
    else:
        _fill_full(home, room, rng)
    return home


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _rooms(task_type: TaskType, size: Size) -> list[str]:
    if task_type == "look_at_obj_in_light":
        rooms = ["bedroom", "living room"]
    elif task_type == "pick_clean_then_place_in_recep":
        rooms = ["kitchen", "kitchen", "bathroom"]
    else:
        rooms = ["kitchen"] if task_type in CHANGES else list(ROOMS)
    return [name for name in rooms if size == "full" or ROOMS[name].small_objects]


def _goals(task_type: TaskType, objects: Sequence[str], present: set[str]) -> dict[str, list[str]]:
    """Targets that can be found in the room, each with the types of receptacle (or the lamp) that make a task of it."""
    choices: dict[str, list[str]] = {}
    ability, _ = CHANGES.get(task_type, ("", ""))
    for name in objects:
        kind = KINDS[name]
        found = [place for place in kind.found if place in present]
        if task_type == "look_at_obj_in_light":
            goals = [LAMP] if found and present.intersection(KINDS[LAMP].found) else []
        elif ability:
            goals = (
                [place for place in kind.accepted if place in present and place != _TOOLS[ability]]
                if ability in kind.abilities
                else []
            )
        else:  # what is to be carried somewhere must begin elsewhere
            goals = [place for place in kind.accepted if place in present and set(found) - {place}]
        if goals and found:
            choices[name] = goals
    return choices


def _small_receptacles(room: Room, rng: np.random.Generator) -> list[str]:
    """The room's necessary receptacles, and others at random up to the size of a small game."""
    chosen = [name for name, (least, _) in room.small_receptacles.items() for _ in range(least)]
    spare = [name for name, (least, most) in room.small_receptacles.items() for _ in range(most - least)]
    chosen += [spare[i] for i in rng.permutation(len(spare))[: SMALL_RECEPTACLES - len(chosen)]]
    return sorted(chosen)


def _full_receptacles(room: Room, rng: np.random.Generator) -> list[str]:
    return [name for name, (least, most) in room.receptacles.items() for _ in range(int(rng.integers(least, most + 1)))]


def _place(home: Household, name: str, count: int, stay_out: set[str], rng: np.random.Generator) -> None:
    """Put `count` of a type where such things are found: first a type of receptacle is drawn, then one of them."""
    types = sorted(set(KINDS[name].found).intersection(home.receptacles) - stay_out)
    for _ in range(count if types else 0):
        where = _pick(rng, types)
        options = [i for i, kind in enumerate(home.receptacles) if kind == where]
        home.objects.append((name, options[int(rng.integers(len(options)))]))


def _fill_small(home: Household, room: Room, rng: np.random.Generator) -> None:
    counts = Counter(name for name, _ in home.objects)
    counts[home.target] = MOST_OF_A_KIND  # no more of the target than were drawn for it
    options = [name for name in room.small_objects if set(KINDS[name].found).intersection(home.receptacles)]
    while len(home.objects) < SMALL_OBJECTS:
        name = _pick(rng, options)
        if counts[name] < MOST_OF_A_KIND:
            counts[name] += 1
            _place(home, name, 1, set(), rng)


def _fill_full(home: Household, room: Room, rng: np.random.Generator) -> None:
    for name in room.objects:
        if name != home.target:
            _place(home, name, int(rng.integers(1, MOST_OF_A_KIND + 1)) if rng.random() < 0.9 else 0, set(), rng)
    if home.goal != LAMP and rng.random() < 0.5:
        _place(home, LAMP, 1, set(), rng)
    for name, (least, most) in room.scenery.items():
        home.scenery += [name] * int(rng.integers(least, most + 1))
    others = [name for name in room.objects if name != home.target and set(KINDS[name].found).intersection(home.receptacles)]
    while len(home.objects) + len(home.scenery) < FULL_OBJECTS:
        _place(home, _pick(rng, others), 1, set(), rng)
