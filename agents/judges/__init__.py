"""Judges say which subgoals each step of an episode achieved: the environment's rules, or a language model that is asked.

What a verdict is worth is left to `algorithms.shaping.calm`, how good a judge is to `agents.judge`. Nothing heavy is imported
before `build` needs it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from agents.config import JudgeConfig, ModelConfig
from algorithms import shaping
from envs.base import SPLITS
from envs.cache import cache_folder
from envs.structured import ConfigError

if TYPE_CHECKING:
    from agents.assembly import Assembly
    from agents.judges.speaker import Speaker

OPENAI_KEY = "OPENAI_API_KEY"
LONGEST_CONTEXT = 8192
"""Tokens that a model loaded as judge reads at most: a few observations and an answer."""


class Judge(shaping.Judge, Protocol):
    """A judge of a run: each step that changed anything is judged by itself, and never in an event loop.

    metrics, of the last call: steps; of these judged, broken (an answer without a dictionary), failed and open (not asked: no
    budget, or an outage), the others having changed nothing; achieved verdicts. Of a model that is asked also: different
    questions, calls (repeated ones included), cached answers, failed_<kind> calls, tokens, seconds, episodes without_subgoals.
    """

    seconds: list[float]
    """Of each call to a model that was answered during the last `judge`."""

    def state(self) -> dict[str, Any]:
        """What a resumed run must go on with."""

    def load_state(self, state: dict[str, Any]) -> None: ...

    def close(self) -> None:
        """Let go of files and connections; to be called before the event loop is closed."""


def check(config: JudgeConfig) -> None:
    """Combinations that cannot work, before anything heavy is imported. Raises ConfigError."""
    kind = config.kind
    if kind in ("model", "endpoint") and not config.model:
        example = "smollm2" if kind == "model" else "Qwen/Qwen2.5-7B-Instruct"
        raise ConfigError(f"judge.kind is '{kind}', but judge.model names no model; set it, for example judge.model={example}")
    if kind == "model" and config.model == "tiny":
        raise ConfigError(
            "judge.model is 'tiny', which has random weights and no chat template; choose a model that can answer"
        )
    if kind == "rules" and config.subgoals == "proposed":
        raise ConfigError(
            "judge.subgoals is 'proposed', but rules know only their own subgoals; allowed with judge.kind=rules: preset"
        )
    if config.noise and kind != "rules":
        raise ConfigError(f"judge.noise is {config.noise:g}, but only rules have errors to order; set judge.kind=rules")
    if config.file and config.subgoals != "proposed":
        raise ConfigError("judge.file is set, but the subgoals are preset; set judge.subgoals=proposed too")
    if kind == "endpoint":
        if importlib.util.find_spec("openai") is None:
            raise ConfigError("judge.kind=endpoint needs a package: pip install 'stepcredit[judge]'")
        if config.base_url is not None and not _is_address(config.base_url):
            raise ConfigError(
                f"judge.base_url is {config.base_url!r}; it must be an address, for example http://localhost:8000/v1"
            )
        _key(config)


def build(config: JudgeConfig, parts: Assembly) -> Judge:
    """The judge of a configuration, for the run that `parts` play. Raises ConfigError."""
    check(config)
    env = parts.env
    if config.subgoals == "preset" and not any(env.subgoals(task) for split in SPLITS for task in env.tasks(split)):
        raise ConfigError(f"environment '{env.name}' names no subgoals of its own: set judge.subgoals=proposed")
    if config.kind == "rules":
        from agents.judges.rules import Rules

        return Rules(env.subgoals, config.noise, parts.config.seed)
    from agents.judges.asking import Asker
    from agents.judges.cache import AnswerCache
    from agents.judges.proposal import Proposals
    from agents.judges.text import TextJudge

    subgoals = Proposals(proposals_file(config, parts)) if config.subgoals == "proposed" else env.subgoals
    speaker = _speaker(config, parts)
    cache = AnswerCache(_folder() / "answers.sqlite3") if config.cache and speaker.identity is not None else None
    asker = Asker(speaker, cache, config.concurrency, config.retries, config.budget)
    return TextJudge(asker, parts.prompt, subgoals, parts.runner, config.window, config.actions)


def proposals_file(config: JudgeConfig, parts: Assembly) -> Path:
    """Where proposed subgoals are kept: judge.file, or a file of the cache folder for each environment and judge."""
    if config.file:
        return Path(config.file)
    env, model = parts.env.name, config.model or parts.config.model.name
    judge = hashlib.sha256(repr((env, config.kind, model, config.base_url)).encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.]+", "-", f"{env}-{Path(model).name}")[:80]
    return _folder() / f"subgoals-{name}-{judge}.yaml"


def _folder() -> Path:
    return cache_folder() / "judge"


def _speaker(config: JudgeConfig, parts: Assembly) -> Speaker:
    if config.kind == "endpoint":
        from agents.judges.endpoint import Endpoint

        return Endpoint(str(config.model), config.base_url, _key(config), config.max_tokens, config.timeout_s)
    from agents.judges.local import Local, fingerprint
    from agents.template import Template

    if config.kind == "policy":
        m, policy = parts.config.model, parts.policy
        template = Template(policy.tokenizer, arguments=m.chat_template_kwargs, date=m.date, end_ids=policy.end_ids)
        return Local(parts.engine, template, config.max_tokens, identity=None)
    from agents.assembly import weights
    from agents.engines.hf import HFEngine
    from agents.models import load_pretrained, within_reach
    from agents.policy import PolicyError

    model = ModelConfig(name=str(config.model), prompt="chat", max_length=LONGEST_CONTEXT)
    try:
        policy = load_pretrained(within_reach(model), parts.config.device)
    except PolicyError as error:  # its words name the policy's key
        raise PolicyError(str(error).replace("model.name=", "judge.model=")) from error
    print(f"judge: {config.model}, {weights(policy, model)}", flush=True)
    identity = fingerprint(policy, config.max_tokens)
    engine = HFEngine(policy, max_batch=config.concurrency)
    template = Template(policy.tokenizer, end_ids=policy.end_ids)
    return Local(engine, template, config.max_tokens, identity, owned=True)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or no host
        return False


def _key(config: JudgeConfig) -> str | None:
    """The key that the environment holds. Raises ConfigError if one is needed and there is none."""
    name = config.key_from or (OPENAI_KEY if config.base_url is None else None)
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"the environment variable {name} holds no key for the judge's server; set it, name another one with "
            "judge.key_from, or give the address of a server that needs none with judge.base_url"
        )
    return key
