"""Environments that do what is none of an environment's business: one prints at every step, one ends the program."""

from __future__ import annotations

import os
import sys

from envs import registry
from envs.base import StepResult
from tests.envs import toys

COMMAND = "import sys; from tests.agents import odd_environments; from agents.train import main; sys.exit(main(sys.argv[1:]))"
"""`python -m agents.train` that knows them."""


class Talkative(toys.Corridor):
    name = "talkative"

    def act(self, action: str) -> StepResult:
        print("now", action, flush=True)
        return super().act(action)


class Wandering(toys.Corridor):
    """Works in a folder of its own, which in the training's process is everybody's then."""

    name = "wandering"

    def act(self, action: str) -> StepResult:
        os.chdir("/")
        return super().act(action)


class Quitting(toys.Corridor):
    name = "quitting"


class QuittingPrompt(toys.CorridorPrompt):
    """Read in the training's own process, wherever the environment is."""

    turns = 0

    def plain(self, observation: str) -> str:
        QuittingPrompt.turns += 1
        if QuittingPrompt.turns == 200:
            sys.exit(0)
        return super().plain(observation)


registry.register("talkative", "tests/Talkative-v0", Talkative, toys.CorridorConfig, toys.CorridorPrompt)
registry.register("wandering", "tests/Wandering-v0", Wandering, toys.CorridorConfig, toys.CorridorPrompt)
registry.register("quitting", "tests/Quitting-v0", Quitting, toys.CorridorConfig, QuittingPrompt)
