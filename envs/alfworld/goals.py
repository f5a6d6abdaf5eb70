"""ALFWorld's six types of task, and how a PDDL goal is recognized as one of them."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, get_args

TaskType = Literal[
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
]
TASK_TYPES: tuple[TaskType, ...] = get_args(TaskType)
CHANGES: dict[TaskType, tuple[str, str]] = {
    "pick_clean_then_place_in_recep": ("cleanable", "isClean"),
    "pick_heat_then_place_in_recep": ("heatable", "isHot"),
    "pick_cool_then_place_in_recep": ("coolable", "isCool"),
}
"""What the object must be able to become, and must have become, for the types that change it."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What wins: `object` in `receptacle` (changed first, or two of it), or held in the light of `lamp`. PDDL type names."""

    task_type: TaskType
    object: str
    receptacle: str | None = None
    lamp: str | None = None


def read_goal(text: str) -> Goal | None:
    """The goal that a PDDL condition states, in any order and with any names of variables; None if it is none of the six."""
    shape, types = _shape(text)
    task_type = _SHAPES.get(shape)
    if task_type is None:
        return None
    objects = {variable: kind for (predicate, variable), kind in types.items() if predicate == "objecttype"}
    if task_type == "look_at_obj_in_light":
        lamp = re.findall(r"\(\s*toggleable\s+(\S+?)\s*\)", text, re.IGNORECASE)[0].lower()
        return Goal(task_type, next(kind for variable, kind in objects.items() if variable != lamp), lamp=objects[lamp])
    if len(set(objects.values())) > 1:  # two different objects: not a task of ALFWorld
        return None
    place = next(kind for (predicate, _), kind in types.items() if predicate == "receptacletype")
    return Goal(task_type, next(iter(objects.values())), receptacle=place)


_Shape = frozenset[tuple[str, tuple[object, ...]]]


def _shape(goal: str) -> tuple[_Shape, dict[tuple[str, str], str]]:
    """The goal's facts, each variable replaced by the set of (predicate, position) where it occurs; and types by variable."""
    atoms = [tuple(atom.split()) for atom in re.findall(r"\(([^()]*)\)", goal)]
    atoms = [(atom[0].lower(), *atom[1:]) for atom in atoms if atom and not atom[0].startswith("?")]
    roles: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
    for predicate, *arguments in atoms:
        for position, name in enumerate(arguments):
            roles[name.lower()].add((predicate, position))
    known = {name: frozenset(role) if name.startswith("?") else "type" for name, role in roles.items()}
    shape: set[tuple[str, tuple[object, ...]]] = {(atom[0], tuple(known[name.lower()] for name in atom[1:])) for atom in atoms}
    shape.add(("variables", (sum(name.startswith("?") for name in roles),)))  # else two of one role would look like one
    shape |= {(word, ()) for word in re.findall(r"\(\s*(or|not|forall|imply|when)\b", goal.lower())}
    types = {
        (atom[0], atom[1].lower()): atom[2] for atom in atoms if atom[0] in ("objecttype", "receptacletype") and len(atom) == 3
    }
    return frozenset(shape), types


_PLACED = "(objectType ?o T) (receptacleType ?r T) (inReceptacle ?o ?r)"
_SHAPES: dict[_Shape, TaskType] = {
    _shape(goal)[0]: task_type
    for task_type, goal in (
        ("pick_and_place_simple", _PLACED),
        *((kind, f"{_PLACED} ({ability} ?o) ({state} ?o)") for kind, (ability, state) in CHANGES.items()),
        ("pick_two_obj_and_place", f"{_PLACED} (objectType ?p T) (inReceptacle ?p ?r) (not (= ?o ?p))"),
        (
            "look_at_obj_in_light",
            "(objectType ?o T) (holds ?a ?o) (objectType ?p T) (toggleable ?p) (isToggled ?p) (inReceptacle ?p ?r) "
            "(receptacleAtLocation ?r ?l) (atLocation ?a ?l)",
        ),
    )
}
