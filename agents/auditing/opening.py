"""The policy that an audit is of, and what models beside it learn from: a run's checkpoint and episodes, or a model's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from agents.auditing import playing
from agents.auditing.playing import Store, watching
from agents.config.commands import AuditConfig, TrainConfig
from agents.models.policy import Policy
from agents.models.sources import in_words
from agents.rollout.build import fresh_policy, open_sampler
from agents.rollout.planner import GREEDY, Planner
from agents.rollout.sampler import Sampler
from agents.runs.checkpoint import Checkpoint
from agents.runs.folder import RunFolder
from agents.training.warmstart import warm_up
from agents.training.weights import WeightStore
from algorithms import base, shaping
from envs import trajectory_file
from envs.base import TextEnv
from envs.common.seeding import derive
from envs.common.text import printable
from envs.trajectory import Trajectory

PLAYED = 5
"""Iterations that are played for critics and reward models to learn from, where there is no run."""


@dataclass(eq=False)
class Opened:
    """A policy that plays."""

    policy: Policy
    sampler: Sampler
    iteration: int
    """Of the run's checkpoint; 0 without a run."""
    before: Mapping[str, Tensor] | None
    """The policy's weights before RL, where they are others and something starts from them."""
    learned: Mapping[str, Any] | None
    """What the run's critic and reward models had learned."""

    async def publish(self) -> None:
        """Give the engine the policy's weights: it was opened before they were what they are."""
        await WeightStore(self.policy, [self.sampler.player.engine]).publish(self.iteration)


@contextmanager
def opened(
    config: AuditConfig, trainings: Mapping[str, TrainConfig], env: TextEnv, saved: Checkpoint | None, console: Console
) -> Iterator[Opened]:
    """Within: the policy samples as a run's checkpoint has it, or without one as it is after its warm start if it gets one."""
    training = next(iter(trainings.values()))
    policy = fresh_policy(training)
    sampler = open_sampler(training, policy)
    try:
        before, learned, iteration = None, None, 0
        if saved is None:
            _warm_up(training, policy, env, sampler, console)
        else:
            iteration, learned = int(saved.state["iteration"]), saved.state["update"]
            if any(map(learns, trainings.values())):
                before = learned.get("frozen")
                if before is None:
                    _warm_up(training, policy, env, sampler, console)
                    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
            policy.model.load_state_dict(saved.tensors)
        console.print(f"weights: {in_words(policy, config.model)}", soft_wrap=True)
        if sampler.player.dialogue.summary:
            console.print(f"dialogue: {sampler.player.dialogue.summary}", soft_wrap=True)
        yield Opened(policy, sampler, iteration, before, learned)
    finally:
        sampler.close()


def learns(training: TrainConfig) -> bool:
    """Whether a model beside the policy learns for its method."""
    method = base.get(training.algo["name"])
    return "values" in method.needs or any(shaping.build(name, settings).learns for name, settings in training.shaping.items())


def _warm_up(training: TrainConfig, policy: Policy, env: TextEnv, sampler: Sampler, console: Console) -> None:
    if not training.warm_starts:
        return
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bars: dict[str, Any] = {}

        def told(stage: str, done: int, total: int, **_: float) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage)
            progress.update(bars[stage], completed=done, total=total)

        player = sampler.player
        warm_up(policy, env, player.dialogue, player.prompt, training, told)


async def of_run(run: str, iteration: int, newest: int | None) -> AsyncIterator[list[Trajectory]]:
    """The iterations of episodes that a run learned from, up to a checkpoint; of these the newest, or all."""
    folder = RunFolder(run)
    before = [number for number in folder.iterations() if number <= iteration]
    for number in before[-newest:] if newest else before:
        stored = list(trajectory_file.read(folder.trajectories(number), truncated="warn"))
        yield [t for t in stored if t.group_id.endswith(GREEDY) or any(step.credit is not None for step in t.steps)]


async def played(
    config: AuditConfig, env: TextEnv, sampler: Sampler, store: Store, console: Console
) -> AsyncIterator[list[Trajectory]]:
    """Iterations of episodes that the policy plays as it is; those that the store holds are not played again."""
    planner = Planner(env.tasks("train"), config.rollout.groups, config.rollout.group_size, derive(config.seed, "audit", "fit"))
    for number in range(1, (config.fit or PLAYED) + 1):
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            told = watching(progress, f"episodes to learn from, iteration {number}")
            size = f"{config.rollout.groups}x{config.rollout.group_size}"
            file, temperature = store.folder / f"fit-{size}-{number}.jsonl", config.engine.temperature
            groups = await playing.episodes(sampler, planner.episodes(number), temperature, store, file, "fit", told)
        yield [one for group in groups for one in group]


def policy_in_words(config: AuditConfig, iteration: int) -> str:
    """Who played."""
    return f"{printable(config.run)}, iteration {iteration}" if config.run else config.model.name
