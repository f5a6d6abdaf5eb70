"""The official TextWorld engine, to play with or to compare with; about 20 steps a second.

What the agent sees (texts, commands, won) comes from the official engine. State keys and subgoals need a view of the state that
it does not give: for them our own engine plays along. Not for threads: the official parser is shared, and the translator swaps
stdout.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from envs.alfworld.engine import Engine
from envs.alfworld.game import parse_game
from envs.base import TaskError


def require() -> None:
    """Raise ImportError with the fix if the official engine is not installed."""
    try:
        for package in ("fast_downward", "textworld.envs.pddl", "alfworld.agents.environment.alfred_tw_env"):
            importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"backend=textworld needs packages that are not installed ({error.name}): pip install 'stepcredit[alfworld]'"
        ) from None


_idle: list[Any] = []
"""Official environments without a game. Each has a copy of the planner's library, and to unload one crashes the process."""


def _official_environment() -> Any:
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.core import EnvInfos
    from textworld.envs.pddl import PddlEnv

    return _idle.pop() if _idle else AlfredDemangler(PddlEnv(EnvInfos(admissible_commands=True, won=True)))


class TextWorldEngine:
    """The official engine playing one game, given as the contents of its file. `close` lets another game use what it loaded."""

    ours: Engine
    """Our engine in the same state."""
    admissible: list[str]
    """All possible commands, sorted."""
    won: bool

    def __init__(self, contents: Mapping[str, Any], source: str) -> None:
        require()
        self.game = parse_game(contents, source)
        self.ours = Engine(self.game)
        self.admissible, self.won = [], False
        self._official = _official_environment()
        try:
            self._official.load(dict(contents))
        except Exception as error:  # the official reader has no error of its own: it fails in any way
            self.close()
            raise TaskError(f"{source}: the official engine cannot load it ({type(error).__name__}: {error})") from error

    def reset(self) -> str:
        """Back to the start; returns the first observation."""
        self.ours.reset()
        return self._take_over(self._official.reset())

    def step(self, command: str) -> tuple[str, bool]:
        """Execute `command`; returns the observation and whether the command was possible."""
        valid = command.strip() in self.admissible
        self.ours.step(command)
        state, _, _ = self._official.step(command)
        return self._take_over(state), valid

    def close(self) -> None:
        """End play; the engine cannot be used afterwards."""
        if self._official is not None:
            _idle.append(self._official)
            self._official = None

    def _take_over(self, state: Any) -> str:
        self.admissible = list(state["admissible_commands"])
        self.won = bool(state["won"])
        return str(state["feedback"])
