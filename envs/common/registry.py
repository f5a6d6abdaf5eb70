"""Names of methods and shapings: register, list, find; plug-ins of other packages through entry points.

A registration may name its class as "module:attribute", so that listing names imports nothing.
"""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class UnknownName(LookupError):
    """Nothing is registered under this name. The message lists the names and the nearest one."""


class Registry(Generic[T]):
    """Dataclasses by name. An entry point names a class (registered under the point's name) or a module that registers."""

    def __init__(self, kind: str, group: str) -> None:
        self.kind, self.group = kind, group
        self._known: dict[str, type[T] | str] = {}
        self._broken: dict[str, str] = {}
        self._plugins_loaded = False

    def register(self, name: str, source: type[T] | str) -> None:
        """Add a class, or "module:attribute". Raises ValueError if the name is taken by another one."""
        if isinstance(source, str) and source.count(":") != 1:
            raise ValueError(f"{self.kind} '{name}': '{source}' is not of the form 'module:attribute'")
        if self._known.setdefault(name, source) != source:
            raise ValueError(f"{self.kind} '{name}' is registered already ({self._known[name]}); choose another name")

    def names(self) -> list[str]:
        """All names, plug-ins included, sorted."""
        self._load_plugins()
        return sorted(self._known)

    def get(self, name: str) -> type[T]:
        """The class registered as `name`. Raises UnknownName."""
        if name not in self._known:
            self._load_plugins()
        if name not in self._known:
            near = difflib.get_close_matches(str(name), self._known, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            broken = f"; plug-ins that did not load: {', '.join(self._broken.values())}" if self._broken else ""
            raise UnknownName(f"no {self.kind} '{name}'; registered: {', '.join(sorted(self._known)) or 'none'}{hint}{broken}")
        source = self._known[name]
        if isinstance(source, str):
            module, attribute = source.split(":")
            source = self._known[name] = getattr(importlib.import_module(module), attribute)
        return source

    def build(self, name: str, settings: Mapping[str, Any]) -> T:
        """An instance with `settings` over its defaults. Raises UnknownName, ValueError (unknown key, value not allowed)."""
        cls = self.get(name)
        allowed = [field.name for field in fields(cls) if field.init]  # type: ignore[arg-type]
        for key in settings:
            if key not in allowed:
                near = difflib.get_close_matches(str(key), allowed, 1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise ValueError(f"{self.kind} '{name}' has no setting '{key}'; allowed: {', '.join(sorted(allowed))}{hint}")
        return cls(**settings)

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for point in sorted(entry_points(group=self.group), key=lambda point: (point.name, point.value)):
            try:
                loaded = point.load()
                if isinstance(loaded, type):
                    self.register(point.name, loaded)
            except Exception as error:  # a stranger's code may fail in any way; the others must still load
                package = point.dist.name if point.dist else point.value
                reason = " ".join(str(error).split())
                self._broken[point.name] = f"'{point.name}' of package '{package}' ({type(error).__name__}: {reason})"
                warnings.warn(f"{self.kind} plug-in left out: {self._broken[point.name]}", RuntimeWarning, stacklevel=3)
