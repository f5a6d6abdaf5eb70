"""ALFWorld as a text environment: household tasks, generated or official, on our own engine or on the official one.

Which games there are is said in `tasks`, what counts as a subgoal in `subgoals`, what a model reads in `prompt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from envs.alfworld import planner, tasks
from envs.alfworld.engine import Engine
from envs.alfworld.subgoals import NAMES, Subgoals
from envs.base import Split, TextEnv, Turn


@dataclass
class ALFWorldConfig:
    """Settings of the environment. Raises ValueError for numbers that cannot be."""

    source: Literal["generated", "official"] = "generated"
    """Where games come from: drawn from seeds (no data needed), or the files of ALFWorld."""
    backend: Literal["native", "textworld"] = "native"
    """native: our engine; textworld: the official one, some thousand times slower (extra `alfworld`)."""
    max_steps: int = 50
    success_reward: float = 10.0
    """Reward of the step that wins; all others have 0."""
    size: Literal["small", "full"] = "small"
    """Of generated games: small ones a tiny model can learn, or full ones like the official ones."""
    data: str | None = None
    """Folder of the official games; None: the environment variable ALFWORLD_DATA."""
    train_games: int | None = None
    """Games in the panel; None: all there are (official) or the default number (generated)."""
    eval_games: int | None = None
    test_games: int | None = None

    def __post_init__(self) -> None:
        for name in ("train_games", "eval_games", "test_games"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1, or null for the default")


class ALFWorldEnv(TextEnv):
    """One agent in one household. Observations are the game's own texts, the first one with banner, room and task."""

    name: ClassVar[str] = "alfworld"

    def __init__(self, config: ALFWorldConfig | None = None) -> None:
        self.config = config or ALFWorldConfig()
        super().__init__(self.config.max_steps)
        if self.config.backend == "textworld":
            from envs.alfworld.textworld_backend import require

            require()
        self._engine: Engine | None = None
        self._loaded: str | None = None
        self._subgoals: Subgoals | None = None

    def tasks(self, split: Split) -> Sequence[str]:
        """Task ids of a panel, the same on every machine."""
        return tasks.panel(self.config, split).task_ids

    def panel_hash(self, split: Split) -> str:
        """16 hex digits that name the panel's games."""
        return tasks.panel(self.config, split).hash

    def task_type(self, task_id: str) -> str:
        """Which of the six types a task is of, by its id."""
        return tasks.task_type(task_id)

    def subgoals(self, task_id: str) -> Sequence[str]:
        """The milestones of its type, by its id."""
        return NAMES[tasks.task_type(task_id)]

    def start(self, task_id: str, rng: np.random.Generator) -> Turn:
        """Begin a game; nothing in it is random. Raises TaskError."""
        engine = self._load(task_id)
        observation = engine.reset()
        self._subgoals = Subgoals(engine.game)
        return self._turn(observation, valid=True)

    def act(self, action: str) -> Turn:
        """Execute one command; an impossible one is answered "Nothing happens."."""
        assert self._engine is not None
        observation, valid = self._engine.step(action)
        return self._turn(observation, valid)

    def demonstration(self, task_id: str, rng: np.random.Generator, detours: float, dawdling: bool) -> list[str]:
        """Commands that win after searching; `detours` in 0..1 is how often a search goes wrong first. Raises TaskError."""
        return planner.demonstration(tasks.load(self.config, task_id), rng, detours, self.max_steps, dawdling)

    def close(self) -> None:
        """Free what the engine holds."""
        if self._engine is not None:
            self._engine.close()
        self._engine = self._loaded = None

    def _load(self, task_id: str) -> Engine:
        """The engine with this game; episodes of a group play the same one, which is then only reset."""
        if self._engine is not None and self._loaded == task_id:
            return self._engine
        self.close()
        if self.config.backend == "native":
            self._engine = Engine(tasks.load(self.config, task_id))
        else:
            from envs.alfworld.textworld_backend import TextWorldEngine

            self._engine = TextWorldEngine(tasks.contents(self.config, task_id), task_id)
        self._loaded = task_id
        return self._engine

    def _turn(self, observation: str, valid: bool) -> Turn:
        engine, subgoals = self._engine, self._subgoals
        assert engine is not None
        assert subgoals is not None
        return Turn(
            observation=observation,
            state_key=engine.state_key,
            reward=self.config.success_reward if engine.won else 0.0,
            terminated=engine.won,
            valid=valid,
            success=engine.won,
            score=1.0 if engine.won else 0.0,
            admissible_actions=list(engine.admissible),
            subgoals=subgoals.update(engine),
        )
