"""Write the episodes of any agent as trajectory files: a gymnasium wrapper around an environment of this project."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium

from envs import registry
from envs.base import SPLITS, Split, TextEnv
from envs.trajectory import Step, Trajectory
from envs.trajectory_file import append


class RecordTrajectories(gymnasium.Wrapper[str, str, str, str]):
    """Append each episode to a file as it ends, step by step, in the form that training runs write (envs/trajectory_file.py).

        env = RecordTrajectories(stepcredit.make("alfworld"), "episodes.jsonl")
        # ... any agent acts: env.reset(seed=...), env.step(action) ...
        env.close()

    No language model is needed: what was seen, done and paid is recorded, and the states, from which `advantages` and
    `read_trajectories` go on. A file that exists is added to; one that ends in .gz is compressed. Of several environments at
    once (gymnasium.vector) each writes a file of its own.

    An episode that a new `reset` or `close` ends is written as cut off (reason "reset" or "closed"), never as a success; one in
    which the environment raised an exception is a fault (`error`), and one without a step is not written.

    split: of the tasks, if you know it: train, eval or test. group: names the task group of an episode by what `reset` told of
    it (info); default: the task's id, so that all episodes of a task are compared. `seed` is that of `reset`, -1 where none was
    given.
    """

    def __init__(
        self,
        env: gymnasium.Env[str, str],
        path: str | os.PathLike[str],
        *,
        split: Split = "train",
        group: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        super().__init__(env)
        if not isinstance(env.unwrapped, TextEnv):
            raise TypeError(f"{type(env.unwrapped).__name__} is no TextEnv, so it tells neither states nor success")
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; allowed: {', '.join(SPLITS)}")
        self.path, self.split = Path(path), split
        self._group = group or (lambda info: str(info["task_id"]))
        name = env.unwrapped.name
        self._env_id = registry.spec(name).id if name in registry.names() else name
        self._episode: Trajectory | None = None
        self._observation, self._info = "", {}  # type: str, dict[str, Any]
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self._cut_off("reset")
        observation, info = self.env.reset(seed=seed, options=options)
        self._episode = Trajectory(
            self._env_id, str(info["task_id"]), self._group(info), -1 if seed is None else seed, self.split
        )
        self._observation, self._info = observation, info
        return observation, info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        seen, before, episode = self._observation, self._info, self._episode
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            if episode is not None:
                episode.error = f"exception: {type(error).__name__}: {error}"
                self._write()
            raise
        if episode is not None:
            episode.steps.append(Step.taken(seen, before, action, reward, terminated, truncated, info))
            self._observation, self._info = observation, info
            if terminated or truncated:
                episode.success = bool(info["success"]) and not truncated
                episode.reason = info.get("reason", "time_limit") if truncated else None
                self._write()
        return observation, float(reward), terminated, truncated, info

    def close(self) -> None:
        self._cut_off("closed")
        super().close()

    def _cut_off(self, reason: str) -> None:
        """End what is under way: lost, and truncated as at a time limit."""
        if self._episode is not None and self._episode.steps:
            self._episode.steps[-1].truncated, self._episode.reason = True, reason
            self._write()
        self._episode = None

    def _write(self) -> None:
        assert self._episode is not None
        self._episode.score = float(self._info["score"])
        self._episode.final_observation, self._episode.final_frame = self._observation, self._info.get("frame")
        self._episode.final_state_key = self._info["state_key"]
        append(self.path, [self._episode])
        self._episode = None
