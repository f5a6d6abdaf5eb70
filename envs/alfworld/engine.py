"""Plays one ALFWorld game: the official engine's texts, commands and quirks, thousands of times faster.

The official engine plans over PDDL for every step; this one knows the one domain there is. Equality with it is not argued but
measured: `scripts/check_parity.py`. Rewards, time limits and subgoals are left to others.

Quirks that are kept because agents see them: receptacles may share a spot, and "go to" is offered only for other spots; an
object may be in several receptacles; only a held object can be examined; microwaves and fridges work while closed; a lamp works
inside a closed receptacle; "look" lists only objects that were taken from a receptacle here and put into another one here, and
in the middle of the room nothing, though the first observation lists the room.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable

from envs.alfworld.game import Game
from envs.alfworld.goals import CHANGES
from envs.alfworld.state_key import code
from envs.alfworld.texts import BANNER, HELP, NOTHING_HAPPENS, TASK, condition, joined, listing, room

_KNIVES = ("knifetype", "butterknifetype")
_Command = tuple[Callable[[int, int], str], int, int]


class Engine:
    """One game in play. State lies in plain attributes, to be read by planners and subgoal rules and written by `step` only."""

    game: Game
    won: bool
    location: int
    """Index of the agent's spot."""
    held: int | None
    """Index of the object in hand."""
    opened: set[int]
    contents: list[list[int]]
    """[receptacle] objects in it, in listing order."""
    places: list[set[int]]
    """[object] receptacles that it is in."""
    clean: set[int]
    hot: set[int]
    cool: set[int]
    sliced: set[int]
    toggled: set[int]
    _admissible: list[str] | None

    def __init__(self, game: Game) -> None:
        self.game = game
        self._names = [item.name for item in game.objects]
        self._able = [item.abilities for item in game.objects]
        self._spot_of = [receptacle.location for receptacle in game.receptacles]
        self._at_spot: list[list[int]] = [[] for _ in game.locations]
        for r, spot in enumerate(self._spot_of):
            self._at_spot[spot].append(r)
        self._go_to = {f"go to {receptacle.name}": r for r, receptacle in enumerate(game.receptacles)}
        self._sorted_go_to = [(command, self._spot_of[r]) for command, r in sorted(self._go_to.items())]
        self._knives = {o for o, item in enumerate(game.objects) if item.type.lower() in _KNIVES}
        self._sliceable = [o for o, able in enumerate(self._able) if "sliceable" in able]
        self._toggleable = [o for o, able in enumerate(self._able) if "toggleable" in able]
        self._appliances = [self._uses(receptacle.type) for receptacle in game.receptacles]
        needed, self._change = CHANGES.get(game.goal.task_type, ("", ""))
        self._targets = [
            o
            for o, item in enumerate(game.objects)
            if item.type == game.goal.object and (not needed or needed in item.abilities)
        ]
        self._restart()

    def _uses(self, kind: str) -> list[tuple[str, str, Callable[[int, int], str]]]:
        """(verb, ability it takes, action) for what a type of receptacle can do to an object in hand."""
        uses: list[tuple[str, str, Callable[[int, int], str]]] = []
        if kind in self.game.sinks:
            uses.append(("clean", "cleanable", self._clean))
        if kind.lower() == "microwavetype":
            uses.append(("heat", "heatable", self._heat))
        if kind.lower() == "fridgetype":
            uses.append(("cool", "coolable", self._cool))
        return uses

    # -- playing --------------------------------------------------------------------------------------------------------

    def reset(self) -> str:
        """Back to the start; returns the first observation: banner, room, task."""
        self._restart()
        in_room = not self._at_spot[self.location]
        view = room([receptacle.name for receptacle in self.game.receptacles]) if in_room else self._look(0, 0)
        return f"{BANNER}\n\n{view}\n\n{TASK}{self.game.task}"

    def _restart(self) -> None:
        game = self.game
        self.location, self.held = game.start, None
        self.opened = {r for r, receptacle in enumerate(game.receptacles) if receptacle.opened}
        self.places = [set(item.places) for item in game.objects]
        self.contents = [[] for _ in game.receptacles]
        for o, item in enumerate(game.objects):
            for r in item.places:
                self.contents[r].append(o)
        self.clean, self.hot, self.cool, self.sliced, self.toggled = (
            {o for o, item in enumerate(game.objects) if state in item.states}
            for state in ("isClean", "isHot", "isCool", "isSliced", "isToggled")
        )
        self._lies_at = [set(item.locations) for item in game.objects]
        self._taken_from: dict[int, set[int]] = {}
        self._key = int(game.hash, 16)
        self._renew()

    def step(self, command: str) -> tuple[str, bool]:
        """Execute `command`; returns the observation and whether the command was possible."""
        command = command.strip()
        destination = self._go_to.get(command)
        if destination is not None and self._spot_of[destination] != self.location:
            return self._go(destination), True
        found = self._commands.get(command)
        if found is None:
            return NOTHING_HAPPENS, False
        action, first, second = found
        return action(first, second), True

    @property
    def admissible(self) -> list[str]:
        """All possible commands, sorted. The list is shared until the state changes: to be read only."""
        if self._admissible is None:
            elsewhere = [command for command, spot in self._sorted_go_to if spot != self.location]
            self._admissible = sorted([*elsewhere, *self._commands])  # a long sorted run and a short rest: timsort is fast
        return self._admissible

    @property
    def state_key(self) -> str:
        """16 hex digits that name game and state; the same on every machine."""
        return f"{self._key:016x}"

    # -- what follows from the state ------------------------------------------------------------------------------------

    def _renew(self) -> None:
        """After a change: the possible commands (without "go to"), and whether the game is won."""
        self._admissible = None
        game, names, held = self.game, self._names, self.held
        self._commands: dict[str, _Command] = {
            "help": (self._help, 0, 0),
            "inventory": (self._inventory, 0, 0),
            "look": (self._look, 0, 0),
        }
        commands = self._commands
        for r in self._at_spot[self.location]:
            receptacle = game.receptacles[r]
            place = receptacle.name
            commands[f"examine {place}"] = (self._examine_receptacle, r, 0)
            reachable = not receptacle.openable or r in self.opened
            if not reachable:
                commands[f"open {place}"] = (self._open, r, 0)
            elif receptacle.openable:
                commands[f"close {place}"] = (self._close, r, 0)
            if held is None:
                if reachable:
                    for o in self.contents[r]:
                        if "pickupable" in self._able[o]:
                            commands[f"take {names[o]} from {place}"] = (self._take, o, r)
            else:
                if reachable and (receptacle.type, game.objects[held].type) in game.can_contain:
                    commands[f"move {names[held]} to {place}"] = (self._put, held, r)
                for verb, ability, action in self._appliances[r]:
                    if ability in self._able[held]:
                        commands[f"{verb} {names[held]} with {place}"] = (action, held, r)
        if held is not None:
            commands[f"examine {names[held]}"] = (self._examine_object, held, 0)
            if held in self._knives:
                for o in self._sliceable:
                    if self.location in self._lies_at[o]:
                        commands[f"slice {names[o]} with {names[held]}"] = (self._slice, o, held)
        for o in self._toggleable:
            if self._is_here(o):
                commands[f"use {names[o]}"] = (self._use, o, 0)
        self.won = self._goal_met()

    def _is_here(self, o: int) -> bool:
        return any(self._spot_of[r] == self.location for r in self.places[o])

    def _goal_met(self) -> bool:
        game, goal = self.game, self.game.goal
        if goal.lamp is not None:
            lit = any(
                game.objects[o].type == goal.lamp and "toggleable" in self._able[o] and self._is_here(o) for o in self.toggled
            )
            return lit and self.held in self._targets
        marks = {"isClean": self.clean, "isHot": self.hot, "isCool": self.cool}.get(self._change)
        targets = self._targets if marks is None else [o for o in self._targets if o in marks]
        placed = [r for o in targets for r in self.places[o] if game.receptacles[r].type == goal.receptacle]
        return len(placed) > len(set(placed)) if goal.task_type == "pick_two_obj_and_place" else bool(placed)

    # -- actions that change the state; each returns the observation ----------------------------------------------------

    def _go(self, r: int) -> str:
        self._key ^= code("at", self.location) ^ code("at", self._spot_of[r])
        self.location = self._spot_of[r]
        self._renew()
        return f"You arrive at {self.game.receptacles[r].name}. {self._examine_receptacle(r, 0)}"

    def _open(self, r: int, _: int) -> str:
        self._mark(self.opened, "open", r, True)
        self._renew()
        return f"You open the {self.game.receptacles[r].name}. {self._examine_receptacle(r, 0)}"

    def _close(self, r: int, _: int) -> str:
        self._mark(self.opened, "open", r, False)
        self._renew()
        return f"You close the {self.game.receptacles[r].name}."

    def _take(self, o: int, r: int) -> str:
        self.held = o
        self._key ^= code("held", o)
        self.contents[r].remove(o)
        self._mark(self.places[o], "in", r, False, o)
        self._mark(self._lies_at[o], "lies", self.location, False, o)
        if len(self._at_spot[self.location]) > 1:  # elsewhere "look" can never tell
            self._mark(self._taken_from.setdefault(o, set()), "taken", r, True, o)
        self._renew()
        return f"You pick up the {self._names[o]} from the {self.game.receptacles[r].name}."

    def _put(self, o: int, r: int) -> str:
        self.held = None
        self._key ^= code("held", o)
        if r not in self.places[o]:
            insort(self.contents[r], o)
        self._mark(self.places[o], "in", r, True, o)
        self._mark(self._lies_at[o], "lies", self.location, True, o)
        if o in self._taken_from:
            self._mark(self._taken_from[o], "taken", r, False, o)
        self._renew()
        return f"You move the {self._names[o]} to the {self.game.receptacles[r].name}."

    def _clean(self, o: int, r: int) -> str:
        self._mark(self.clean, "clean", o, True)
        self._renew()
        return f"You clean the {self._names[o]} using the {self.game.receptacles[r].name}."

    def _heat(self, o: int, r: int) -> str:
        self._mark(self.hot, "hot", o, True)
        self._mark(self.cool, "cool", o, False)
        self._renew()
        return f"You heat the {self._names[o]} using the {self.game.receptacles[r].name}."

    def _cool(self, o: int, r: int) -> str:
        self._mark(self.cool, "cool", o, True)
        self._mark(self.hot, "hot", o, False)
        self._renew()
        return f"You cool the {self._names[o]} using the {self.game.receptacles[r].name}."

    def _use(self, o: int, _: int) -> str:
        self._mark(self.toggled, "toggled", o, True)  # nothing is ever turned off again
        self._renew()
        return f"You turn on the {self._names[o]}."

    def _slice(self, o: int, knife: int) -> str:
        self._mark(self.sliced, "sliced", o, True)
        self._renew()
        return f"You sliced the {self._names[o]} with the {self._names[knife]}."

    def _mark(self, those: set[int], kind: str, index: int, holds: bool, of: int = 0) -> None:
        """Put `index` into the set or take it out, and the state's key along with it."""
        if (index in those) != holds:
            those.symmetric_difference_update((index,))
            self._key ^= code(kind, index, of)

    # -- actions that only look -----------------------------------------------------------------------------------------

    def _help(self, _: int, __: int) -> str:
        return HELP

    def _inventory(self, _: int, __: int) -> str:
        return "You are not carrying anything." if self.held is None else f"You are carrying: a {self._names[self.held]}."

    def _look(self, _: int, __: int) -> str:
        here = self._at_spot[self.location]
        if not here:
            return room([])
        moved = [o for o in sorted(self._taken_from) if self.location in self._lies_at[o]]
        seen = [self._names[o] for o in moved for r in here if r in self._taken_from[o]]
        facing = joined([self.game.receptacles[r].name for r in here])
        return f"You are facing the {facing}. Next to it, you see {listing(seen)}."

    def _examine_receptacle(self, r: int, _: int) -> str:
        receptacle = self.game.receptacles[r]
        if receptacle.openable and r not in self.opened:
            return f"The {receptacle.name} is closed."
        seen = listing([self._names[o] for o in self.contents[r]])
        if receptacle.openable:
            return f"The {receptacle.name} is open. In it, you see {seen}."
        return f"On the {receptacle.name}, you see {seen}."

    def _examine_object(self, o: int, _: int) -> str:
        item = self.game.objects[o]
        if item.inside is not None:
            return f"This is a normal {item.name}. In it, you see {listing([self._names[i] for i in item.inside])}."
        toggled = "toggleable" in item.abilities and o in self.toggled
        return condition(item.name, o in self.hot, o in self.cool, o in self.clean, o in self.sliced, toggled)
