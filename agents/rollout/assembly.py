"""Joins environment, policy, engine and rollout as a configuration names them; training and evaluation share it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from agents.config.sections import EvaluateConfig, ModelConfig, TrainConfig
from agents.models.policy import Policy, PolicyError
from agents.models.precision import bfloat16_on
from agents.models.sources import check_scoring, load_policy
from agents.rollout.choice import Scoring
from agents.rollout.corpus import corpus
from agents.rollout.dialogue import Chat, Plain, Prompter
from agents.rollout.engines.base import Engine, Sampling
from agents.rollout.sampler import Episode, Rollout, panel_episodes
from envs import registry
from envs.base import TextEnv
from envs.common.seeding import derive
from envs.pool import Pool
from envs.prompt import Prompt
from envs.trajectory import Trajectory


@dataclass(slots=True)
class Assembly:
    """The parts of a run that play episodes."""

    env: TextEnv
    """An instance of its own, for panels, task types and demonstrations."""
    prompt: Prompt
    policy: Policy
    prompter: Prompter
    engine: Engine
    pool: Pool
    config: TrainConfig | EvaluateConfig
    runner: asyncio.Runner

    def rollout(self, temperature: float, on_episode: Callable[[Trajectory], None] | None = None) -> Rollout:
        """A way to play episodes at `temperature`."""
        c = self.config
        sampling = Sampling(
            temperature=temperature,
            top_p=c.engine.top_p,
            max_tokens=c.engine.max_tokens,
            stop=self.prompter.stop,
            stop_ids=self.prompter.stop_ids,
        )
        return Rollout(
            env_id=registry.spec(c.env.name).id,
            engine=self.engine,
            prompter=self.prompter,
            prompt=self.prompt,
            pool=self.pool,
            sampling=sampling,
            context=c.env.context,
            history=c.env.history,
            constrained=c.engine.constrained == "admissible",
            scoring=self.scoring,
            retries=c.env.pool.retries,
            concurrency=c.engine.max_batch,
            on_episode=on_episode,
        )

    @property
    def scoring(self) -> Scoring | None:
        """How actions are chosen as wholes, if they are."""
        engine = self.config.engine
        return Scoring(self.prompter.tries, engine.length) if engine.constrained == "scored" else None

    def panel(self) -> list[Episode]:
        """The episodes of an evaluation: each time the same ones."""
        e = self.config.evaluation
        seed = derive(self.config.seed, "evaluation", e.panel)
        return panel_episodes(seed, self.env.tasks(e.panel)[: e.episodes], e.repeats, e.panel)

    def play(self, rollout: Rollout, episodes: Sequence[Episode]) -> list[Trajectory]:
        """Play from outside any event loop."""
        return self.runner.run(rollout.play(episodes))

    def close(self) -> None:
        self.engine.close()
        self.pool.close()
        self.runner.close()


def assemble(config: TrainConfig | EvaluateConfig, policy: Policy | None = None) -> Assembly:
    """Build everything; without `policy` the model that the configuration names."""
    if config.threads:
        torch.set_num_threads(config.threads)
    spec = registry.spec(config.env.name)
    make = partial(spec.env, config.env.settings)
    prompt = spec.prompt(thinking=config.env.thinking)
    policy = policy or fresh_policy(config)
    prompter = _prompter(config, policy, prompt)
    pool = Pool(
        make,
        workers=config.env.pool.workers or os.cpu_count() or 1,
        mode=config.env.pool.mode,
        step_timeout=config.env.pool.step_timeout,
        reset_timeout=config.env.pool.step_timeout,
    )
    return Assembly(make(), prompt, policy, prompter, _engine(config, policy), pool, config, asyncio.Runner())


def fresh_policy(config: TrainConfig | EvaluateConfig) -> Policy:
    """The model that the configuration names, before any training."""
    check_scoring(config)
    spec = registry.spec(config.env.name)
    prompt = spec.prompt(thinking=config.env.thinking)
    env = spec.env(config.env.settings)
    return load_policy(config.model, prompt, corpus(env, prompt), config.device, config.seed)


def _prompter(config: TrainConfig | EvaluateConfig, policy: Policy, prompt: Prompt) -> Prompter:
    model, stop = config.model, config.engine.stop
    if model.prompt == "plain":
        return Plain(policy.tokenizer, prompt, policy.end_ids, stop)
    chat = Chat(policy.tokenizer, prompt, policy.end_ids, stop, model.system, model.chat_template_kwargs, model.date)
    if config.env.context == "full" and not chat.template.grows:
        raise PolicyError(
            "this model's chat template begins a conversation otherwise once it goes on"
            + (", because of the system message: leave model.system away" if model.system else "")
            + ", or set env.context=window"
        )
    return chat


def _engine(config: TrainConfig | EvaluateConfig, policy: Policy) -> Engine:
    if config.engine.name == "scripted":
        from agents.rollout.engines.scripted import ScriptedEngine

        return ScriptedEngine()
    from agents.rollout.engines.hf import HFEngine

    return HFEngine(policy, max_batch=config.engine.max_batch)


def describe(policy: Policy) -> dict[str, int]:
    """Size of a policy, for logs."""
    total = sum(p.numel() for p in policy.model.parameters())
    return {
        "parameters": total,
        "trainable": sum(p.numel() for _, p in policy.trainable()),
        "bits": torch.finfo(policy.dtype).bits,
    }


def weights(policy: Policy, model: ModelConfig) -> str:
    """A policy's size and number format for people, and why it is that format where model.dtype leaves the choice."""
    size = f"{describe(policy)['parameters'] / 1e6:.1f} M in {str(policy.dtype).removeprefix('torch.')}"
    chosen = model.dtype == "auto" and model.name != "tiny"
    return f"{size} ({bfloat16_on(policy.device)[1]})" if chosen else size
