"""How a model sees MiniHack: the role, what can be done, and a short form of observations for a model made for them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from envs.minihack import observation as o
from envs.minihack.looks import COLUMNS
from envs.minihack.scene import WAYS
from envs.prompt import Prompt, Window

_ORDINARY = frozenset(("floor", "dark floor", "unknown", "corridor", "lit corridor"))
"""What is next to an agent nearly always."""
_PROPER = re.compile(r" named .*?(?=$|[;,.]| (?:north|east|south|west) \d)", re.MULTILINE)
"""Names of single things: in "key named The Master Key of Thievery north 1; ..." all but key and way."""
_WORDS = (
    *("wall", "doorway", "closed", "open", "door", "broken", "staircase", "up", "down", "boulder", "water", "molten", "lava"),
    *("key", "wand", "ring", "potion", "scroll", "amulet", "horn", "boots", "apple", "altar", "sink", "fountain", "trap"),
    *("nothing", "more", "of", "task", "pick", "reach", "stairs", "it", "is", "locked", "what", "you", "see", "here", "named"),
    *(":", ";", "pickup", "apply", "kick", "search", "zap", "eat", "wear", "wield", "read", "pray", "quaff", "puton", "fire"),
)
_PHRASES = (
    *("this door is locked", "you see here", "it's a wall", "there is nothing here to pick up", "the door opens"),
    *("staircase down", "staircase up", "closed door", "open door", "you carry", "last action:", "picked up:", "next to:"),
)


class MiniHackPrompt(Prompt):
    """Texts of MiniHack."""

    refusal = "That was none of the possible actions."
    turns_read = 16

    def role(self) -> str:
        """What the agent is, and how the compass lies."""
        return (
            "You play a small level of NetHack as a lone adventurer, one key press at a time. North is up on the map and east "
            "is to the right; '@' is you."
        )

    def task(self, observation: str) -> str:
        """The task's own words, out of the first observation."""
        return _lines(observation).get(o.TASK, "")

    def window(self, now: Window) -> str:
        """The whole prompt, rebuilt for one step: task, last turns, what is seen, what can be done."""
        return self.rebuilt(now, "The task", "what you saw and what you did", "you see now:\n", _untold)

    def listing(self, admissible: Sequence[str] | None) -> str:
        """The possible actions on one line, or nothing where the episode is over."""
        return f"\nPossible actions: {', '.join(admissible)}" if admissible else ""

    def plain(self, observation: str) -> str:
        """Message, things in sight, what is unusual next to the agent, and what was picked up. The map, which takes many
        tokens, says the same and is left out; an observation that has none of these lines stays as it is."""
        lines = _lines(_PROPER.sub("", observation))
        said = [lines[name] for name in (o.MESSAGE, o.THINGS) if name in lines]
        if o.AROUND in lines:
            # "beside" keeps what bars the way apart from the ways to things.
            near = [word for word in lines[o.AROUND].split(", ") if word.partition(" ")[2] not in _ORDINARY]
            said += ["beside " + " ".join(near)] if near else []
        if o.UNDER in lines:
            said.append("here " + lines[o.UNDER])
        if o.PICKED_UP in lines:
            said.append("have " + " ".join(one.partition(": ")[2] for one in lines[o.PICKED_UP].split("; ")))
        return "\n".join(said) or observation

    def legend(self, observation: str) -> str:
        """What the characters of the map mean, unless the observation says it itself."""
        lines = _lines(observation)
        return (
            "" if o.MAP not in lines or o.LEGEND in lines else "@ you, . floor, | and - walls, + door or book, > staircase down"
        )

    def lexicon(self) -> tuple[Sequence[str], Sequence[str]]:
        """(stock phrases, further words): the compass with distances is most of the language."""
        ways = [f"{way} {distance}" for way in ("north", "east", "south", "west") for distance in range(1, COLUMNS)]
        return _PHRASES, [*WAYS, *(f"far {way}" for way in WAYS), *ways, *_WORDS, "beside", "have", "far"]


def _lines(observation: str) -> dict[str, str]:
    """The observation's lines by their names; rows of the map are none."""
    named = (line.partition(":") for line in observation.splitlines())
    return {name: rest.strip() for name, colon, rest in named if colon and name in _NAMES}


_NAMES = frozenset((o.TASK, o.MESSAGE, o.MAP, o.LEGEND, o.AROUND, o.UNDER, o.THINGS, o.CARRIED, o.PICKED_UP, o.STATUS, o.LAST))


def _untold(observation: str) -> str:
    """An observation for a prompt that states the task by itself."""
    first, _, rest = observation.partition("\n")
    return rest if first.startswith(f"{o.TASK}:") else observation
