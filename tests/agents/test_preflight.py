"""What is found out by beginning one episode, before a model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from agents import loading
from agents.checks import preflight
from envs import registry
from envs.base import Split, TaskError, TextEnv, Turn
from envs.structured import ConfigError


@dataclass
class SilentConfig:
    """Settings of an environment whose actions cannot be listed."""

    max_steps: int = 5
    data: str = "here"
    games: int = 1


class SilentEnv(TextEnv):
    """Says nothing about which actions are possible."""

    name = "silent"

    def __init__(self, settings: SilentConfig) -> None:
        super().__init__(settings.max_steps)
        self.settings = settings

    def tasks(self, split: Split) -> Sequence[str]:
        if self.settings.data != "here":
            raise TaskError(f"env.data={self.settings.data} is no folder: download the games")
        return [f"{split}-{i}" for i in range(self.settings.games)]

    def start(self, task_id: str, rng: np.random.Generator) -> Turn:
        return Turn("a dark room", state_key=task_id)

    def act(self, action: str) -> Turn:
        return Turn("a dark room", state_key="", terminated=True)


registry.register("silent", "tests/Silent-v0", SilentEnv, SilentConfig)


def test_constrained_sampling_needs_an_environment_that_lists_its_actions() -> None:
    free, constrained = ["env=silent", "engine.constrained=none"], ["env=silent", "engine.constrained=admissible"]
    preflight(loading.load(free))
    with pytest.raises(ConfigError, match=r"engine\.constrained.*'silent' does not list its actions; allowed here: none"):
        preflight(loading.load(constrained))


def test_missing_data_is_told_in_the_environments_own_words() -> None:
    with pytest.raises(ConfigError, match=r"env=silent: env\.data=there is no folder: download the games"):
        preflight(loading.load(["env=silent", "engine.constrained=none", "env.data=there"]))


def test_a_subgoal_that_no_task_has_is_refused_before_anything_is_trained() -> None:
    mistyped = ["env=alfworld", "algo=gigpo", "shaping=calm", "env.train_games=50"]
    preflight(loading.load([*mistyped, "shaping.calm.subgoals=[hold target]"]))
    preflight(loading.load([*mistyped, "shaping.calm.subgoals=null"]))
    with pytest.raises(ConfigError, match=r"shaping\.calm\.subgoals: no task has 'hold targt'\. Did you mean 'hold target'\?"):
        preflight(loading.load([*mistyped, "shaping.calm.subgoals=[hold targt]"]))


def test_a_panel_without_tasks_is_refused() -> None:
    with pytest.raises(ConfigError, match="env=silent: the train panel has no tasks"):
        preflight(loading.load(["env=silent", "engine.constrained=none", "env.games=0"]))
