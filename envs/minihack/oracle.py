"""How somebody plays who knows the rules and not the map: for demonstrations, on levels where nothing fights back.

The oracle sees what an agent sees. It walks by breadth-first search over the places seen so far: to the stairs, else to the
key, else to a closed door, else to where something may come into sight.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

import numpy as np

from envs.base import NoOracle, Unsolvable
from envs.minihack.game import Game, Seeds
from envs.minihack.levels import SUPPORTED
from envs.minihack.looks import Place
from envs.minihack.scene import WAYS

LEVELS = (
    "KeyRoom-*",
    "ClosedDoor*",
    "LockedDoor*",
    "Room-5x5",
    "Room-15x15",
    "Room-Random-*",
    "Room-Dark-*",
    "Room-Trap-*",
    "Corridor-*",
    "MazeWalk-*",
    "ExploreMaze-*",
    "Labyrinth-*",
)
"""Patterns of the levels that it plays."""
IDLENESS = 0.75
"""Probability that a suboptimal demonstration takes a needless step before a useful one, and again after that."""
_GROUND = re.compile("floor of a room|dark part of a room|(lit )?corridor|doorway|broken door|open door|staircase|ladder")
_KEY = re.compile(r"\bkey\b", re.IGNORECASE)
_THINGS = frozenset(b'$)[="(%!?/*')
"""Characters of things that lie about and do not bar the way; boulders do."""
_DOORWAYS = frozenset(("doorway", "broken door", "open door"))
"""Nobody passes an open door diagonally; that the others can be is not made use of."""

Plan = tuple[str, ...]


def demonstration(
    game: Game, seeds: Seeds, rng: np.random.Generator, detours: float = 0.0, suboptimal: bool = False, limit: int = 100
) -> list[str]:
    """Actions, at most `limit`, that win the level of these seeds. Plays `game`.

    With probability `detours` it walks somewhere else before it goes for the key, the door or the stairs; one that is
    `suboptimal` wanders about on its way, and may run out of steps. Raises NoOracle for a level that it does not play, and
    Unsolvable if it finds no way or none within `limit`.
    """
    if game.level not in SUPPORTED or not any(fnmatchcase(game.level, pattern) for pattern in LEVELS):
        raise NoOracle(f"level {game.level} has no oracle to clone: set warmstart.enabled=false")
    for share in (detours, 0.0):
        player = _Player(game, seeds, rng, share, suboptimal, limit)
        if player.wins() or (suboptimal and len(player.done) >= limit):
            return player.done
    raise Unsolvable(f"{game.level}: the oracle found no way to win within env.max_steps={limit}")


class _Player:
    """One episode, and what was learned in it."""

    def __init__(
        self, game: Game, seeds: Seeds, rng: np.random.Generator, detours: float, suboptimal: bool, limit: int
    ) -> None:
        self._game, self._rng, self._detours, self._dawdling, self._limit = game, rng, detours, suboptimal, limit
        self._ways = {name: way for name, way in WAYS.items() if name in game.actions}
        self._scene = game.reset(seeds)
        self._over = self._won = False
        self._visited = {self._scene.place}
        self._seen: dict[Place, str] = {}
        """What lies where, as last seen."""
        self._doorways: set[Place] = set()
        self._barred: set[tuple[Place, str, str]] = set()
        """Steps that led nowhere: from where, which way, and towards what."""
        self._begun: set[str] = set()
        """Aims that it has already had."""
        self.done: list[str] = []

    def wins(self) -> bool:
        """Play to the end. False if there is no way, or no time left."""
        while not self._over:
            plan = self._plan()
            if plan is None:
                return False
            for action in plan:
                if not self._does(action):
                    break
        return self._won

    # -- doing --------------------------------------------------------------------------------------------------------------

    def _does(self, action: str) -> bool:
        """One needful action, unless wandering about leads somewhere else. Whether the plan can be gone on with."""
        place = self._scene.place
        while self._dawdling and not self._over and not self._scene.waiting and self._rng.random() < IDLENESS:
            self._step(list(self._ways)[int(self._rng.integers(len(self._ways)))])
        if self._over or self._scene.place != place:
            return False
        before = self._scene
        self._step(action)
        if self._over or before.waiting or action not in self._ways:
            return not self._over
        aim = (place[0] + WAYS[action][0], place[1] + WAYS[action][1])
        if self._scene.place == place and (self._scene.time == before.time or "boulder" in self._scene.message):
            self._barred.add((place, action, before.described(*aim)))
        return self._scene.place == aim

    def _step(self, action: str) -> None:
        self._scene, _, end = self._game.step(action)
        self.done.append(action)
        self._won = end == "won"
        self._over = end is not None or len(self.done) >= self._limit
        self._visited.add(self._scene.place)

    # -- planning -----------------------------------------------------------------------------------------------------------

    def _plan(self) -> Plan | None:
        """What leads to the first aim that can be reached, by the shortest way."""
        scene = self._scene
        words = {place: word for place, (_, word) in scene.known.items()}
        words[scene.place] = self._seen.get(scene.place, "")  # what it stands on is hidden by itself
        self._seen |= words
        self._doorways |= {place for place, word in words.items() if word in _DOORWAYS}
        paths = self._paths({p for p, word in words.items() if _GROUND.match(word) or scene.chars[p] in _THINGS})
        for aim, ends in self._aims(words, paths):
            reached = [place for place in paths if place in ends]  # in the order of the search: the nearest first
            if not reached:
                continue
            if aim not in self._begun and aim != "sight":
                self._begun.add(aim)
                if self._rng.random() < self._detours:
                    return list(paths.values())[int(self._rng.integers(len(paths)))]
            plan = paths[reached[0]] + ends[reached[0]]
            return plan[:1] if aim == "sight" else plan  # each step of a search may show something better
        return None

    def _aims(self, words: dict[Place, str], paths: Iterable[Place]) -> Iterator[tuple[str, dict[Place, Plan]]]:
        """What to go for, the best first: the places that will do, and what to do there."""
        yield "stairs", {place: () for place, word in words.items() if word == "staircase down"}
        has_key = any(_KEY.search(text) for _, text in self._scene.picked_up)
        if "pickup" in self._game.actions and not has_key:
            yield "key", {place: ("pickup",) for place, word in words.items() if _KEY.search(word)}
        yield "door", dict(self._fronts([place for place, word in words.items() if word == "closed door"], has_key))
        yield "sight", {place: () for place in paths if place not in self._visited and self._borders_on_the_unknown(place)}
        if len(self._visited) == 1:  # perhaps it stands on what it looks for
            yield "sight", {place: () for place in paths if place not in self._visited}

    def _fronts(self, doors: Iterable[Place], has_key: bool) -> Iterator[tuple[Place, Plan]]:
        """Places before closed doors, and how to open those from there: with the key, by walking at it, or with a kick."""
        for row, column in doors:
            for name in ("north", "east", "south", "west"):
                front = (row - WAYS[name][0], column - WAYS[name][1])
                if has_key:
                    yield front, ("apply",)
                elif (front, name, "closed door") not in self._barred and not self._game.level.startswith("KeyRoom"):
                    yield front, (name,)
                elif "kick" in self._game.actions:
                    yield front, ("kick", name)

    def _borders_on_the_unknown(self, place: Place) -> bool:
        row, column = place
        return bool((self._scene.chars[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] == ord(" ")).any())

    def _paths(self, ground: set[Place]) -> dict[Place, Plan]:
        """The shortest way to every place that can be reached, the nearest first."""
        paths: dict[Place, Plan] = {self._scene.place: ()}
        queue = deque(paths)
        while queue:
            place = queue.popleft()
            for name, (row, column) in self._ways.items():
                to = (place[0] + row, place[1] + column)
                diagonal = row != 0 and column != 0
                if to not in ground or to in paths or (place, name, self._scene.described(*to)) in self._barred:
                    continue
                if diagonal and (place in self._doorways or to in self._doorways):
                    continue
                paths[to] = (*paths[place], name)
                queue.append(to)
        return paths
