"""Milestones of a level, by rules on what NetHack shows before and after a step: what shaping and reports call progress.

A milestone is an event: what is so when an episode begins was achieved by no step. They are monotone: what was once reached
stays reached. The last one is the win, and the win brings no other: stairs can be reached without the key, where the agent
begins behind the door. They never change a reward. All but the win show on the map or in what is carried, which is what a
judge is asked about; to have crossed something shows in neither, and is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase

from envs.minihack.levels import SUPPORTED
from envs.minihack.scene import Scene

STAIRS, SIGHT = "reach the stairs", "see the stairs"

NAMES: dict[str, tuple[str, ...]] = {
    "KeyRoom-*": ("pick up the key", "open the door", STAIRS),
    "LockedDoor*": ("open the door", STAIRS),
    "ClosedDoor*": ("open the door", STAIRS),
    "Room-Dark-*": (SIGHT, STAIRS),
    "Room-Ultimate-*": (SIGHT, STAIRS),
    "Corridor*": (SIGHT, STAIRS),
    "MazeWalk-Mapped-*": (STAIRS,),
    "MazeWalk-*": (SIGHT, STAIRS),
    "ExploreMaze-*-Mapped": (STAIRS,),
    "ExploreMaze-*": (SIGHT, STAIRS),
    "HideNSeek-Mapped": (STAIRS,),
    "HideNSeek*": (SIGHT, STAIRS),
    "Labyrinth-*": (SIGHT, STAIRS),
    "River*Lava": ("push a boulder into the river", STAIRS),
    "River*": ("push a boulder into the water", STAIRS),
    "LavaCross-Levitate-*-Inv-*": (STAIRS,),
    "LavaCross-Levitate-Potion-*": ("pick up the potion", STAIRS),
    "LavaCross-Levitate-Ring-*": ("pick up the ring", STAIRS),
    "Freeze-Wand-*": ("pick up the wand", "freeze with the wand"),
    "Freeze-Horn-*": ("pick up the horn", "freeze with the horn"),
    "Freeze-Random-*": ("freeze with what lies here",),
    "Levitate-Boots-*": ("pick up the boots", "levitate"),
    "Levitate-Ring-*": ("pick up the ring", "levitate"),
    "Levitate-Potion-*": ("pick up the potion", "levitate"),
    "Levitate-*": ("levitate",),
    "WoD-Easy-*": ("kill the minotaur",),
    "WoD-*": ("pick up the wand", STAIRS),
    "Eat*": ("eat the apple",),
    "Wield*": ("pick up the dagger", "wield the dagger"),
    "Wear*": ("pick up the robe", "wear the robe"),
    "PutOn*": ("pick up the amulet", "put on the amulet"),
    "Zap*": ("pick up the wand", "zap the wand"),
    "Read*": ("pick up the scroll", "read the scroll"),
    "Pray*": ("pray on the altar",),
    "Sink*": ("drink from the sink",),
    "Memento-*": ("kill the grid bug",),
    "Sokoban*": ("fill every pit and reach the stairs",),
}
"""Names by pattern of the level's name, the first that fits; every other level, and every level of one's own, ends at the
stairs."""


def names(level: str) -> tuple[str, ...]:
    """All milestones of a level, in their usual order; the last is the win."""
    if level not in SUPPORTED:
        return (STAIRS,)
    return next((found for pattern, found in NAMES.items() if fnmatchcase(level, pattern)), (STAIRS,))


class Subgoals:
    """The milestones of one episode; make a new one at a reset."""

    def __init__(self, level: str) -> None:
        self.names = names(level)
        self._reached = [False] * len(self.names)
        self._awaited = set(self.names[:-1])
        """Those that a step can achieve in this episode."""

    def update(self, before: Scene | None, after: Scene, won: bool) -> tuple[str, ...]:
        """Names of the milestones reached so far, in the level's order; to be called after the reset (before=None) and after
        every step."""
        if before is None:
            if _sees_the_stairs(after, after):  # who sees them again, later, achieves nothing
                self._awaited.discard(SIGHT)
        else:
            for number, name in enumerate(self.names):
                if name in self._awaited:
                    self._reached[number] |= _RULES[name](before, after)
        self._reached[-1] |= won
        return self.reached

    @property
    def reached(self) -> tuple[str, ...]:
        """Names of the milestones reached so far, in the level's order."""
        return tuple(name for name, done in zip(self.names, self._reached) if done)


# -- rules: whether an event lies between two scenes --------------------------------------------------------------------------

Rule = Callable[[Scene, Scene], bool]


def _picks_up(word: str) -> Rule:
    """Something of that name is carried and was not. What is carried decides, not the message ("g - a key."), of which NetHack
    may show another part."""
    named = re.compile(rf"\b{word}\b", re.IGNORECASE)

    def rule(before: Scene, after: Scene) -> bool:
        if before.inventory == after.inventory:
            return False
        carried = {letter for letter, text in before.inventory if named.search(text)}
        return any(letter not in carried and named.search(text) for letter, text in after.inventory)

    return rule


def _opens_a_door(before: Scene, after: Scene) -> bool:
    """A closed or locked door became an open, a broken or no door. The message will not do: after unlocking it is "Never mind."
    That the door is gone from the map will not do either: once a game is over, NetHack shows no map."""
    closed = before.showing("closed door")
    return bool(closed and closed & after.showing("open door", "broken door", "doorway"))


def _sees_the_stairs(before: Scene, after: Scene) -> bool:
    """Stairs down are in sight, or remembered: the first step that shows them is the event."""
    return bool(after.showing("staircase down"))


def _fills(*liquids: str) -> Rule:
    """A boulder was pushed into a liquid, and there is floor now. That water turned to floor will not do: who crawls out of it
    may see its other bank in its place."""

    def rule(before: Scene, after: Scene) -> bool:
        (row, column), (to_row, to_column) = before.place, after.place
        ahead = (2 * to_row - row, 2 * to_column - column)
        # What lies behind a boulder need not be known; but a boulder that met no liquid would lie there now.
        pushed = before.described(to_row, to_column).endswith("boulder") and before.described(*ahead) in ("", *liquids)
        return pushed and after.described(*ahead) in ("floor of a room", "dark part of a room")

    return rule


_RULES: dict[str, Rule] = {
    **{
        f"pick up the {word}": _picks_up(word)
        for word in ("key", "wand", "horn", "potion", "ring", "boots", "dagger", "robe", "amulet", "scroll")
    },
    "open the door": _opens_a_door,
    SIGHT: _sees_the_stairs,
    "push a boulder into the water": _fills("water"),
    "push a boulder into the river": _fills("water", "molten lava"),
}
