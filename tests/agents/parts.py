"""What plays a configuration's episodes, made and let go of for one test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agents.models.policy import Policy
from agents.rollout.build import Config, fresh_policy, make_env, open_sampler
from agents.rollout.planner import evaluation_episodes
from agents.rollout.sampler import Sampler
from agents.training.warmstart import demonstrations
from envs.base import TextEnv
from envs.trajectory import Trajectory


@dataclass
class Parts:
    config: Config
    env: TextEnv
    policy: Policy
    sampler: Sampler
    runner: asyncio.Runner

    def evaluation(self, temperature: float = 1.0) -> list[Trajectory]:
        """The episodes of an evaluation."""
        episodes = evaluation_episodes(self.config.evaluation, self.env, self.config.seed)
        return self.runner.run(self.sampler.play(episodes, temperature))

    def demonstrations(self, tasks: list[str], count: int) -> list[Trajectory]:
        return demonstrations(self.env, self.sampler.player.dialogue, self.sampler.player.prompt, self.config, tasks, count)  # type: ignore


@contextmanager
def opened(config: Config) -> Iterator[Parts]:
    policy = fresh_policy(config)
    sampler = open_sampler(config, policy)
    try:
        with asyncio.Runner() as runner:
            yield Parts(config, make_env(config), policy, sampler, runner)
    finally:
        sampler.close()
