"""The methods of an audit, each as the configuration of a training by it: here is known how a method composes with the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from agents.config import compose
from agents.config.commands import AuditConfig, TrainConfig
from agents.config.loading import composed, finish
from agents.config.overrides import parse
from agents.config.training_checks import BAND
from algorithms import base, surrogates, transforms
from envs.common.structured import ConfigError, keys, not_among

OWN = "run"
"""The name of the run's own method, among the methods of an audit."""
OF_AUDIT = {key for key in keys(AuditConfig) if key not in keys(TrainConfig)} | {"run", "checkpoint", "out"}
"""Keys that mean nothing to a training, or something else."""
PLAYS = ("env", "model", "engine", "seed", "device", "threads")
"""Sections that decide how episodes are played. They are the audit's own, for all methods."""


def trainings(config: AuditConfig, overrides: Sequence[str]) -> dict[str, TrainConfig]:
    """For each of `config.methods` the training whose credit is measured; overrides: of the audit. Raises ConfigError.

    `grpo+hicra` is grpo with that transform after its own ones.
    """
    words = [one.input_line or "" for one in parse(overrides) if one.key_or_group.partition(".")[0] not in OF_AUDIT]
    found: dict[str, TrainConfig] = {}
    for name in config.methods:
        if name.partition("+")[0] == OWN and config.run is None:
            raise ConfigError(
                f"methods has '{OWN}', the method of a run, and no run is given: set run=runs/<name>, or name a method"
            )
        method, added = named(name, [OWN] if config.run else [])
        try:
            values = composed("train", [*words, f"algo={method}"]) if config.run is None else _of_run(config.run, method, words)
            values["rollout"] = {**(values.get("rollout") or {}), "temperature_tau": 0.0}  # an audit plays at one temperature
            made = finish(TrainConfig, transformed(values, added))
        except ConfigError as error:
            raise ConfigError(f"method {name}: {error}") from error
        for section in PLAYS:
            _refuse_other(name, section, getattr(config, section), getattr(made, section))
        found[name] = made
    return found


def named(name: str, besides: Sequence[str] = ()) -> tuple[str, list[str]]:
    """The method and the transforms of a name like `grpo+hicra`. besides: what else counts as a method. Raises ConfigError."""
    method, *added = name.split("+")
    known = [*besides, *compose.options("algo", compose.groups()["algo"])]
    if method not in known:
        raise not_among("methods", method, known)
    if unknown := [one for one in added if one not in transforms.names()]:
        raise not_among(f"methods, of {name} the transform", unknown[0], transforms.names())
    return method, added


def _of_run(run: str, name: str, words: Sequence[str]) -> dict[str, Any]:
    """The run's configuration with another method; single values that are given count before those that the method sets."""
    values = compose.of_run(run, parse(words))
    values.pop("run")
    if name == OWN:
        return values
    brought = base.get(values["algo"]["name"]).reads_shaping
    shaping = {key: one for key, one in (values.get("shaping") or {}).items() if key != brought}
    # Nothing is learned here; another method's transforms do not give what the loss of this one reads.
    loss = {key: one for key, one in (values.get("loss") or {}).items() if key not in ("surrogate", "entropy_band")}
    others = {key: value for key, value in values.items() if key != "algo"} | {"shaping": shaping, "loss": loss}
    return compose.joined(others, compose.method(name), words)


def transformed(values: dict[str, Any], added: Sequence[str]) -> dict[str, Any]:
    """A configuration with further transforms, and a loss that reads what they give, since one is refused without the other."""
    algo, loss = dict(values["algo"]), dict(values.get("loss") or {})
    if added:
        algo["transforms"] = [*(algo.get("transforms") or []), *added]
    for columns in (transforms.get(one).gives for one in added):
        reading = [one for one in surrogates.names() if columns & surrogates.get(one).reads]
        loss |= {"surrogate": reading[0]} if reading else {}
        loss |= {"entropy_band": 1.0} if columns & BAND else {}
    return values | {"algo": algo, "loss": loss}


def _refuse_other(name: str, path: str, wanted: Any, made: Any) -> None:
    """Raise ConfigError where a method's own settings would have episodes played otherwise."""
    if wanted == made:
        return
    if hasattr(wanted, "__dataclass_fields__") and type(wanted) is type(made):
        for field in fields(wanted):
            _refuse_other(name, f"{path}.{field.name}", getattr(wanted, field.name), getattr(made, field.name))
        return
    raise ConfigError(
        f"method {name} sets {path}={made}, and this audit's episodes are played with {path}={wanted}: all methods credit the "
        f"same episodes, so give {path}={made} for all of them, or leave {name} out"
    )
