"""From the command line to a checked configuration, and from there to config.yaml and back.

`load` takes well under a second: neither torch nor transformers is imported. Hydra's part is in agents.config.compose, strict
conversion in envs.common.structured, combinations in agents.config.checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from agents.config.commands import COMMANDS, AuditConfig, Config, EvaluateConfig, Job, JudgeRunConfig, TrainConfig
from agents.config.renamed import refuse
from agents.config.secrets import stored
from envs.common.structured import ConfigError, build, keys, paths, plain, unknown_key

C = TypeVar("C", bound=Config)
Compose = Callable[[str, Sequence[str]], dict[str, Any]]


def load(overrides: Sequence[str] = ()) -> TrainConfig:
    """The training run that `overrides` describe (`env=alfworld`, `optim.lr=1e-4`, ...). Raises ConfigError."""
    return _finished(TrainConfig, "train", overrides)


def load_evaluate(overrides: Sequence[str] = ()) -> EvaluateConfig:
    """The evaluation that `overrides` describe. Raises ConfigError."""
    return _finished(EvaluateConfig, "evaluate", overrides)


def load_judge(overrides: Sequence[str] = ()) -> JudgeRunConfig:
    """The measurement of a judge that `overrides` describe. Raises ConfigError."""
    return _finished(JudgeRunConfig, "judge", overrides)


def load_audit(overrides: Sequence[str] = ()) -> AuditConfig:
    """The audit of credit that `overrides` describe. Raises ConfigError."""
    return _finished(AuditConfig, "audit", overrides)


def composed(job: Job, overrides: Sequence[str] = (), of: Compose | None = None) -> dict[str, Any]:
    """The sections of a command as a plain mapping, before they are checked; `of=sources`: where each value comes from.

    Raises ConfigError.
    """
    from agents.config.compose import compose
    from agents.config.overrides import parse

    of = of or compose
    cls = COMMANDS[job]
    unused = [key for key in keys(TrainConfig) if key not in keys(cls)]
    given = {override.input_line or "": override.key_or_group for override in parse(overrides)}
    for name in given.values():
        section = name.partition(".")[0]
        if job == "audit" and section == "algo":
            raise ConfigError(f"{name} names one method, and an audit compares several: set methods=[...]")
        if section in unused:
            raise unknown_key(name, keys(cls))
        if job in ("evaluate", "audit") and section == "model" and "run" in given.values():
            raise ConfigError(f"{name} cannot be given together with run=: a run's model is the one it was trained with")
        if job == "judge" and name in ("judge.actions", "judge.subgoals"):
            form = name.replace("judge", "forms")
            raise ConfigError(f"{name} has several values here: set {form}=[...] to those that are to be measured")
    # For the judge, a run brings the sections that its policy was made with; the judge is the one that is named here.
    brought = ("run", "env", "model", "engine") if job == "judge" and "run" in given.values() else ()
    of_run = [line for line, name in given.items() if name.partition(".")[0] in brought]
    values = of(job, [line for line in given if line not in of_run])
    if brought:
        values |= {key: value for key, value in of(job, of_run).items() if key in brought}
    # A model's YAML file also says how it is trained, which other commands do not need.
    return {key: value for key, value in values.items() if key not in unused}


def _finished(cls: type[C], job: Job, overrides: Sequence[str]) -> C:
    from agents.config.compose import named_run
    from agents.config.overrides import parse

    values = composed(job, overrides)
    try:
        return finish(cls, values)
    except ConfigError as exc:
        if (run := named_run(job, parse(overrides))) is None:
            raise
        raise ConfigError(f"{exc}\nin {run[1]}/config.yaml with what was given beside {run[0]}=") from exc


def finish(cls: type[C], values: dict[str, Any]) -> C:
    """A checked configuration from a plain mapping, as compose gives it or config.yaml holds it. Raises ConfigError."""
    from agents.config.checks import algorithm_settings, check, environment_settings, shaping_settings

    values = dict(values)
    refuse(values)
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


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain values; `finish` reads it back."""
    values = plain(config)
    values["env"].update(values["env"].pop("settings") or {})
    return values


def to_yaml(config: TrainConfig | EvaluateConfig) -> str:
    """The configuration as YAML text: interpolated texts as they were written, and secrets masked."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(stored(to_dict(config))))
