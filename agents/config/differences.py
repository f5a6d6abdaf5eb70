"""The settings of runs by dotted name, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from agents.config import loading
from agents.config.commands import TrainConfig
from agents.config.overrides import assignment

PLACE = ("run", "out", "resume")
"""Keys that say where a run is, not what it is."""
MISSING = "-"


def settings(config: TrainConfig) -> dict[str, Any]:
    """Every setting of a run by its dotted name, but for where it is written."""
    return flat({key: value for key, value in loading.to_dict(config).items() if key not in PLACE})


def changed(saved: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """What makes a run like the one whose config.yaml has these values, but for where it is written.

    Returns the words `env=<name> algo=<name>`, and every setting that is not what these alone give. Raises ConfigError where
    this version, as it is installed here, does not know such a run.
    """
    values = flat({key: value for key, value in saved.items() if key not in PLACE})
    names = {"env": values.pop("env.name", None), "algo": values.pop("algo.name", None)}
    words = [assignment(group, str(name)) for group, name in names.items()]
    default = _default(*words)
    return words, {key: value for key, value in values.items() if key not in default or default[key] != value}


@cache
def _default(*words: str) -> dict[str, Any]:
    return settings(loading.load(words))


def flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{path}.{key}" if path else str(key)
        found |= flat(value, name) if isinstance(value, Mapping) and value else {name: value}
    return found


def differences(of: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The keys whose values are not the same everywhere, with every value."""
    keys = dict.fromkeys(key for values in of.values() for key in values)
    table = {key: {name: values.get(key, MISSING) for name, values in of.items()} for key in keys}
    return {key: row for key, row in table.items() if any(value != next(iter(row.values())) for value in row.values())}
