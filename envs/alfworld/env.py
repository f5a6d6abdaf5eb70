"""ALFWorld as a text environment: household tasks, generated or official, on our own engine or on the official one.

Which games there are is said in `tasks`, what counts as a subgoal in `subgoals`, what a model reads in `prompt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from envs.alfworld import planner, tasks
from envs.alfworld.config import ALFWorldConfig
from envs.alfworld.engine import Engine
from envs.alfworld.subgoals import NAMES, Subgoals
from envs.alfworld.textworld_backend import TextWorldEngine, require
from envs.base import Split, StepResult, TextEnv


class ALFWorldEnv(TextEnv):
    """One agent in one household. Observations are the game's own texts, the first one with banner, room and task."""

    name: ClassVar[str] = "alfworld"

    def __init__(self, config: ALFWorldConfig | None = None) -> None:
        self.config = config or ALFWorldConfig()
        super().__init__(self.config.max_steps)
        if self.config.backend == "textworld":
            require()
        self._player: Engine | TextWorldEngine | None = None
        self._engine: Engine | None = None
        """Has the state: the player itself, or ours that plays along."""
        self._loaded: str | None = None
        self._subgoals: Subgoals | None = None

    def tasks(self, split: Split) -> Sequence[str]:
        """Task ids of a split, the same on every machine."""
        return tasks.split_tasks(self.config, split)

    def split_hash(self, split: Split) -> str:
        """16 hex digits that name the split's games."""
        return tasks.split_hash(self.config, split)

    def task_type(self, task_id: str) -> str:
        """Which of the six types a task is of, by its id."""
        return tasks.task_type(task_id)

    def subgoals(self, task_id: str) -> Sequence[str]:
        """The milestones of its type, by its id."""
        return NAMES[tasks.task_type(task_id)]

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        """Begin a game; nothing in it is random. Raises TaskError."""
        player, engine = self._load(task_id)
        observation = player.reset()
        self._subgoals = Subgoals(engine.game)
        return self._turn(observation, valid=True)

    def act(self, action: str) -> StepResult:
        """Execute one command; an impossible one is answered "Nothing happens."."""
        assert self._player is not None
        observation, valid = self._player.step(action)
        return self._turn(observation, valid)

    def demonstration(self, task_id: str, rng: np.random.Generator) -> list[str]:
        """Commands that win, going straight to the right places. Raises TaskError."""
        return self.imperfect_demonstration(task_id, rng, detours=0.0, suboptimal=False)

    def imperfect_demonstration(self, task_id: str, rng: np.random.Generator, detours: float, suboptimal: bool) -> list[str]:
        """Commands that win after searching in wrong places, or that run out of time. Raises TaskError."""
        return planner.demonstration(tasks.load(self.config, task_id), rng, detours, self.max_steps, suboptimal)

    def close(self) -> None:
        """Free what the engine holds."""
        if isinstance(self._player, TextWorldEngine):
            self._player.close()
        self._player = self._engine = self._loaded = None

    def _load(self, task_id: str) -> tuple[Engine | TextWorldEngine, Engine]:
        """Player and state of this game; episodes of a group play the same one, which is then only reset."""
        if self._player is not None and self._engine is not None and self._loaded == task_id:
            return self._player, self._engine
        self.close()
        if self.config.backend == "native":
            self._player = self._engine = Engine(tasks.load(self.config, task_id))
        else:
            self._player = TextWorldEngine(tasks.contents(self.config, task_id), task_id)
            self._engine = self._player.ours
        self._loaded = task_id
        return self._player, self._engine

    def _turn(self, observation: str, valid: bool) -> StepResult:
        player, engine, subgoals = self._player, self._engine, self._subgoals
        assert player is not None
        assert engine is not None
        assert subgoals is not None
        return StepResult(
            observation=observation,
            state_key=engine.state_key,
            reward=self.config.success_reward if player.won else 0.0,
            terminated=player.won,
            valid=valid,
            success=player.won,
            score=1.0 if player.won else 0.0,
            admissible_actions=list(player.admissible),
            subgoals=subgoals.update(engine),
        )
