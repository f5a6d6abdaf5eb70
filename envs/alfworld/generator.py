"""Writes generated households as `game.tw-pddl` files, which the official engine plays as well.

A problem in PDDL, with ids in the manner of official games, goes beside this package's own domain and grammar; the walkthrough
is `planner`'s. What is in a household is left to `household`, which games make up a split to `tasks`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from envs.alfworld.catalogue import CONTAINERS, KINDS, LAMP, OPENABLE
from envs.alfworld.game import parse_game
from envs.alfworld.goals import CHANGES, TaskType
from envs.alfworld.household import Household, Size, household
from envs.alfworld.planner import plan
from envs.common.seeding import generator

VERSION = 1
"""Part of every split's hash: to be raised whenever a seed gives another game than before."""


_TASK_LINES: dict[TaskType, tuple[str, str]] = {
    "pick_and_place_simple": ("put a {o} in {r}.", "put some {o} on {r}."),
    "look_at_obj_in_light": ("look at {o} under the {r}.", "examine the {o} with the {r}."),
    "pick_clean_then_place_in_recep": ("put a clean {o} in {r}.", "clean some {o} and put it in {r}."),
    "pick_heat_then_place_in_recep": ("put a hot {o} in {r}.", "heat some {o} and put it in {r}."),
    "pick_cool_then_place_in_recep": ("put a cool {o} in {r}.", "cool some {o} and put it in {r}."),
    "pick_two_obj_and_place": ("put two {o} in {r}.", "find two {o} and put them in {r}."),
}
_ALWAYS_DECLARED = ("SinkBasin", "Microwave", "Fridge"), ("Knife", "ButterKnife")
"""Types that the domain itself names, receptacles and objects: a problem without them would not parse."""


def generate(task_type: TaskType, size: Size, seed: int) -> dict[str, Any]:
    """The contents of a `game.tw-pddl` file; equal arguments give equal games on every machine. Raises ValueError."""
    rng = generator(seed, "alfworld", size, task_type)
    return game_data(household(task_type, size, rng), rng)


def game_data(home: Household, rng: np.random.Generator) -> dict[str, Any]:
    """Write a household as the contents of a game file, walkthrough included; geometry and ids come from `rng`."""
    line = _TASK_LINES[home.task_type][home.wording].format(o=home.target.lower(), r=home.goal.lower())
    data: dict[str, Any] = {
        "pddl_domain": package_text("domain.pddl"),
        "grammar": package_text("grammar.twl2").replace("UNKNOWN GOAL", line),
        "pddl_problem": _problem(home, rng),
        "solvable": True,
    }
    data["walkthrough"] = plan(parse_game(data, "generated game"))
    return data


def write_game(path: str | Path, data: dict[str, Any]) -> None:
    """Write a game file, and its folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(data))


@cache
def package_text(name: str) -> str:
    return files("envs.alfworld").joinpath(name).read_text(encoding="utf-8")


class _Ids:
    """Ids in the manner of official games: a type and a place in space, `Mug_bar__minus_00_dot_25_bar_...`, never twice one."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.used: set[str] = set()

    def thing(self, kind: str) -> str:
        """An id for a receptacle or an object."""
        return self._new(lambda: self._of_thing(kind))

    def location(self) -> str:
        """An id for a spot where an agent can stand: grid position, direction and tilt."""
        return self._new(lambda: "loc" + "".join(f"_bar_{'_minus_' if n < 0 else ''}{abs(n)}" for n in self._grid()))

    def _of_thing(self, kind: str) -> str:
        # a basin is named after what it is part of: "sink" with "basin" somewhere in the id
        stem, part = (kind.removesuffix("Basin"), f"_bar_{kind}") if kind.endswith("Basin") else (kind, "")
        spot = "".join(
            f"_bar__{'minus' if n < 0 else 'plus'}_{abs(n) // 100:02d}_dot_{abs(n) % 100:02d}"
            for n in (int(self.rng.integers(low, high)) for low, high in ((-400, 400), (0, 220), (-400, 400)))
        )
        return stem + spot + part

    def _grid(self) -> tuple[int, int, int, int]:
        x, z, turn = (int(self.rng.integers(low, high)) for low, high in ((-12, 13), (-12, 13), (0, 4)))
        return x, z, turn, (-30, 0, 30, 45, 60)[int(self.rng.integers(5))]

    def _new(self, draw: Callable[[], str]) -> str:
        while (name := draw()).lower() in self.used:
            pass
        self.used.add(name.lower())
        return name


def _problem(home: Household, rng: np.random.Generator) -> str:
    """The PDDL problem of a household: objects, initial facts and goal."""
    ids = _Ids(rng)
    receptacles = [ids.thing(kind) for kind in home.receptacles]
    objects = [ids.thing(kind) for kind, _ in home.objects]
    scenery = [ids.thing(kind) for kind in home.scenery]
    start = ids.location()
    spots: list[str] = []
    for i in range(len(receptacles)):
        # neighbors of one type may be reached from one spot, as in official rooms; only large rooms have such pairs
        shared = home.scenery and i and home.receptacles[i] == home.receptacles[i - 1] and rng.random() < 0.15
        spots.append(spots[-1] if shared else ids.location())
    backdrop = [ids.location() for _ in scenery]

    place_types = sorted(set(home.receptacles))
    object_types = sorted({kind for kind, _ in home.objects} | set(home.scenery))
    declared = (
        [("agent1", "agent")]
        + [(name, "object") for name in objects + scenery]
        + [(name, "receptacle") for name in receptacles]
        + [(f"{name}Type", "rtype") for name in sorted({*place_types, *_ALWAYS_DECLARED[0]})]
        + [(f"{name}Type", "otype") for name in sorted({*object_types, *_ALWAYS_DECLARED[1]})]
        + [(name, "location") for name in dict.fromkeys([start, *spots, *backdrop])]
    )

    facts = [f"atLocation agent1 {start}"]
    for name, kind, spot in zip(receptacles, home.receptacles, spots):
        facts += [f"receptacleType {name} {kind}Type", f"receptacleAtLocation {name} {spot}"]
        if kind in OPENABLE:
            facts.append(f"openable {name}")
    facts += [
        f"canContain {place}Type {kind}Type"
        for place in place_types
        for kind in object_types
        if kind in KINDS and place in KINDS[kind].accepted
    ]
    for name, (kind, place) in zip(objects, home.objects):
        facts += [f"objectType {name} {kind}Type", f"inReceptacle {name} {receptacles[place]}"]
        facts.append(f"objectAtLocation {name} {spots[place]}")
        facts += [f"{ability} {name}" for ability in KINDS[kind].abilities]
        if kind != LAMP:
            facts.append(f"pickupable {name}")
        if kind in CONTAINERS:
            facts.append(f"isReceptacleObject {name}")
    for name, kind, spot in zip(scenery, home.scenery, backdrop):
        facts += [f"objectType {name} {kind}Type", f"objectAtLocation {name} {spot}"]

    return "\n".join(
        [
            f"(define (problem {home.task_type}_{home.content()})",
            "(:domain alfred)",
            "(:objects",
            *(f"  {name} - {kind}" for name, kind in declared),
            ")",
            "(:init",
            *(f"  ({fact})" for fact in facts),
            ")",
            f"(:goal {_goal(home)})",
            ")",
            "",
        ]
    )


def _goal(home: Household) -> str:
    target, goal = f"{home.target}Type", f"{home.goal}Type"
    if home.task_type == "look_at_obj_in_light":
        lit = f"(objectType ?ot {goal}) (toggleable ?ot) (isToggled ?ot) (inReceptacle ?ot ?r)"
        return (
            f"(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location) "
            f"(and {lit} (receptacleAtLocation ?r ?l) (atLocation ?a ?l))) "
            f"(exists (?o - object ?a - agent) (and (objectType ?o {target}) (holds ?a ?o))))"
        )
    placed = "(objectType ?{o} {target}) (receptacleType ?r {goal}) (inReceptacle ?{o} ?r)"
    one = placed.format(o="o", target=target, goal=goal)
    if home.task_type in CHANGES:
        ability, state = CHANGES[home.task_type]
        one = f"({ability} ?o) {one} ({state} ?o)"
    if home.task_type == "pick_two_obj_and_place":
        two = placed.format(o="p", target=target, goal=goal)
        one = f"{one} (exists (?p - object) (and (not (= ?o ?p)) {two}))"
    return f"(exists (?r - receptacle) (exists (?o - object) (and {one})))"
