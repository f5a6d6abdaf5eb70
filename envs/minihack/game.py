"""One level of MiniHack: its seeds, its named actions, and what it shows after each, as a `Scene`.

Actions are key presses. While NetHack waits for an answer (a direction, a letter, yes or no), the same keys mean the answers,
and are called so.

What NLE leaves to chance or to the day is fixed here: the seeds are set before every reset (NLE ignores `reset(seed=)`), and
luck comes from the seed and not from today's moon. Texts, rewards of one's own and time limits are left to others.
"""

from __future__ import annotations

import importlib
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from envs.base import TaskError
from envs.common.seeding import derive
from envs.common.structured import suggestion
from envs.minihack.compiler import Compiled
from envs.minihack.levels import Level
from envs.minihack.looks import GROUND, Sight, text
from envs.minihack.scene import WAYS, Item, Scene, Waiting

End = Literal["won", "lost"]
TASK_SUCCESSFUL = 2
"""NLE's end status of a game that MiniHack ended; without a positive reward (Memento's trap) it is lost. Others are those of a
death."""
KEYS = ("glyphs", "chars", "screen_descriptions", "message", "inv_strs", "inv_letters", "blstats")
NO_LIMIT = 1 << 30
"""Steps."""
FORBIDDEN = frozenset(("shell", "jump"))
"""Never an action: a shell would be a program outside the game, and to jump asks for a place by a cursor that nobody sees."""
PREFIXES = frozenset(("fight", "move", "movefar", "rush", "rush2"))
"""Actions after which NetHack waits for a direction without saying so."""
DIRECTIONS = frozenset((*WAYS, "down", "wait"))
"""Actions that answer "In what direction?"; to wait means oneself."""
ESC = 27
"""The key that declines a question: NetHack takes no other one that is no answer, and not all levels have it."""
_LOADING = threading.Lock()


class Seeds(NamedTuple):
    """What an episode of a level depends on besides the actions."""

    core: int
    display: int

    @classmethod
    def of(cls, task_id: str, number: int = 0) -> Seeds:
        """The seeds of a task, the same on every machine. number: of those that are tried one after the other."""
        more = [number] if number else []
        return cls(derive(0, "minihack", task_id, "core", *more), derive(0, "minihack", task_id, "display", *more))


class Game:
    """A level with its actions by name. Raises TaskError for a level that there is not.

    actions: names of those that may be taken, of those that the level has; None: all. penalty: reward of a step that takes no
    time in the game. For one thread at a time; any number of games may be played side by side.
    """

    def __init__(self, level: Level | str, actions: Iterable[str] | None = None, penalty: float = -0.01) -> None:
        level = Level(level) if isinstance(level, str) else level
        wanted = None if actions is None else _known(actions)
        self.level = level.name
        self._nle = _make(level, penalty)
        self._every = {_name(key): number for number, key in enumerate(self._nle.actions) if _name(key) not in FORBIDDEN}
        self._keys = {chr(int(key)): number for number, key in enumerate(self._nle.actions) if int(key) < 128}
        self.actions = {name: n for name, n in self._every.items() if wanted is None or name in wanted}
        """Commands, by name."""
        self._decline = len(self._nle.actions)
        self._nle.actions = (*self._nle.actions, ESC)
        if not self.actions:
            self.close()
            raise TaskError(f"level {self.level} has none of the actions {', '.join(wanted or ())}; it has: {self._listed()}")
        self._places = {key: place for place, key in enumerate(self._nle._observation_keys)}
        self._carried_first: frozenset[str] = frozenset()
        self._carried: tuple[bytes, tuple[Item, ...]] = b"", ()
        self._sight = Sight()
        self._last: Scene | None = None
        self.possible = self.actions
        """What can be done now, by name: the commands, or the answers to what the game waits for."""

    def reset(self, seeds: Seeds) -> Scene:
        """Begin the episode that the seeds denote. Raises TaskError if the compiled level is gone."""
        self._nle.seed(seeds.core, seeds.display, reseed=False)
        # MiniHack judges the first scene too, by what was done last: in the episode before.
        self._nle._previous_action = self._nle._previous_obs = None
        self._nle.check()
        self._nle.reset()
        self._carried_first = frozenset(letter for letter, _ in self._inventory())
        self._last = None
        return self._scene()

    def step(self, action: str) -> tuple[Scene, float, End | None]:
        """What one of the `possible` actions led to: the scene, MiniHack's reward, and how the episode ended, if it did."""
        _, reward, over, _, info = self._nle.step(self.possible[action])
        won = int(info["end_status"]) == TASK_SUCCESSFUL and reward > 0
        end: End | None = None if not over else "won" if won else "lost"
        return self._scene(asked=action in PREFIXES), float(reward), end

    def reseed(self, seeds: Seeds) -> None:
        """Throw the dice by other seeds from now on; what is on the map stays, seen or not."""
        self._nle.nethack.set_current_seeds(seeds.core, seeds.display, reseed=False)

    def close(self) -> None:
        """End the game and remove its files."""
        self._nle.close()

    def _scene(self, asked: bool = False) -> Scene:
        """What is shown now. asked: the game waits for a direction, and does not say so."""
        seen = self._seen
        inventory, internal = self._inventory(), seen("internal")
        # In a yes-or-no (or which-letter) question; the typing of a line NLE declines by itself.
        waiting: Waiting | None = "question" if internal[1] else None
        message = text(seen("message").tobytes())
        if asked or "in what direction" in message.lower():
            waiting = "direction"
        self.possible = self._answers(message, waiting) if waiting else self.actions
        stats = seen("blstats").copy()
        looks, things = self._sight.update(seen("chars"), seen("screen_descriptions"))
        self._last = Scene(
            glyphs=seen("glyphs").copy(),
            chars=seen("chars").copy(),
            looks=looks,
            things=things,
            message="" if asked else message,  # it is still that of the action before
            inventory=inventory,
            picked_up=tuple(item for item in inventory if item[0] not in self._carried_first),
            stats=stats,
            beneath=_beneath(self._last, (int(stats[1]), int(stats[0])), inventory),
            waiting=waiting,
        )
        return self._last

    def _answers(self, message: str, waiting: Waiting) -> dict[str, int]:
        """What the game's question can be answered with, of the keys that the level has; it can always be declined."""
        if waiting == "direction":
            found = {name: number for name, number in self._every.items() if name in DIRECTIONS}
        else:
            found = {letter: self._keys[letter] for letter in _choices(message) if letter in self._keys}
        return found | {"esc": self._decline}

    def _listed(self) -> str:
        return ", ".join(self._every)

    def _inventory(self) -> tuple[Item, ...]:
        letters, words = self._seen("inv_letters"), self._seen("inv_strs")
        if (raw := letters.tobytes() + words.tobytes()) != self._carried[0]:
            (there,) = letters.nonzero()
            named = zip(letters[there].tobytes().decode("latin-1"), map(text, map(bytes, words[there])))
            self._carried = raw, tuple(named)
        return self._carried[1]

    def _seen(self, key: str) -> Any:
        """NLE's own array, which the next step overwrites."""
        return self._nle.last_observation[self._places[key]]


def _beneath(before: Scene | None, place: tuple[int, int], inventory: tuple[Item, ...]) -> str:
    """What was seen at the agent's place before it went there. A boulder was pushed on, a thing may have been taken up."""
    if before is None:
        return ""
    if before.place == place:
        return before.beneath if before.inventory == inventory else ""
    word = before.described(*place)
    return "" if word in GROUND or word.endswith("boulder") else word


def _known(names: Iterable[str]) -> list[str]:
    """Names of actions, each of which must be one of NetHack's: that a level lacks it is no error. Raises TaskError."""
    load()
    from nle import nethack

    known = {_name(action) for action in nethack.ACTIONS} - FORBIDDEN
    names = list(names)
    for name in names:
        if name not in known:
            raise TaskError(f"there is no action '{name}'.{suggestion(name, known)} Allowed: {', '.join(sorted(known))}")
    return names


def _choices(message: str) -> Iterator[str]:
    """The characters that a question offers: a, c, d, e of "What do you want to eat? [ac-e or ?*]"."""
    found = re.search(r"\[([^\]]+)\]", message)
    offered = found.group(1).partition(" or ")[0] if found else ""
    for first, last in re.findall(r"(\S)(?:-(\w))?", offered):
        yield from map(chr, range(ord(first), ord(last or first) + 1))


def _make(level: Level, penalty: float) -> Any:
    gymnasium = load()
    from gymnasium.envs.registration import load_env_creator

    own: dict[str, Any] = {} if level.description is None else {"des_file": level.description}
    name = level.name if level.description is None else "Skill-Custom"
    id = next((id for id in (f"MiniHack-{name}-v0", f"MiniHack-{name}-v1") if id in gymnasium.registry), None)
    if id is None:
        raise TaskError(f"MiniHack has no level '{level.name}'")
    spec = gymnasium.spec(id)
    kind: Any = load_env_creator(spec.entry_point)
    base: Any = importlib.import_module("minihack").MiniHack
    made = type(kind.__name__, (Compiled, kind, type("Step", (_Step, base), {})), {})(
        **{**spec.kwargs, "observation_keys": KEYS, "penalty_step": penalty, "fix_moon_phase": True, **own}
    )
    # The time limit is the environment's own, since NLE reports one as an end.
    made._max_episode_steps = NO_LIMIT
    return made


class _Step:
    """Between the class of a level and MiniHack's: the same step without what nobody reads here. MiniHack and NLE each copy all
    arrays before a step, and gather an observation after it; `Game` looks into the arrays."""

    def step(self: Any, action: int) -> tuple[None, float, bool, bool, dict[str, Any]]:
        # No reward compares with the words that were.
        before = tuple(
            array if key in ("screen_descriptions", "inv_strs") else array.copy()
            for key, array in zip(self._observation_keys, self.last_observation)
        )
        self._previous_obs, self._previous_action = before, action
        seen, done = self.nethack.step(self.actions[action])
        if seen[self._program_state_index][0] == 1 or not self._allow_all_modes:  # the game is over, or may wait for a key
            seen, done = self._perform_known_steps(seen, done)
        self._steps += 1
        self.last_observation = seen
        end = self._get_end_status(seen, done)
        reward = float(self._reward_fn(before, action, seen, end))
        if end and not done:
            self._quit_game(seen, done)
        return None, reward, bool(done or end), False, {"end_status": end}


def load() -> Any:
    """gymnasium, with MiniHack's levels in its registry. Raises ImportError that names the extra."""
    with _LOADING, warnings.catch_warnings():  # whose filters are the process's: one thread at a time
        warnings.simplefilter("ignore")  # pkg_resources is deprecated; minihack still imports it
        try:
            import gymnasium
            import minihack  # noqa: F401
        except ImportError as error:
            raise ImportError(f"MiniHack needs packages: pip install 'stepcredit[minihack]' ({error})") from error
    return gymnasium


def _name(action: Any) -> str:
    """The words of a NetHack action: compass directions in full, the others as NLE names them."""
    words = {"N": "north", "E": "east", "S": "south", "W": "west"}
    kind, name = type(action).__name__, str(action.name)
    if kind in ("CompassDirection", "CompassDirectionLonger"):
        direction = "".join(words[letter] for letter in name)
        return direction if kind == "CompassDirection" else f"far {direction}"
    return name.lower().replace("_", " ")
