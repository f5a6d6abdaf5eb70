"""From the command line to a checked configuration, and from there to config.yaml and back.

`load` takes well under a second: neither torch nor transformers is imported. Hydra's part is in agents.compose, strict
conversion in envs.structured, combinations in agents.checks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from agents.config import EvaluateConfig, JudgeRunConfig, TrainConfig
from envs.structured import ConfigError, build, keys, paths, plain, unknown_key

C = TypeVar("C", TrainConfig, EvaluateConfig, JudgeRunConfig)


def load(overrides: Sequence[str] = ()) -> TrainConfig:
    """The training run that `overrides` describe (`env=alfworld`, `optim.lr=1e-4`, ...). Raises ConfigError."""
    from agents.compose import compose

    return finish(TrainConfig, compose("train", overrides))


def load_evaluate(overrides: Sequence[str] = ()) -> EvaluateConfig:
    """The evaluation that `overrides` describe. Raises ConfigError."""
    from agents.compose import compose, parse

    unused = [key for key in keys(TrainConfig) if key not in keys(EvaluateConfig)]
    names = [override.key_or_group for override in parse(overrides)]
    for name in names:
        section = name.partition(".")[0]
        if section in unused:
            raise unknown_key(name, keys(EvaluateConfig))
        if section == "model" and "run" in names:
            raise ConfigError(f"{name} cannot be given together with run=: a run's model is the one it was trained with")
    # A model's YAML file also says how it is trained, which an evaluation does not need.
    values = compose("evaluate", overrides)
    return finish(EvaluateConfig, {key: value for key, value in values.items() if key not in unused})


def load_judge(overrides: Sequence[str] = ()) -> JudgeRunConfig:
    """The measurement of a judge that `overrides` describe. Raises ConfigError."""
    from agents.compose import compose, parse

    unused = [key for key in keys(TrainConfig) if key not in keys(JudgeRunConfig)]
    given = {override.input_line or "": override.key_or_group for override in parse(overrides)}
    for name in given.values():
        if name.partition(".")[0] in unused:
            raise unknown_key(name, keys(JudgeRunConfig))
        if name in ("judge.actions", "judge.subgoals"):
            form = name.replace("judge", "forms")
            raise ConfigError(f"{name} has several values here: set {form}=[...] to those that are to be measured")
    # A run brings the sections that its policy was made with; the judge is the one that is named here.
    brought = ("run", "env", "model", "engine") if "run" in given.values() else ()
    of_run = [line for line, name in given.items() if name.partition(".")[0] in brought]
    values = compose("judge", [line for line in given if line not in of_run])
    if brought:
        values |= {key: value for key, value in compose("judge", of_run).items() if key in brought}
    return finish(JudgeRunConfig, {key: value for key, value in values.items() if key not in unused})


def finish(cls: type[C], values: dict[str, Any]) -> C:
    """A checked configuration from a plain mapping, as compose gives it or config.yaml holds it. Raises ConfigError."""
    from agents.checks import algorithm_settings, check, environment_settings, shaping_settings

    values = dict(values)
    for key in values:
        if key not in keys(cls):
            # A bare `lr=...` is most often a key that stands in a section.
            inside = [path for path in paths(cls) if path.rpartition(".")[2] == key]
            raise unknown_key(key, keys(cls), also=inside)
    if isinstance(values.get("env"), Mapping):
        values["env"] = environment_settings(values["env"])
    if isinstance(values.get("algo"), Mapping):
        values["algo"] = algorithm_settings(values["algo"])
    if isinstance(values.get("shaping"), Mapping):
        values["shaping"] = shaping_settings(values["shaping"])
    config = build(cls, values)
    check(config)
    return config


def to_dict(config: TrainConfig | EvaluateConfig) -> dict[str, Any]:
    """The configuration as YAML can hold it; `finish` reads it back."""
    values = plain(config)
    values["env"].update(values["env"].pop("settings") or {})
    return values


def save(config: TrainConfig | EvaluateConfig, path: Path) -> None:
    """Write the resolved configuration as YAML."""
    path.write_text(to_yaml(config), encoding="utf-8")


def to_yaml(config: TrainConfig | EvaluateConfig) -> str:
    """The resolved configuration as YAML text."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(_uninterpolated(to_dict(config))))


def _uninterpolated(value: Any) -> Any:
    """The same values where `${` stands for itself: what could be interpolated has been."""
    if isinstance(value, dict):
        return {key: _uninterpolated(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_uninterpolated(one) for one in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
