"""One level of MiniHack: its seeds, its named actions, and what it shows after each, as a `Scene`.

What NLE leaves to chance or to the day is fixed here: the seeds are set before every reset (NLE ignores `reset(seed=)`), and
luck comes from the seed and not from today's moon. Texts, rewards of one's own and time limits are left to others.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

from envs.base import TaskError
from envs.minihack.scene import Item, Scene, Waiting
from envs.seeding import derive

End = Literal["won", "lost", "cut off"]
KEYS = ("glyphs", "chars", "colors", "screen_descriptions", "message", "inv_strs", "inv_letters", "blstats")
NO_LIMIT = 1 << 30
"""Steps: the time limit is kept by the environment, since NLE reports one as the end of the episode."""


class Seeds(NamedTuple):
    """What an episode of a level depends on besides the actions."""

    core: int
    display: int

    @classmethod
    def of(cls, task_id: str) -> Seeds:
        """The seeds of a task, the same on every machine."""
        return cls(derive(0, "minihack", task_id, "core"), derive(0, "minihack", task_id, "display"))


class Game:
    """A level by its name, "KeyRoom-S5", with its actions by name. Raises TaskError for a level that there is not.

    For one thread at a time; any number of games may be played side by side.
    """

    def __init__(self, level: str) -> None:
        self.level = level
        self._nle = _make(f"MiniHack-{level}-v0")
        self.actions = {_name(action): number for number, action in enumerate(self._nle.actions)}
        self._start: tuple[Item, ...] = ()

    def reset(self, seeds: Seeds) -> Scene:
        """Begin the episode that the seeds denote."""
        self._nle.seed(seeds.core, seeds.display, reseed=False)
        self._nle.reset()
        self._start = self._inventory()
        return self._scene()

    def step(self, action: str) -> tuple[Scene, float, End | None]:
        """What one named action led to: the scene, MiniHack's reward, and how the episode ended, if it did."""
        _, reward, over, _, info = self._nle.step(self.actions[action])
        status = int(info["end_status"])
        # ABORTED is NLE's time limit, TASK_SUCCESSFUL the goal; else the agent died.
        end: End | None = None if not over else "cut off" if status == -1 else "won" if status == 2 else "lost"
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

    def _inventory(self) -> tuple[Item, ...]:
        letters, texts = self._seen("inv_letters"), self._seen("inv_strs")
        return tuple(
            (chr(letter), text.tobytes().split(b"\0", 1)[0].decode("latin-1")) for letter, text in zip(letters, texts) if letter
        )

    def _seen(self, key: str) -> Any:
        """NLE's own array, which the next step overwrites."""
        return self._nle.last_observation[self._nle._observation_keys.index(key)]


def _make(id: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pkg_resources is deprecated; minihack still imports it
        try:
            import gymnasium
            import minihack  # noqa: F401
        except ImportError as error:
            raise ImportError(f"MiniHack needs packages: pip install 'stepcredit[minihack]' ({error})") from error
        if id not in gymnasium.registry:
            raise TaskError(f"MiniHack has no level '{id.removeprefix('MiniHack-').removesuffix('-v0')}'")
        found = gymnasium.make(
            id, disable_env_checker=True, observation_keys=KEYS, max_episode_steps=NO_LIMIT, fix_moon_phase=True
        )
    return found.unwrapped


def _name(action: Any) -> str:
    """The words of a NetHack action: compass directions in full, the others as NLE names them."""
    words = {"N": "north", "E": "east", "S": "south", "W": "west"}
    kind, name = type(action).__name__, str(action.name)
    if kind in ("CompassDirection", "CompassDirectionLonger"):
        direction = "".join(words[letter] for letter in name)
        return direction if kind == "CompassDirection" else f"far {direction}"
    return name.lower().replace("_", " ")
