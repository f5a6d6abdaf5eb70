"""Things by name (environments, methods, shapings, ...): register, list, find; plug-ins of other packages by entry point.

A registration may name a class as "module:attribute", so that listing names imports nothing.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Generic, TypeVar

from envs.common.plugins import entry_points_of
from envs.common.structured import suggestion

T = TypeVar("T")
K = TypeVar("K")


class UnknownName(LookupError):
    """Nothing is registered under this name. The message lists the names and the nearest one."""


class Registry(Generic[T]):
    """Entries by name.

    An entry point names a module that registers when it is imported, a function that registers when it is called or, if
    `classes`, a class that is registered under the point's name. If `lazy` it names a class that is imported when it is asked
    for, as one that imports torch should be.
    """

    def __init__(self, kind: str, group: str, classes: bool = True, lazy: bool = False, base: type | None = None) -> None:
        """kind: what an entry is called in messages; group: of the entry points; base: what every entry derives from."""
        self.kind, self.group, self._classes, self._lazy = kind, group, classes, lazy
        self._base = base
        self._known: dict[str, T | str] = {}
        self._aliases: dict[str, str] = {}
        self._broken: list[str] = []
        self._plugins_loaded = False

    def register(self, name: str, entry: T | str, alias: str | None = None) -> bool:
        """Add an entry, or "module:attribute"; returns whether it is new. A class that was defined again (a cell of a notebook
        ran again) replaces its earlier self. Raises ValueError if name or alias is taken by another one."""
        if isinstance(entry, str):
            checked_source(entry, f"{self.kind} '{name}'")
        elif self._stranger(entry):
            raise ValueError(self._strange(name, entry))
        for taken in (name, alias):
            other = self._name(taken)
            if other is not None and not (other == name and qualified(self._known[other]) == qualified(entry)):
                raise ValueError(f"{self.kind} '{taken}' is registered already ({self._known[other]}); choose another name")
        new = name not in self._known
        self._known[name] = entry
        if alias is not None:
            self._aliases[alias] = name
        return new

    def names(self) -> list[str]:
        """All names, plug-ins included, sorted."""
        self._load_plugins()
        return sorted(self._known)

    def get(self, name: str) -> T:
        """The entry with this name or alias. Raises UnknownName."""
        if self._name(name) is None:
            self._load_plugins()
        found = self._name(name)
        if found is None:
            known = sorted(self._known)
            near = suggestion(str(name).lower(), known)
            broken = f" Plug-ins that did not load: {', '.join(self._broken)}." if self._broken else ""
            raise UnknownName(f"no {self.kind} '{name}'; registered: {', '.join(known) or 'none'}.{near}{broken}")
        entry = self._known[found]
        if isinstance(entry, str):
            entry = self._known[found] = resolved(entry, f"{self.kind} '{found}'")
            if self._stranger(entry):
                raise ImportError(self._strange(found, entry))
        return entry

    def build(self: Registry[type[K]], name: str, settings: Mapping[str, Any]) -> K:
        """An instance of a dataclass with `settings` over its defaults. Raises UnknownName, ValueError (key or value)."""
        cls = self.get(name)
        allowed = sorted(field.name for field in fields(cls) if field.init)  # type: ignore[arg-type]
        for key in settings:
            if key not in allowed:
                raise ValueError(
                    f"{self.kind} '{name}' has no setting '{key}'; allowed: {', '.join(allowed)}.{suggestion(key, allowed)}"
                )
        return cls(**settings)

    def _stranger(self, entry: object) -> bool:
        return self._base is not None and not (isinstance(entry, type) and issubclass(entry, self._base))

    def _strange(self, name: str, entry: object) -> str:
        assert self._base is not None
        needed = f"{self._base.__module__}.{self._base.__qualname__}"
        return f"{self.kind} '{name}' is {entry}, which does not derive from {needed}"

    def _name(self, name: str | None) -> str | None:
        name = self._aliases.get(name or "", name)
        return name if name in self._known else None

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for point in sorted(entry_points_of(self.group), key=lambda point: (point.name, point.value)):
            try:
                if self._lazy and point.attr:
                    self.register(point.name, f"{point.module}:{point.attr}")
                    continue
                loaded = point.load()
                if self._classes and isinstance(loaded, type):
                    self.register(point.name, loaded)  # type: ignore[arg-type]
                elif callable(loaded):
                    loaded()
            except (Exception, SystemExit) as error:  # a stranger's code may fail in any way; the others must still load
                package = point.dist.name if point.dist else point.value
                reason = " ".join(str(error).split())
                self._broken.append(f"'{point.name}' of package '{package}' ({type(error).__name__}: {reason})")
                warnings.warn(f"{self.kind} plug-in left out: {self._broken[-1]}", RuntimeWarning, stacklevel=3)


def checked_source(source: str, what: str) -> None:
    """Raises ValueError for a text that is not "module:attribute"."""
    if source.count(":") != 1:
        raise ValueError(f"{what}: '{source}' is not of the form 'module:attribute'")


def resolved(source: str, what: str) -> Any:
    """What "module:attribute" names. Raises ImportError."""
    module, attribute = source.split(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise ImportError(f"{what} is registered as '{source}', but {module} has no '{attribute}'") from error


def qualified(entry: object) -> object:
    """A class as the "module:attribute" that names it; anything else as it is."""
    return f"{entry.__module__}:{entry.__qualname__}" if isinstance(entry, type) else entry
