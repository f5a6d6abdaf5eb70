"""Makes what plays episodes as a configuration names it: environment, policy, dialogue and sampler."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

import torch

from agents.config import engines
from agents.config.commands import EvaluateConfig, TrainConfig
from agents.models.policy import Policy, PolicyError
from agents.models.sources import check_scoring, load_policy
from agents.rollout.choice import Scoring
from agents.rollout.corpus import corpus
from agents.rollout.dialogue import Chat, Dialogue, Plain
from agents.rollout.engines.base import Engine, Sampling
from agents.rollout.episode import Player
from agents.rollout.faults import Faults
from agents.rollout.gate import Gate
from agents.rollout.sampler import Sampler
from envs import registry
from envs.base import TextEnv
from envs.pool import Pool
from envs.prompt import Prompt

Config = TrainConfig | EvaluateConfig


def make_env(config: Config) -> TextEnv:
    """An instance of the environment, for splits, task types and demonstrations."""
    return registry.spec(config.env.name).env(config.env.settings)


def fresh_policy(config: Config) -> Policy:
    """The model that the configuration names, before any training."""
    if config.threads:
        torch.set_num_threads(config.threads)
    check_scoring(config)
    prompt = _prompt(config)
    return load_policy(config.model, prompt, corpus(make_env(config), prompt), config.device, config.seed)


def open_sampler(config: Config, policy: Policy, engine: Engine | None = None) -> Sampler:
    """A sampler whose engine begins with the weights of `policy`. To be closed. engine: by default what is configured."""
    spec, c, prompt = registry.spec(config.env.name), config, _prompt(config)
    dialogue = _dialogue(config, policy, prompt)
    waits = isinstance(c, TrainConfig) and c.rollout.overlap > 0 and c.rollout.weights == "between"
    engine = engine or (Gate if waits else engines.get(c.engine.name)).open(policy, c.engine)
    try:
        pool = Pool(
            partial(spec.env, c.env.settings),
            workers=c.env.pool.workers or os.cpu_count() or 1,
            mode=c.env.pool.mode,
            step_timeout=c.env.pool.step_timeout,
            reset_timeout=c.env.pool.step_timeout,
        )
    except BaseException:
        engine.close()
        raise
    sampling = Sampling(top_p=c.engine.top_p, max_tokens=c.engine.max_tokens)
    if not c.engine.ignore_end:
        sampling = replace(sampling, stop=dialogue.stop, stop_ids=dialogue.stop_ids)
    scoring = Scoring(dialogue.tries, c.engine.length) if c.engine.constrained == "scored" else None
    constrained = c.engine.constrained == "admissible"
    player = Player(engine, dialogue, prompt, sampling, c.env.context, c.env.history, constrained, scoring)
    faults = Faults(c.env.pool.set_aside)
    return Sampler(spec.id, player, pool, c.env.pool.retries, c.engine.max_batch, faults=faults)


def _prompt(config: Config) -> Prompt:
    prompt = registry.spec(config.env.name).prompt(thinking=config.env.thinking)
    prompt.hierarchy = config.env.hierarchy
    return prompt


def _dialogue(config: Config, policy: Policy, prompt: Prompt) -> Dialogue:
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
