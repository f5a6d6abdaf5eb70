"""Judges are asked about episodes, the environment's rules or a language model: which subgoals each step achieved, which steps
were wrong, or, a model only, what a reward is made of.

What is made of it is left to `algorithms.shaping`, how good a judge is to `agents.judge`. Nothing heavy is imported
before `build` needs it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agents.config.commands import EvaluateConfig, TrainConfig
from agents.config.judge import check_judge, server_key
from agents.config.sections import JudgeConfig, ModelConfig
from agents.config.training_checks import asks_a_judge
from algorithms import shaping
from envs.base import SPLITS, TextEnv
from envs.common.cache import cache_folder
from envs.common.structured import ConfigError

if TYPE_CHECKING:
    from agents.judges.client import Client
    from agents.models.policy import Policy
    from agents.rollout.sampler import Sampler

LONGEST_CONTEXT = 8192
"""Tokens that a model loaded as judge reads at most: a few observations and an answer."""


class Judge(shaping.Judge, Protocol):
    """A judge of a run: each step that changed anything is judged by itself.

    metrics, of the last call: steps; of these judged, broken (an answer without a dictionary), failed and open (not asked: no
    budget, or an outage), the others having changed nothing; achieved verdicts. Of a model that is asked also: different
    questions, calls (repeated ones included), cached answers, failed_<kind> calls, tokens, seconds, episodes without_subgoals.
    """

    seconds: list[float]
    """Of each call to a model that was answered during the last `judge`."""

    def state(self) -> dict[str, Any]:
        """What a resumed run must go on with."""

    def load_state(self, state: dict[str, Any]) -> None: ...

    async def close(self) -> None:
        """Let go of files and connections."""


def build(config: JudgeConfig, run: TrainConfig | EvaluateConfig, env: TextEnv, sampler: Sampler, policy: Policy) -> Judge:
    """The judge of a configuration, for the run whose episodes `sampler` plays. Raises ConfigError."""
    check_judge(config)
    named = config.subgoals == "proposed" or any(env.subgoals(task) for split in SPLITS for task in env.tasks(split))
    if "subgoals" in _asked(run) and not named:
        raise ConfigError(f"environment '{env.name}' names no subgoals of its own: set judge.subgoals=proposed")
    if config.kind == "rules":
        from agents.judges.rules import Rules

        return Rules(env.subgoals, config.noise, run.seed)
    from agents.judges.asking import RetryingClient
    from agents.judges.cache import AnswerCache
    from agents.judges.proposal import Proposals
    from agents.judges.text import TextJudge

    subgoals = Proposals(proposals_file(config, env.name, run.model.name)) if config.subgoals == "proposed" else env.subgoals
    client = _client(config, run, sampler, policy)
    cache = AnswerCache(_folder() / "answers.sqlite3") if config.cache and client.identity is not None else None
    asking = RetryingClient(client, cache, config.concurrency, config.retries, config.budget)
    return TextJudge(asking, sampler.player.prompt, subgoals, config.window, config.actions, config.temperature)


def _asked(run: TrainConfig | EvaluateConfig) -> set[str | None]:
    """What a run asks its judge for; one that is only measured is asked for subgoals."""
    return (asks_a_judge(run) if isinstance(run, TrainConfig) else set()) or {"subgoals"}


def proposals_file(config: JudgeConfig, env: str, policy: str) -> Path:
    """Where proposed subgoals are kept: judge.file, or a file of the cache folder for each environment and judge.

    policy: name of the model that is trained, which judges where no other is named."""
    if config.file:
        return Path(config.file)
    model = config.model or policy
    judge = hashlib.sha256(repr((env, config.kind, model, config.base_url)).encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.]+", "-", f"{env}-{Path(model).name}")[:80]
    return _folder() / f"subgoals-{name}-{judge}.yaml"


def _folder() -> Path:
    return cache_folder() / "judge"


def _client(config: JudgeConfig, run: TrainConfig | EvaluateConfig, sampler: Sampler, policy: Policy) -> Client:
    if config.kind == "endpoint":
        from agents.judges.endpoint import Endpoint

        return Endpoint(str(config.model), config.base_url, server_key(config), config.max_tokens, config.timeout_s)
    from agents.judges.local import Local, fingerprint
    from agents.models.template import Template

    if config.kind == "policy":
        m = run.model
        template = Template(policy.tokenizer, arguments=m.chat_template_kwargs, date=m.date, end_ids=policy.end_ids)
        return Local(sampler.player.engine, template, config.max_tokens, identity=None)
    from agents.models.policy import PolicyError
    from agents.models.sources import in_words, load_pretrained, within_reach
    from agents.rollout.engines.hf import HFEngine

    model = ModelConfig(name=str(config.model), prompt="chat", max_length=LONGEST_CONTEXT)
    try:
        judging = load_pretrained(within_reach(model), run.device)
    except PolicyError as error:  # its words name the policy's key
        raise PolicyError(str(error).replace("model.name=", "judge.model=")) from error
    print(f"judge: {config.model}, {in_words(judging, model)}", flush=True)
    identity = fingerprint(judging, config.max_tokens)
    engine = HFEngine(judging, max_batch=config.concurrency)
    template = Template(judging.tokenizer, end_ids=judging.end_ids)
    return Local(engine, template, config.max_tokens, identity, owned=True)
