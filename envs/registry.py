"""The list of environments: register, find and make one by name or gymnasium id; plug-ins of other packages.

A registration may name its classes as "module:attribute"; nothing is imported before it is used. A package adds environments
with an entry point in the group `stepcredit.envs` that names a module (imported) or a function (called) which registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import gymnasium

from envs.base import TextEnv
from envs.common.registry import Registry, UnknownName, checked_source, qualified, resolved
from envs.common.structured import build
from envs.prompt import Prompt

UnknownEnvironment = UnknownName


@dataclass(frozen=True, eq=False)
class EnvSpec:
    """What is registered under a name; the three classes are imported when they are first asked for."""

    name: str
    id: str
    """gymnasium id, `namespace/Name-v0`."""
    sources: tuple[str | type, str | type, str | type]
    """Environment, configuration and prompt, as classes or as "module:attribute"."""

    def __eq__(self, other: object) -> bool:
        """Equal if name, id and the names of all classes are: one that a notebook defines again is the same."""
        if not isinstance(other, EnvSpec):
            return NotImplemented
        mine, theirs = ((one.name, one.id, *map(qualified, one.sources)) for one in (self, other))
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def env(self) -> type[TextEnv]:
        """The environment's class; its constructor takes an instance of `config` and nothing else."""
        return self._class(0)

    @cached_property
    def config(self) -> type[Any]:
        """The dataclass of its configuration."""
        return self._class(1)

    @cached_property
    def prompt(self) -> type[Prompt]:
        """The class of its texts for a model."""
        return self._class(2)

    def _class(self, number: int) -> Any:
        source = self.sources[number]
        return resolved(source, f"environment '{self.name}'") if isinstance(source, str) else source


_registry: Registry[EnvSpec] = Registry("environment", "stepcredit.envs", classes=False)
names = _registry.names


def register(name: str, id: str, env: str | type, config: str | type, prompt: str | type = Prompt) -> None:
    """Add an environment under `name` and as gymnasium `id`. Classes that were defined again replace their earlier selves.

    Raises ValueError if name or id is taken by another one.
    """
    spec = EnvSpec(name, id, (env, config, prompt))
    for part in spec.sources:
        if isinstance(part, str):
            checked_source(part, f"environment '{name}'")
    if _registry.register(name, spec, alias=id):
        # The environment counts its own steps and refuses a step after the end: gymnasium's wrappers would only cost time.
        gymnasium.register(id, entry_point=partial(make, name), disable_env_checker=True, order_enforce=False)


def make(name: str, **config: Any) -> TextEnv:
    """The environment `name` (or gymnasium id) with `config` over its defaults. Raises UnknownEnvironment, ConfigError."""
    found = spec(name)
    return found.env(build(found.config, config, found.name))


def spec(name: str) -> EnvSpec:
    """What is registered under `name` (or gymnasium id). Raises UnknownEnvironment."""
    return _registry.get(name)
