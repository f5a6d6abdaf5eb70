"""One level of MiniHack: its seeds, its named actions, and what it shows after each, as a `Scene`.

Actions are key presses. While NetHack waits for an answer (a direction, a letter, yes or no), the same keys mean the answers,
and are called so.

What NLE leaves to chance or to the day is fixed here: the seeds are set before every reset (NLE ignores `reset(seed=)`), and
luck comes from the seed and not from today's moon. Texts, rewards of one's own and time limits are left to others.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from envs.base import TaskError
from envs.minihack.levels import Level
from envs.minihack.scene import Item, Scene, Waiting
from envs.seeding import derive
from envs.structured import suggestion

End = Literal["won", "lost"]
TASK_SUCCESSFUL = 2
"""NLE's end status of a won game; others are those of a death."""
KEYS = ("glyphs", "chars", "colors", "screen_descriptions", "message", "inv_strs", "inv_letters", "blstats")
NO_LIMIT = 1 << 30
"""Steps."""
FORBIDDEN = frozenset(("shell",))
"""Never an action: it would begin a program outside the game."""
DIRECTIONS = frozenset(("north", "east", "south", "west", "northeast", "southeast", "southwest", "northwest", "down", "wait"))
"""Actions that answer "In what direction?"; to wait means oneself."""


class Seeds(NamedTuple):
    """What an episode of a level depends on besides the actions."""

    core: int
    display: int

    @classmethod
    def of(cls, task_id: str) -> Seeds:
        """The seeds of a task, the same on every machine."""
        return cls(derive(0, "minihack", task_id, "core"), derive(0, "minihack", task_id, "display"))


class Game:
    """A level with its actions by name. Raises TaskError for a level that there is not.

    actions: names of those that may be taken, of those that the level has; None: all. penalty: reward of a step that takes no
    time in the game. For one thread at a time; any number of games may be played side by side.
    """

    def __init__(self, level: Level | str, actions: Iterable[str] | None = None, penalty: float = -0.01) -> None:
        level = Level(level) if isinstance(level, str) else level
        self.level = level.name
        self._nle = _make(level, penalty)
        every = {_name(action): number for number, action in enumerate(self._nle.actions) if _name(action) not in FORBIDDEN}
        self.actions = every if actions is None else _picked(every, list(actions), level.name)
        """Commands, by name."""
        self._every = every
        self._keys = {chr(int(action)): number for number, action in enumerate(self._nle.actions) if int(action) < 128}
        self._start: tuple[Item, ...] = ()
        self.possible = self.actions
        """What can be done now, by name: the commands, or the answers to what the game waits for."""

    def reset(self, seeds: Seeds) -> Scene:
        """Begin the episode that the seeds denote."""
        self._nle.seed(seeds.core, seeds.display, reseed=False)
        self._nle.reset()
        self._start = self._inventory()
        return self._scene()

    def step(self, action: str) -> tuple[Scene, float, End | None]:
        """What one of the `possible` actions led to: the scene, MiniHack's reward, and how the episode ended, if it did."""
        _, reward, over, _, info = self._nle.step(self.possible[action])
        status = int(info["end_status"])
        end: End | None = None if not over else "won" if status == TASK_SUCCESSFUL else "lost"
        return self._scene(), float(reward), end

    def close(self) -> None:
        """End the game and remove its files."""
        self._nle.close()

    def _scene(self) -> Scene:
        seen = self._seen
        inventory, internal = self._inventory(), seen("internal")
        # In a yes-or-no (or which-letter) question, or in the typing of a line.
        waiting: Waiting | None = "question" if internal[1] or internal[2] else None
        message = seen("message").tobytes().split(b"\0", 1)[0].decode("latin-1")
        if "In what direction" in message:
            waiting = "direction"
        self.possible = self._answers(message, waiting) or self.actions
        return Scene(
            glyphs=seen("glyphs").copy(),
            chars=seen("chars").copy(),
            colors=seen("colors").copy(),
            descriptions=seen("screen_descriptions").copy(),
            message=message,
            inventory=inventory,
            picked_up=tuple(item for item in inventory if item not in self._start),
            stats=seen("blstats").copy(),
            waiting=waiting,
        )

    def _answers(self, message: str, waiting: Waiting | None) -> dict[str, int]:
        """What the game's question can be answered with, of the keys that the level has. None of them: any key declines."""
        if waiting is None:
            return {}
        declining = {"esc": self._every["esc"]} if "esc" in self._every else {}
        if waiting == "direction":
            return {name: number for name, number in self._every.items() if name in DIRECTIONS} | declining
        return {letter: self._keys[letter] for letter in _choices(message) if letter in self._keys} | declining

    def _inventory(self) -> tuple[Item, ...]:
        letters, texts = self._seen("inv_letters"), self._seen("inv_strs")
        return tuple(
            (chr(letter), text.tobytes().split(b"\0", 1)[0].decode("latin-1")) for letter, text in zip(letters, texts) if letter
        )

    def _seen(self, key: str) -> Any:
        """NLE's own array, which the next step overwrites."""
        return self._nle.last_observation[self._nle._observation_keys.index(key)]


def _picked(every: dict[str, int], names: list[str], level: str) -> dict[str, int]:
    """Those of the level's actions that are named. A name may be of another level's; one that means nothing is an error."""
    from nle import nethack

    known = {_name(action) for action in nethack.ACTIONS} - FORBIDDEN
    for name in names:
        if name not in known:
            raise TaskError(f"there is no action '{name}'.{suggestion(name, known)} Level {level} has: {', '.join(every)}")
    picked = {name: every[name] for name in names if name in every}
    if not picked:
        raise TaskError(f"level {level} has none of the actions {', '.join(names)}; it has: {', '.join(every)}")
    return picked


def _choices(message: str) -> Iterator[str]:
    """The characters that a question offers: a, c, d, e of "What do you want to eat? [ac-e or ?*]"."""
    found = re.search(r"\[([^\]]+)\]", message)
    offered = found.group(1).partition(" or ")[0] if found else ""
    for first, last in re.findall(r"(\S)(?:-(\w))?", offered):
        yield from map(chr, range(ord(first), ord(last or first) + 1))


def _make(level: Level, penalty: float) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pkg_resources is deprecated; minihack still imports it
        try:
            import gymnasium
            import minihack  # noqa: F401
        except ImportError as error:
            raise ImportError(f"MiniHack needs packages: pip install 'stepcredit[minihack]' ({error})") from error
        if level.description is None:
            id = next(
                (f"MiniHack-{level.name}-v{n}" for n in (0, 1) if f"MiniHack-{level.name}-v{n}" in gymnasium.registry), None
            )
            own: dict[str, Any] = {}
        else:
            id, own = "MiniHack-Skill-Custom-v0", {"des_file": level.description}
        if id is None:
            raise TaskError(f"MiniHack has no level '{level.name}'")
        found: Any = gymnasium.make(
            id,
            disable_env_checker=True,
            observation_keys=KEYS,
            penalty_step=penalty,
            fix_moon_phase=True,
            **own,
        )
    # The time limit is the environment's own, since NLE reports one as an end; make(max_episode_steps=) does not reach NLE.
    found.unwrapped._max_episode_steps = NO_LIMIT
    return found.unwrapped


def _name(action: Any) -> str:
    """The words of a NetHack action: compass directions in full, the others as NLE names them."""
    words = {"N": "north", "E": "east", "S": "south", "W": "west"}
    kind, name = type(action).__name__, str(action.name)
    if kind in ("CompassDirection", "CompassDirectionLonger"):
        direction = "".join(words[letter] for letter in name)
        return direction if kind == "CompassDirection" else f"far {direction}"
    return name.lower().replace("_", " ")
