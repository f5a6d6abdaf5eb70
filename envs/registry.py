"""The list of environments: register, find and make one by name or gymnasium id; plug-ins of other packages.

A registration may name its classes as "module:attribute"; nothing is imported before it is used. A package adds environments
with an entry point in the group `stepcredit.envs` that names a module (imported) or a function (called) which registers.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import entry_points
from typing import Any

import gymnasium

from envs.base import TextEnv
from envs.common.structured import build, suggestion
from envs.prompt import Prompt

GROUP = "stepcredit.envs"


class UnknownEnvironment(LookupError):
    """No environment has this name or id. The message lists the names and the nearest one."""


@dataclass(frozen=True)
class EnvSpec:
    """What is registered under a name; the three classes are imported when they are first asked for."""

    name: str
    id: str
    """gymnasium id, `namespace/Name-v0`."""
    sources: tuple[str | type, str | type, str | type]
    """Environment, configuration and prompt, as classes or as "module:attribute"."""

    @cached_property
    def env(self) -> type[TextEnv]:
        """The environment's class; its constructor takes an instance of `config` and nothing else."""
        return _resolve(self.name, self.sources[0])

    @cached_property
    def config(self) -> type[Any]:
        """The dataclass of its configuration."""
        return _resolve(self.name, self.sources[1])

    @cached_property
    def prompt(self) -> type[Prompt]:
        """The class of its texts for a model."""
        return _resolve(self.name, self.sources[2])


_specs: dict[str, EnvSpec] = {}
_broken: dict[str, str] = {}
_plugins_loaded = False


def register(name: str, id: str, env: str | type, config: str | type, prompt: str | type = Prompt) -> None:
    """Add an environment under `name` and as gymnasium `id`. Raises ValueError if either is taken by another one."""
    spec = EnvSpec(name, id, (env, config, prompt))
    for part in spec.sources:
        if isinstance(part, str) and part.count(":") != 1:
            raise ValueError(f"environment '{name}': '{part}' is not of the form 'module:attribute'")
    for other in _specs.values():
        if other == spec:
            return
        if name == other.name or id == other.id:
            raise ValueError(f"environment '{name}' ({id}) clashes with '{other.name}' ({other.id}); choose another one")
    _specs[name] = spec
    # The environment counts its own steps and refuses a step after the end, so gymnasium's wrappers would only cost time.
    gymnasium.register(id, entry_point=partial(make, name), disable_env_checker=True, order_enforce=False)


def make(name: str, **config: Any) -> TextEnv:
    """The environment `name` (or gymnasium id) with `config` over its defaults. Raises UnknownEnvironment, ConfigError."""
    found = spec(name)
    return found.env(build(found.config, config, found.name))


def spec(name: str) -> EnvSpec:
    """What is registered under `name` (or gymnasium id). Raises UnknownEnvironment."""
    found = _find(name)
    if found is None:
        load_plugins()
        found = _find(name)
    if found is None:
        known = sorted(_specs)
        broken = f" Plug-ins that did not load: {', '.join(_broken.values())}." if _broken else ""
        raise UnknownEnvironment(
            f"no environment '{name}'; registered: {', '.join(known) or 'none'}.{suggestion(name.lower(), known)}{broken}"
        )
    return found


def names() -> list[str]:
    """Names of all environments, plug-ins included, sorted."""
    load_plugins()
    return sorted(_specs)


def load_plugins() -> None:
    """Load the entry points of group `stepcredit.envs` once; a broken one is a warning and leaves the others alone."""
    global _plugins_loaded
    if _plugins_loaded:
        return
    _plugins_loaded = True
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        try:
            loaded = point.load()
            if callable(loaded):
                loaded()
        except (Exception, SystemExit) as error:  # a stranger's code may fail in any way; the others must still load
            package = point.dist.name if point.dist else point.value
            reason = " ".join(str(error).split())
            _broken[point.name] = f"'{point.name}' of package '{package}' ({type(error).__name__}: {reason})"
            warnings.warn(f"environment plug-in left out: {_broken[point.name]}", RuntimeWarning, stacklevel=2)


def _find(name: str) -> EnvSpec | None:
    return _specs.get(name) or next((spec for spec in _specs.values() if spec.id == name), None)


def _resolve(name: str, source: str | type) -> Any:
    if not isinstance(source, str):
        return source
    module, attribute = source.split(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise ImportError(f"environment '{name}' is registered as '{source}', but {module} has no '{attribute}'") from error
