"""MiniHack as a text environment: small NetHack levels, seen in words, played with named actions.

Which levels there are is said in `levels`, which seeds in `tasks`, how a game goes in `game`, what a model reads in
`observation` and `prompt`, what counts as a milestone in `subgoals`, how an oracle plays in `oracle`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from envs.base import Split, StepResult, TextEnv
from envs.minihack import levels, observation, oracle, starts, subgoals, tasks
from envs.minihack.config import MiniHackConfig
from envs.minihack.game import End, Game, Seeds
from envs.minihack.levels import Level
from envs.minihack.scene import Scene


class MiniHackEnv(TextEnv):
    """One game of NetHack. A win is what MiniHack calls one; death ends an episode, and NetHack's own time limit is off."""

    name: ClassVar[str] = "minihack"
    # The dice go on with the game's clock, which no picture of the state shows.
    stochastic: ClassVar[bool] = True

    def __init__(self, config: MiniHackConfig | None = None) -> None:
        self.config = config or MiniHackConfig()
        super().__init__(self.config.max_steps)
        self._levels = levels.chosen(self.config.levels, self.config.custom)
        self._game: Game | None = None
        self._oracles: Game | None = None
        self._scene: Scene | None = None
        self._last: str | None = None
        self._subgoals: subgoals.Subgoals | None = None

    def tasks(self, split: Split) -> Sequence[str]:
        """Task ids of a split, the same on every machine."""
        c = self.config
        return tasks.split_tasks(self._levels, split, {"train": c.train_tasks, "eval": c.eval_tasks, "test": c.test_tasks})

    def split_hash(self, split: Split) -> str:
        """16 hex digits that name the split's tasks and what is in the levels of one's own."""
        own = [level.description for level in self._levels if level.description is not None]
        own += ["held-out starts"] * self.config.held_out_starts
        return hashlib.sha256("\n".join([*self.tasks(split), *own]).encode()).hexdigest()[:16]

    def task_type(self, task_id: str) -> str:
        """The level."""
        return tasks.level(self._levels, task_id).name

    def subgoals(self, task_id: str) -> Sequence[str]:
        """The milestones of the task's level."""
        return subgoals.names(tasks.level(self._levels, task_id).name)

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        """Begin a level; its map and its dice come from the task's seeds. Raises TaskError."""
        level = tasks.level(self._levels, task_id)
        self._game = self._opened(self._game, level)
        self._scene, self._last = self._game.reset(self.seeds(self._game, task_id)), None
        self._subgoals = subgoals.Subgoals(level.name)
        self._subgoals.update(None, self._scene, won=False)
        turn = self._turn(self._scene)
        turn.observation = f"{observation.TASK}: {subgoals.names(level.name)[-1]}\n{turn.observation}"
        return turn

    def act(self, action: str) -> StepResult:
        """Take a named action; what is not possible is not tried, and takes no time."""
        assert self._game is not None
        assert self._scene is not None
        assert self._subgoals is not None
        before = self._scene
        if action not in self._game.possible:
            turn = self._turn(before)
            turn.valid, turn.changed = False, False
            return turn
        after, reward, end = self._game.step(action)
        self._subgoals.update(before, after, won=end == "won")
        self._scene, self._last = after, action
        turn = self._turn(after, end)
        turn.reward, turn.success, turn.score = reward, end == "won", float(end == "won")
        turn.terminated, turn.changed = end is not None, changed(before, after)
        return turn

    def chance(self, rng: np.random.Generator) -> None:
        """The dice are the game's own."""
        assert self._game is not None
        self._game.reseed(Seeds(*rng.integers(1 << 63, size=2).tolist()))

    def demonstration(self, task_id: str, rng: np.random.Generator) -> list[str]:
        """Actions of somebody who knows the rules and not the map; see `oracle`. Raises TaskError."""
        return self.imperfect_demonstration(task_id, rng, detours=0.0, suboptimal=False)

    def imperfect_demonstration(self, task_id: str, rng: np.random.Generator, detours: float, suboptimal: bool) -> list[str]:
        """The same with walks to other places, or wandering about. Raises TaskError."""
        self._oracles = self._opened(self._oracles, tasks.level(self._levels, task_id))
        return oracle.demonstration(self._oracles, self.seeds(self._oracles, task_id), rng, detours, suboptimal, self.max_steps)

    def close(self) -> None:
        """End the games and remove their files."""
        for game in (self._game, self._oracles):
            if game is not None:
                game.close()
        self._game = self._oracles = None

    def seeds(self, game: Game, task_id: str) -> Seeds:
        """Of a task's episode. Plays with `game` to find them where starts are held out. Raises TaskError."""
        return starts.seeds(game, task_id, tasks.split(task_id)) if self.config.held_out_starts else Seeds.of(task_id)

    def _opened(self, held: Game | None, level: Level) -> Game:
        """The game of a level: the one that is held, or a new one in its place."""
        if held is not None and held.level == level.name:
            return held
        game = Game(level, self.config.actions, self.config.penalty_step)
        if held is not None:
            held.close()
        return game

    def _turn(self, scene: Scene, end: End | None = None) -> StepResult:
        assert self._game is not None
        assert self._subgoals is not None
        return StepResult(
            observation=observation.render(scene, self.config, self._game.actions, self._last, end),
            state_key=scene.key,
            admissible_actions=[] if end else list(self._game.possible),
            subgoals=self._subgoals.reached,
            frame=observation.frame(scene) if self.config.frames else None,
        )


def changed(before: Scene, after: Scene) -> bool:
    """Whether anything but the agent's place changed: the map outside its cells, or what it carries. A milestone lies in no
    other step; winning is one too, which TextEnv adds.

    Characters are compared: floor that goes out of sight is another glyph, in nearly every step, and looks the same.
    """
    differs = before.chars != after.chars
    differs[before.place] = differs[after.place] = False
    return bool(differs.any()) or before.inventory != after.inventory
