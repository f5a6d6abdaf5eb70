"""Sokoban as a text environment: generated levels, seen in words or symbols, played with four moves.

The rules are in `board`, levels and splits in `tasks`, what a model reads in `observation` and `prompt`, how an oracle plays in
`oracle`, which positions cannot be solved in `distances` and `deadends`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from envs.base import Split, StepResult, TextEnv
from envs.sokoban import observation, oracle, tasks
from envs.sokoban.board import ACTIONS, Position
from envs.sokoban.config import SokobanConfig
from envs.sokoban.tasks import Task

LENGTHS = 5
"""Moves that a type of task comprises: levels that need 1 to 5, 6 to 10, ..."""


class SokobanEnv(TextEnv):
    """One level. It is won when every box is on a target; nothing but the time limit ends a lost one, unless it is set to."""

    name: ClassVar[str] = "sokoban"

    def __init__(self, config: SokobanConfig | None = None) -> None:
        self.config = config or SokobanConfig()
        super().__init__(self.config.max_steps)
        self._task: Task | None = None
        self._position: Position = (0, 0)
        self._most = 0
        """Boxes that were on targets at a time, at most."""
        self._solvable: bool | None = None
        self._names = _subgoals(self.config.boxes)

    def tasks(self, split: Split) -> Sequence[str]:
        """Task ids of a split, the same on every machine."""
        return tasks.split_tasks(self.config, split)

    def split_hash(self, split: Split) -> str:
        """16 hex digits that name the split's levels."""
        return tasks.split_hash(self.config, split)

    def task_type(self, task_id: str) -> str:
        """How many moves its level needs: "6 to 10 moves"."""
        first = (tasks.task(self.config, task_id).moves - 1) // LENGTHS * LENGTHS + 1
        return f"{first} to {first + LENGTHS - 1} moves"

    def subgoals(self, task_id: str) -> Sequence[str]:
        """How many boxes are on targets at a time; the last is the win."""
        return self._names

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        """Begin a level; nothing in it is random. Raises TaskError."""
        self._task = tasks.task(self.config, task_id)
        self._position, self._most, self._solvable = self._task.level.start, 0, True
        turn = self._turn(None)
        goal = "the box onto the target" if self.config.boxes == 1 else f"all {self.config.boxes} boxes onto targets"
        turn.observation = f"{observation.TASK}: push {goal}\n{turn.observation}"
        return turn

    def act(self, action: str) -> StepResult:
        """Move; what is not possible changes nothing, and is paid like every step."""
        assert self._task is not None
        room, before = self._task.level.room, self._position
        way = action.strip().lower()
        after = room.moved(before, way) if way in ACTIONS else None
        if after is None:
            turn = self._turn(f"{way}, which moved nothing" if way in ACTIONS else f"none of {', '.join(ACTIONS)}")
            turn.valid, turn.changed = self.config.all_actions and way in ACTIONS, False
            turn.reward = self.config.step_reward
            return turn
        self._position = after
        pushed = after[1] != before[1]
        if pushed:
            self._most = max(self._most, room.placed(after[1]))
            self._solvable = self._task.solvable(after)
        turn = self._turn(way)
        turn.reward, turn.changed = self._pay(room.placed(before[1]), room.placed(after[1])), pushed
        return turn

    def demonstration(self, task_id: str, rng: np.random.Generator) -> list[str]:
        """Moves of a shortest solution. Raises TaskError."""
        return tasks.task(self.config, task_id).solution()

    def imperfect_demonstration(self, task_id: str, rng: np.random.Generator, detours: float, suboptimal: bool) -> list[str]:
        """The same pushes, with needless walks between them. Raises TaskError."""
        return oracle.demonstration(tasks.task(self.config, task_id), rng, detours, suboptimal, self.max_steps)

    def _turn(self, last: str | None) -> StepResult:
        assert self._task is not None
        room, (player, boxes) = self._task.level.room, self._position
        placed = room.placed(boxes)
        solved = placed == self.config.boxes
        stuck = self._solvable is False and self.config.dead_ends != "ignore"
        ended = solved or (stuck and self.config.dead_ends == "end")
        state = observation.SOLVED if solved else observation.STUCK if stuck else None
        return StepResult(
            observation=observation.render(room, self._position, self.config, last, state),
            state_key=f"{player} {boxes:x}",
            terminated=ended,
            success=solved,
            score=placed / self.config.boxes,
            admissible_actions=[] if ended else list(ACTIONS) if self.config.all_actions else room.moves(self._position),
            subgoals=self._names[: self._most],
            frame=observation.frame(room, self._position, self._standing()),
        )

    def _pay(self, before: int, after: int) -> float:
        """What a step earns by which as many boxes are on targets as `after` says."""
        c = self.config
        change = 0.0 if after == before else c.on_target_reward if after > before else c.off_target_reward
        return c.step_reward + change + (c.solved_reward if after == c.boxes else 0.0)

    def _standing(self) -> str:
        """How the level stands, for people; "" where it is not known."""
        assert self._task is not None
        if self._solvable is False:
            return observation.STUCK
        if self._task.known is None:
            return ""
        moves = self._task.known[self._position]
        return f"can be solved in {moves} move{'s' if moves > 1 else ''}" if moves else observation.SOLVED

    def _info(self, turn: StepResult, truncated: bool) -> dict[str, Any]:
        """What every environment tells, and `solvable`: whether the level can still be solved; None: not known."""
        return {**super()._info(turn, truncated), "solvable": self._solvable}


def _subgoals(boxes: int) -> tuple[str, ...]:
    if boxes == 1:
        return ("the box is on the target",)
    some = (f"{number} box{'es are on targets' if number > 1 else ' is on a target'}" for number in range(1, boxes))
    return (*some, "every box is on a target")
