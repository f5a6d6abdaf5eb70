"""Commands that win a game: the shortest plan of one who sees everything, and demonstrations of one who has to search.

Plans are made from the initial state alone and then played, so that what is returned has won and ends there. They serve as
walkthroughs and prove that a game can be won; demonstrations are what a model clones before reinforcement learning. Only a
suboptimal demonstration may end without having won.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from envs.alfworld.catalogue import KINDS
from envs.alfworld.engine import Engine
from envs.alfworld.game import Game
from envs.alfworld.goals import CHANGES
from envs.base import Unsolvable

_VERBS: dict[str, str] = {"cleanable": "clean", "heatable": "heat", "coolable": "cool"}

IDLE = 0.8
"""Probability that a suboptimal demonstration looks around before a command, and again after that."""

Fetch = tuple[int, int]
"""An object and the receptacle to take it from, as indices."""


def plan(game: Game) -> list[str]:
    """Commands that win, as few as trips that fetch one thing after another need. Raises Unsolvable if there are none."""
    return _until_won(game, min((_execute(game, fetches, end) for fetches, end in _trips(game)), key=len, default=[]))


def demonstration(game: Game, rng: np.random.Generator, detours: float, limit: int, suboptimal: bool = False) -> list[str]:
    """Commands, at most `limit`, of an agent that can win but does not know where things are.

    Before each thing it needs and has not yet seen, it looks with probability `detours` into 1 to 3 other places where such a
    thing could be, opening what is closed, and never the same place twice. A `suboptimal` one looks around about four times
    for every useful command, and so often runs out of steps. Raises Unsolvable if no plan fits into `limit`.
    """
    trips = list(_trips(game))
    if not trips:
        return plan(game)
    # Which of several equal things is fetched must not be the oracle's knowledge: any of them is as good.
    chosen = [fetches for fetches, _ in trips]
    fetches = chosen[int(rng.integers(len(chosen)))]
    ends = [end for other, end in trips if other == fetches]
    end = min(ends, key=lambda end: len(_execute(game, fetches, end)))
    for most in (3, 2, 1, 0):
        commands = _until_won(game, _execute(game, fetches, end, _Search(game, rng, detours if most else 0.0, most)))
        if len(commands) <= limit:
            return _dawdling(commands, rng)[:limit] if suboptimal else commands
    commands = plan(game)
    if len(commands) <= limit:
        return commands
    raise Unsolvable(f"{game.source}: '{game.task}' needs {len(commands)} steps, more than env.max_steps={limit}")


def _dawdling(commands: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The same commands with needless ones between them."""
    slow: list[str] = []
    for command in commands:
        while rng.random() < IDLE:
            slow.append("look")
        slow.append(command)
    return slow


def _until_won(game: Game, commands: list[str]) -> list[str]:
    """The commands up to the win: an official object may lie in two places at once, and be home before it was brought there."""
    engine = Engine(game)
    for played in range(len(commands) + 1):
        if engine.won:
            return commands[:played]
        if played == len(commands) or not engine.step(commands[played])[1]:
            break
    raise Unsolvable(f"{game.source}: '{game.task}' cannot be done with what the room has")


def _trips(game: Game) -> Iterator[tuple[tuple[Fetch, ...], int]]:
    """All ways to win: what to fetch from where, in order, and the receptacle to end at (where it goes, or the lamp's)."""
    goal = game.goal
    targets = [i for i, item in enumerate(game.objects) if item.type == goal.object and "pickupable" in item.abilities]
    fetches = [(i, place) for i in targets for place in game.objects[i].places]
    if goal.lamp is not None:
        lamps = [item for item in game.objects if item.type == goal.lamp and "toggleable" in item.abilities]
        yield from (((fetch,), place) for fetch in fetches for lamp in lamps for place in lamp.places)
        return
    if (goal.receptacle, goal.object) not in game.can_contain:
        return
    ends = [i for i, receptacle in enumerate(game.receptacles) if receptacle.type == goal.receptacle]
    if goal.task_type == "pick_two_obj_and_place":
        for end in ends:
            there = {i for i, place in fetches if place == end}
            away = [fetch for fetch in fetches if fetch[0] not in there]
            if there:
                yield from (((fetch,), end) for fetch in away)
            yield from ((pair, end) for pair in permutations(away, 2) if pair[0][0] != pair[1][0])
        return
    if goal.task_type in CHANGES:
        ability, _ = CHANGES[goal.task_type]
        if _tool(game, ability) is None:
            return
        fetches = [(i, place) for i, place in fetches if ability in game.objects[i].abilities]
    yield from (((fetch,), end) for fetch in fetches for end in ends)


def _execute(game: Game, fetches: tuple[Fetch, ...], end: int, search: _Search | None = None) -> list[str]:
    """The commands of one way to win, with a search before each fetch if one is given."""
    walk = _Walk(game)
    for number, place in fetches:
        item = game.objects[number]
        if search:
            search.before(walk, item.type, place)
        walk.enter(place)
        walk.say(f"take {item.name} from {game.receptacles[place].name}")
        if game.goal.lamp is not None:
            if search:
                search.before(walk, game.goal.lamp, end)
            walk.go(end)
            lamp = next(lamp for lamp in game.objects if lamp.type == game.goal.lamp and end in lamp.places)
            walk.say(f"use {lamp.name}")
            continue
        if game.goal.task_type in CHANGES:
            ability, state = CHANGES[game.goal.task_type]
            tool = _tool(game, ability)
            if tool is not None and state not in item.states:
                walk.go(tool)
                walk.say(f"{_VERBS[ability]} {item.name} with {game.receptacles[tool].name}")
        walk.enter(end)
        walk.say(f"move {item.name} to {game.receptacles[end].name}")
    return walk.commands


def _tool(game: Game, ability: str) -> int | None:
    """The first receptacle that does to an object what its ability allows."""
    types = {"cleanable": game.sinks, "heatable": {"MicrowaveType"}, "coolable": {"FridgeType"}}[ability]
    return next((i for i, receptacle in enumerate(game.receptacles) if receptacle.type in types), None)


class _Walk:
    """Commands so far, and what of the state they depend on: where the agent is, what is open, which places were seen."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.commands: list[str] = []
        self.location = game.start
        self.open = {i for i, receptacle in enumerate(game.receptacles) if receptacle.opened or not receptacle.openable}
        self.seen: set[int] = set()

    def say(self, command: str) -> None:
        self.commands.append(command)

    def go(self, place: int) -> None:
        receptacle = self.game.receptacles[place]
        if receptacle.location != self.location:
            self.location = receptacle.location
            self.say(f"go to {receptacle.name}")

    def enter(self, place: int) -> None:
        """Go there and open it if it is closed."""
        self.go(place)
        if place not in self.open:
            self.open.add(place)
            self.say(f"open {self.game.receptacles[place].name}")
        self.seen.add(place)


class _Search:
    """Looks into wrong places first, as one who knows where a type of thing is usually found but not where this one is."""

    def __init__(self, game: Game, rng: np.random.Generator, detours: float, most: int) -> None:
        self.game = game
        self.rng = rng
        self.detours = detours
        self.most = most

    def before(self, walk: _Walk, kind: str, place: int) -> None:
        """Visit 0 to `most` places that could hold a `kind` before the one that does."""
        if place in walk.seen or self.rng.random() >= self.detours:
            return
        options = [
            i for i in self._plausible(kind) if i not in walk.seen and self.game.receptacles[i].location != walk.location
        ]
        order = self.rng.permutation(len(options))
        for i in order[: int(self.rng.integers(1, self.most + 1))]:
            walk.enter(options[i])

    def _plausible(self, kind: str) -> list[int]:
        holds = {place for item in self.game.objects if item.type == kind for place in item.places}
        known = KINDS.get(kind.removesuffix("Type"))
        common = {f"{name}Type" for name in known.found} if known else set()
        empty = [(i, receptacle) for i, receptacle in enumerate(self.game.receptacles) if i not in holds]
        # what is to be put into cabinets is not looked for in cabinets
        options = [i for i, receptacle in empty if receptacle.type in common and receptacle.type != self.game.goal.receptacle]
        return options or [i for i, receptacle in empty if (receptacle.type, kind) in self.game.can_contain]
