"""Checks across sections, and the settings of environments and algorithms, before anything heavy is imported."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agents.config.commands import AuditConfig, EvaluateConfig, JudgeRunConfig, TrainConfig
from agents.config.sections import EnvConfig
from agents.config.training_checks import check_training
from algorithms import base, shaping
from envs import registry
from envs.common.structured import ConfigError, build, keys, not_among, plain, unknown_key

LOWEST_OF_VLLM = 0.01
"""Temperature that vLLM samples with where a lower one is asked for."""
Config = TrainConfig | EvaluateConfig | JudgeRunConfig | AuditConfig


def environment_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The env section with the environment's own keys moved into `settings` and checked by its own dataclass."""
    name = values.get("name")
    if name is None or name == "???":
        raise ConfigError(f"no environment is named; choose one: env=<{'|'.join(registry.names())}>")
    if name not in registry.names():
        raise not_among("env.name", name, registry.names())
    try:
        settings_class = registry.spec(name).config
    except ImportError as exc:
        raise ConfigError(f"environment '{name}' cannot be imported: {exc}") from exc
    own = [key for key in keys(EnvConfig) if key != "settings"]
    for key in values:
        if key not in own and key not in keys(settings_class):
            raise unknown_key(f"env.{key}", [*own, *keys(settings_class)])
    settings = build(settings_class, {key: value for key, value in values.items() if key not in own}, "env")
    return {**{key: value for key, value in values.items() if key in own}, "settings": settings}


def algorithm_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The algo section with every setting of the method, checked by the method's own dataclass."""
    name = values.get("name")
    if name not in base.names():
        raise not_among("algo.name", name, base.names())
    return {"name": name, **_settings_of(base.get(str(name)), values, "algo")}


def shaping_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The shaping section with every setting of each shaping, checked by its own dataclass."""
    for name in values:
        if name not in shaping.names():
            raise unknown_key(f"shaping.{name}", shaping.names())
    return {name: _settings_of(shaping.get(name), settings or {}, f"shaping.{name}") for name, settings in values.items()}


def _settings_of(cls: type, values: Any, path: str) -> dict[str, Any]:
    if isinstance(values, Mapping):
        values = {key: value for key, value in values.items() if key != "name"}
    checked: dict[str, Any] = plain(build(cls, values, path))
    return checked


def check(config: Config) -> None:
    """Combinations that cannot work. Raises ConfigError."""
    _check_device(config.device)
    model = config.model
    if model.name == "tiny" and model.tiny.hidden % model.tiny.heads:
        raise ConfigError(
            f"model.tiny.hidden is {model.tiny.hidden}; it must be a multiple of model.tiny.heads={model.tiny.heads}"
        )
    if model.name == "tiny" and model.prompt == "chat":
        raise ConfigError("model.prompt is 'chat', but the tiny model has no chat template; allowed with model=tiny: plain")
    if model.prompt == "plain" and (idle := [key for key in ("system", "chat_template_kwargs") if getattr(model, key)]):
        raise ConfigError(f"model.{idle[0]} is for chat templates, and model.prompt is 'plain': leave it away")
    if model.name == "tiny" and model.dtype == "bfloat16":
        raise ConfigError("model.dtype is 'bfloat16', but the tiny model is float32; allowed with model=tiny: float32, auto")
    if config.engine.max_tokens >= model.max_length:
        raise ConfigError(
            f"engine.max_tokens is {config.engine.max_tokens}; it must be below model.max_length={model.max_length}"
        )
    if "" in (config.engine.stop or ()):
        raise ConfigError("engine.stop holds an empty string, which would end every answer at its first token; leave it out")
    if config.engine.ignore_end and config.engine.constrained != "none":
        raise ConfigError(
            f"engine.ignore_end=true gives answers of equal length, and with engine.constrained={config.engine.constrained} an "
            "action decides how long its answer is; allowed with it: none"
        )
    if config.env.thinking and config.model.chat_template_kwargs.get("enable_thinking") is False:
        raise ConfigError(
            "env.thinking=true makes an answer without thoughts invalid, and model.chat_template_kwargs.enable_thinking=false "
            "tells the model to give none; leave one of them away"
        )
    if config.env.thinking and config.engine.constrained != "none":
        raise ConfigError(
            f"engine.constrained is '{config.engine.constrained}', which leaves no room for the thoughts that "
            "env.thinking=true asks for; allowed with thinking: none"
        )
    if config.env.hierarchy and config.engine.constrained != "none":
        raise ConfigError(
            f"engine.constrained is '{config.engine.constrained}', which leaves no room for the subgoals that "
            "env.hierarchy=true asks for; allowed with it: none"
        )
    _check_vllm(config)
    if isinstance(config, TrainConfig | EvaluateConfig) and not config.evaluation.temperature:
        raise ConfigError("evaluation.temperature is an empty list: name at least one, for example evaluation.temperature=[1]")
    if isinstance(config, TrainConfig | EvaluateConfig) and config.evaluation.beams is not None:
        _check_beams(config)
    if isinstance(config, AuditConfig):
        _check_audit(config)
    if isinstance(config, TrainConfig):
        check_training(config)


def _check_beams(config: TrainConfig | EvaluateConfig) -> None:
    """Answers can be searched by what a run has learned of single tokens."""
    e, engine = config.evaluation, config.engine
    run = config.run if isinstance(config, EvaluateConfig) else None
    if run is None or not searched_by(run):
        able = [name for name in shaping.names() if shaping.get(name).values_tokens]
        why = f"evaluation.beams is {e.beams}: answers are searched by what a run with shaping={' or '.join(able)} has learned"
        if isinstance(config, TrainConfig):
            raise ConfigError(f"{why}, which only agents.evaluate does; allowed here: null")
        if run is None:
            raise ConfigError(f"{why}; name that run by run=, or leave evaluation.beams away")
        raise ConfigError(f"{why}, and {run} has neither. Name another run, or leave evaluation.beams away")
    if engine.name != "hf":
        raise ConfigError(f"engine.name is '{engine.name}', which cannot search; allowed with evaluation.beams: hf")
    if engine.constrained == "scored":
        raise ConfigError(
            "engine.constrained is 'scored', where an action is chosen as a whole, and a search chooses token by token; "
            "allowed with evaluation.beams: none, admissible"
        )
    if (e.repeats or 1) > 1:
        raise ConfigError(
            f"evaluation.repeats is {e.repeats}, but a search finds the same answers each time; allowed with "
            "evaluation.beams: 1, null"
        )


def searched_by(run: str) -> list[str]:
    """Shapings of a run whose model says what each token of an answer is worth."""
    from agents.config.compose import read_saved

    return [name for name in read_saved(Path(run) / "config.yaml").get("shaping") or {} if shaping.get(name).values_tokens]


def _check_audit(config: AuditConfig) -> None:
    size = config.rollout.group_size
    if config.episodes % size:
        near = sorted({max(1, config.episodes // size) * size, (config.episodes // size + 1) * size})
        raise ConfigError(
            f"episodes is {config.episodes}; it must be a multiple of rollout.group_size={size}, for example "
            f"{' or '.join(map(str, near))}"
        )
    if not config.methods:
        raise ConfigError("methods is an empty list: name at least one, for example methods=[grpo]")
    if twice := [name for number, name in enumerate(config.methods) if name in config.methods[:number]]:
        raise ConfigError(f"methods names {twice[0]} twice")
    if config.tokens and config.engine.constrained == "scored":
        raise ConfigError(
            f"tokens is {config.tokens}, but with engine.constrained=scored an action is chosen as a whole, so nothing is "
            "decided within it; allowed with it: 0"
        )


def _check_vllm(config: Config) -> None:
    engine = config.engine
    if engine.name != "vllm":
        return
    if engine.vllm.where == "here" and engine.vllm.gpu is not None:
        raise ConfigError(
            f"engine.vllm.gpu is {engine.vllm.gpu} with engine.vllm.where=here, where vLLM uses the GPU of the policy; allowed "
            "with it: null"
        )
    temperatures = {"engine.temperature": engine.temperature}
    if isinstance(config, TrainConfig | EvaluateConfig):
        temperatures["evaluation.temperature"] = min(config.evaluation.temperature, default=1.0)
    for key, value in temperatures.items():
        if value < LOWEST_OF_VLLM:
            raise ConfigError(f"{key} is {value:g}, which vLLM would raise to {LOWEST_OF_VLLM:g}; allowed: that and more")


def _check_device(device: str) -> None:
    """Ask for what can be known without importing torch; the trainer asks torch itself."""
    if device != "cuda":
        return
    try:
        build_of_torch = version("torch")
    except PackageNotFoundError:
        raise ConfigError("torch is not installed: pip install stepcredit") from None
    if build_of_torch.endswith("+cpu"):
        raise ConfigError(f"device is 'cuda', but torch {build_of_torch} is a CPU build; allowed here: auto, cpu")
    driver = Path("/proc/driver/nvidia/version"), Path("/usr/lib/wsl/lib/libcuda.so.1")
    if platform.system() == "Linux" and not any(path.exists() for path in driver):
        raise ConfigError("device is 'cuda', but no NVIDIA driver is loaded; allowed here: auto, cpu")
