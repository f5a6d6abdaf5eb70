"""Whether a judge's settings can work, and the key of its server, before anything heavy is imported."""

from __future__ import annotations

import importlib.util
import os
from urllib.parse import urlsplit

from agents.config.sections import JudgeConfig
from envs.common.structured import ConfigError

OPENAI_KEY = "OPENAI_API_KEY"


def check_judge(config: JudgeConfig) -> None:
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
        if importlib.util.find_spec("httpx2") is None:
            raise ConfigError("judge.kind=endpoint needs a package: pip install 'stepcredit[judge]'")
        if config.base_url is not None and not _is_address(config.base_url):
            raise ConfigError(
                f"judge.base_url is {config.base_url!r}; it must be an address, for example http://localhost:8000/v1"
            )
        server_key(config)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or no host
        return False


def server_key(config: JudgeConfig) -> str | None:
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
