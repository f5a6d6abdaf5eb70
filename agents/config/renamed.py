"""Keys and values that had other names in earlier versions: refused where they are typed, translated where a run has them."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import fields
from typing import Any

from algorithms import base
from envs.common.structured import ConfigError

KEYS = {
    "algo.shaped": "algo.shaped_at",
    "algo.lone_episode": "algo.singleton_group",
    "algo.norm": "algo.normalize",
    "algo.whiten": "algo.normalize",
    "critic.alone": "critic.warmup",
    "evaluation.panel": "evaluation.split",
    "loss.kl_stop": "loss.target_kl",
    "loss.normalise": "loss.normalize",
    "optim.minibatch": "optim.minibatch_episodes",
    "optim.token_budget": "optim.tokens_per_microbatch",
    "panel": "split",
    "rollout.resample": "rollout.dynamic_sampling.rounds",
    "shaping.implicit_prm.norm": "shaping.implicit_prm.normalize",
    "warmstart.dawdling": "warmstart.suboptimal_share",
}
"""Old path: new path."""
VALUES = {
    ("algo.level", "turn"): "action",
    ("loss.surrogate", "joint"): "sequence_ppo",
}
"""Old value of a key: new value. The entries of algo.shaped_at are looked at one by one."""
METHODS: dict[str, dict[str, Any]] = {
    "ntpo": {"name": "poad", "inner": None},
    "archer": {"name": "poad", "inner": None, "next_value": "action"},
}
"""Methods of their own that are settings of another one now."""


def refuse(values: MutableMapping[str, Any]) -> None:
    """Raises ConfigError for a name of an earlier version, with the present one."""
    if (method := _method(values)) in METHODS:
        raise ConfigError(
            f"algo.name={method} is a file of settings for {METHODS[method]['name']} now; write algo={method} instead"
        )
    for old, new in KEYS.items():
        holder, key = _place(values, old)
        if holder is not None and key in holder and not _plugins_own(holder, old, key):
            raise ConfigError(f"{old} is called {new} now; write {new}= instead")
    for path, old, new in _values(values):
        raise ConfigError(f"{path}={old} is called {path}={new} now")


def translated(values: MutableMapping[str, Any]) -> None:
    """Give the configuration of an older run the present names, in place."""
    for old, new in KEYS.items():
        holder, key = _place(values, old)
        if holder is not None and key in holder and not _plugins_own(holder, old, key):
            value = holder.pop(key)
            target, name = _place(values, new, make=True)
            assert target is not None
            target[name] = value
    for path, _, new in _values(values):
        holder, key = _place(values, path)
        assert holder is not None
        holder[key] = new
    if (method := _method(values)) in METHODS:
        values["algo"].update(METHODS[method])


def _method(values: MutableMapping[str, Any]) -> str:
    holder, key = _place(values, "algo.name")
    return str(holder.get(key)) if holder is not None else ""


def _plugins_own(holder: MutableMapping[str, Any], old: str, key: str) -> bool:
    """Whether it is a setting of a method that has one of this name."""
    name = str(holder.get("name"))
    if not old.startswith("algo.") or name not in base.names():
        return False
    return key in {field.name for field in fields(base.get(name)) if field.init}


def _values(values: MutableMapping[str, Any]) -> list[tuple[str, str, str]]:
    """Path, old value and new value of what had another name."""
    known = [*VALUES.items(), *((("algo.shaped_at." + name, "after"), "advantage") for name in _shaped(values))]
    found = []
    for (path, old), new in known:
        holder, key = _place(values, path)
        if holder is not None and holder.get(key) == old:
            found.append((path, old, new))
    return found


def _shaped(values: MutableMapping[str, Any]) -> Iterator[str]:
    holder, key = _place(values, "algo.shaped_at")
    entries = holder.get(key) if holder is not None else None
    return iter(list(entries) if isinstance(entries, MutableMapping) else ())


def _place(values: MutableMapping[str, Any], path: str, make: bool = False) -> tuple[MutableMapping[str, Any] | None, str]:
    """The mapping that holds the last key of `path`, and that key; None if there is none."""
    *sections, key = path.split(".")
    for section in sections:
        below = values.setdefault(section, {}) if make else values.get(section)
        if not isinstance(below, MutableMapping):
            return None, key
        values = below
    return values, key
