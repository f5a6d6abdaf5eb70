"""Reads the PDDL of an ALFWorld game, fast: declared names, initial facts and goal of a problem, and the actions of the domain.

Only what ALFWorld uses of PDDL is read; anything else is an error with its line. What the facts mean is left to `game`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import lru_cache

from envs.alfworld.goals import Goal, read_goal

ABILITIES = ("pickupable", "toggleable", "cleanable", "heatable", "coolable", "sliceable")
STATES = ("isClean", "isHot", "isCool", "isSliced", "isToggled")
_PAIRS = (
    *("receptacleType", "objectType", "canContain", "receptacleAtLocation", "objectAtLocation", "atLocation"),
    *("inReceptacle", "inReceptacleObject"),
)
_ARITY = {name.lower(): 2 for name in _PAIRS}
_ARITY |= {name.lower(): 1 for name in (*ABILITIES, *STATES, "openable", "opened", "isReceptacleObject", "isOn")}
_FACTS = re.compile(r"(?:\s*+\(\s*+[\w-]++(?:\s++[\w-]++)*+\s*+\))*+\s*+")
_FACT = re.compile(r"\(([^()]*)\)")
_COMMENT = re.compile(r";[^\n]*")
_ACTIONS = frozenset(
    (
        *("look", "inventory", "help", "examinereceptacle", "examineobject", "gotolocation", "openobject", "closeobject"),
        *("pickupobject", "putobject", "cleanobject", "heatobject", "coolobject", "toggleobject", "sliceobject"),
    )
)


class PlaceError(Exception):
    """A fault with its key and line; the caller adds the file."""


class Problem:
    """The three sections of a PDDL problem. Names are in lower case, for PDDL does not tell cases apart. Raises PlaceError."""

    kinds: dict[str, str]
    """Declared name -> its kind (object, receptacle, location, otype, rtype, agent)."""
    written: dict[str, str]
    """Declared name -> as it is written in the file."""
    facts: defaultdict[str, list[tuple[str, ...]]]
    """Predicate -> arguments, without duplicates."""
    goal: Goal

    def __init__(self, text: str) -> None:
        self.text = _COMMENT.sub("", text)
        objects, init, goal = (self._section(name) for name in ("objects", "init", "goal"))
        if not objects.start() < init.start() < goal.start():
            raise PlaceError("key 'pddl_problem': the sections must stand in the order :objects, :init, :goal")
        self._read_objects(objects.end(), init.start())
        self._read_init(init.end(), goal.start())
        self._read_goal(goal.start())

    def one_each(self, predicate: str) -> dict[str, str]:
        """First argument -> second one; an error if a name has two."""
        pairs = [(name, value) for name, value in self.facts[predicate]]
        mapping = dict(pairs)
        if len(mapping) != len(pairs):
            twice = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
            raise PlaceError(f"key 'pddl_problem': '{self.written[twice]}' has more than one fact {predicate}")
        return mapping

    def grouped(self, predicate: str) -> defaultdict[str, list[str]]:
        """First argument -> all second ones."""
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in self.facts[predicate]:
            groups[name].append(value)
        return groups

    def marked(self, predicates: tuple[str, ...]) -> defaultdict[str, list[str]]:
        """Name -> those of `predicates` that hold of it."""
        marks: defaultdict[str, list[str]] = defaultdict(list)
        for predicate in predicates:
            for (name,) in self.facts[predicate.lower()]:
                marks[name].append(predicate)
        return marks

    def names(self, predicate: str) -> set[str]:
        """The names of which `predicate` holds."""
        return {name for (name,) in self.facts[predicate]}

    # -- reading --------------------------------------------------------------------------------------------------------

    def _section(self, name: str) -> re.Match[str]:
        found = re.search(rf"\(\s*:{name}\b", self.text)
        if not found:
            raise self._error(len(self.text), f"section (:{name} ..) is missing; is the file cut short?")
        return found

    def _error(self, offset: int, message: str) -> PlaceError:
        return PlaceError(f"key 'pddl_problem', line {self.text.count(chr(10), 0, offset) + 1}: {message}")

    def _read_objects(self, start: int, end: int) -> None:
        self.kinds, self.written = {}, {}
        body = self.text[start:end].rstrip()
        if not body.endswith(")"):
            raise self._error(end, "section (:objects ..) is not closed")
        names: list[str] = []
        tokens = iter(body[:-1].split())
        for token in tokens:
            if token != "-":
                names.append(token)
                continue
            kind = next(tokens, None)
            if kind is None or not names:
                raise self._error(end, "section (:objects ..): '-' needs names before it and a kind after it")
            for name in names:
                self.kinds[name.lower()] = kind
                self.written[name.lower()] = name
            names = []
        if names:
            raise self._error(self.text.find(names[0], start), f"'{names[0]}' has no kind")

    def _read_init(self, start: int, end: int) -> None:
        read = _FACTS.match(self.text, start, end)
        stop = read.end() if read else start
        if self.text[stop:end].strip() != ")":
            piece = " ".join(self.text[stop:end].split())[:60]
            raise self._error(stop, f"not a fact: '{piece}'" if piece else "section (:init ..) is not closed")
        self.facts = defaultdict(list)
        for fact in dict.fromkeys(_FACT.findall(self.text[start:stop].lower())):
            predicate, *arguments = fact.split()
            if len(arguments) != _ARITY.get(predicate, -1):
                reason = f"takes {_ARITY[predicate]} names" if predicate in _ARITY else "is unknown or cannot hold at the start"
                raise self._error(self._find(fact, start), f"({fact}): '{predicate}' {reason}")
            for name in arguments:
                if name not in self.kinds:
                    raise self._error(self._find(fact, start), f"'{name}' is not declared in (:objects ..)")
            self.facts[predicate].append(tuple(arguments))

    def _find(self, fact: str, start: int) -> int:
        return self.text.lower().find(f"({fact})", start)

    def _read_goal(self, start: int) -> None:
        body = self.text[start:]
        if body.count("(") + 1 != body.count(")"):
            raise self._error(len(self.text), "section (:goal ..) is not closed; is the file cut short?")
        goal = read_goal(body)
        if goal is None:
            raise self._error(start, "the goal is none of ALFWorld's six types of task")
        for kind in (goal.object, goal.receptacle, goal.lamp):
            if kind is not None and self.written.get(kind.lower()) != kind:
                raise self._error(start, f"the goal's '{kind}' is not declared in (:objects ..)")
        self.goal = goal


@lru_cache(maxsize=8)
def sinks(domain: str) -> tuple[str, ...]:
    """The receptacle types that clean, by a domain's text; an error unless it has just the actions that are played here."""
    code = _COMMENT.sub("", domain)
    actions = {name.lower() for name in re.findall(r"\(\s*:action\s+([\w-]+)", code)}
    if actions != _ACTIONS:
        raise PlaceError(
            f"key 'pddl_domain': not ALFWorld's; actions missing or unknown: {', '.join(sorted(actions ^ _ACTIONS))}"
        )
    return tuple(re.findall(r"\(receptacleType\s+\?r\s+(Sink\w*)\)", code, re.IGNORECASE))
