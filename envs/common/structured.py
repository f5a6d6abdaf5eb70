"""Strict building of dataclasses from plain mappings: every unknown key, wrong type or value out of range is an error with
the key's full name, what is allowed, and the nearest match. Serves the keywords of `envs.make` and the YAML files of `agents`,
and knows neither: what may be set is said by the dataclasses, where values come from by the caller.
"""

from __future__ import annotations

import difflib
import operator
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class ConfigError(ValueError):
    """The configuration cannot be run. The message names the key, what is allowed, and the nearest match."""


class Interpolated(str):
    """A text that was written as an interpolation (`${oc.env:TOKEN}`): what it stands for. `raw`: what was written.

    It may be a secret, so that messages (`{value!r}`), files and services get what was written.
    """

    raw: str

    def __new__(cls, value: str, raw: str = "") -> Interpolated:
        made = super().__new__(cls, value)
        made.raw = raw
        return made

    def __repr__(self) -> str:
        return repr(self.raw)


@dataclass(frozen=True)
class Bound:
    """A limit of numbers, for a field's type: Annotated[float, AtLeast(0)]. Of a list, every item keeps to it."""

    bound: float
    words: ClassVar[str]
    compare: ClassVar[Callable[[float, float], bool]]

    def __str__(self) -> str:
        return f"{self.words} {self.bound:g}"

    def holds(self, value: float) -> bool:
        """Whether `value` keeps to it."""
        return type(self).compare(value, self.bound)


class AtLeast(Bound):
    """Lower bound, included."""

    words = "at least"
    compare = operator.ge


class MoreThan(Bound):
    """Lower bound, excluded."""

    words = "more than"
    compare = operator.gt


class AtMost(Bound):
    """Upper bound, included."""

    words = "at most"
    compare = operator.le


@dataclass(frozen=True)
class OneOf:
    """A choice among registered names, for a field's type: Annotated[str, OneOf(names)]; plug-ins may add to them."""

    names: Callable[[], Sequence[str]]

    def __str__(self) -> str:
        return f"one of {', '.join(self.names())}"


Positive = Annotated[int, AtLeast(1)]
Natural = Annotated[int, AtLeast(0)]
Fraction = Annotated[float, AtLeast(0), AtMost(1)]
NonNegative = Annotated[float, AtLeast(0)]
AboveZero = Annotated[float, MoreThan(0)]


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The most similar of `words`, or None if none is similar."""
    found = difflib.get_close_matches(str(word), list(words), n=1, cutoff=0.6)
    return found[0] if found else None


def suggestion(word: str, words: Iterable[str]) -> str:
    """' Did you mean X?' or nothing."""
    match = nearest(word, words)
    return f" Did you mean '{match}'?" if match else ""


def not_among(name: str, value: Any, allowed: Iterable[Any]) -> ConfigError:
    """The error for a choice that does not exist."""
    words = [str(one) for one in allowed]
    return ConfigError(f"{name} is {value!r}; allowed: {', '.join(words)}.{suggestion(str(value), words)}")


def build(cls: type[T], values: Any, path: str = "") -> T:
    """An instance of the dataclass `cls` from a mapping; `path` is the dotted name of the mapping. Raises ConfigError."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or 'the configuration'} is {values!r}; it must have keys: {', '.join(keys(cls))}")
    hints = get_type_hints(cls, include_extras=True)
    for key in values:
        if key not in keys(cls):
            raise unknown_key(_join(path, str(key)), keys(cls))
    built: dict[str, Any] = {}
    for field in fields(cls):  # type: ignore[arg-type]
        if not field.init:
            continue
        name = _join(path, field.name)
        if field.name in values:
            built[field.name] = convert(hints[field.name], values[field.name], name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{name} has no value; set it, for example {name}=<{describe(hints[field.name])}>")
    try:
        return cls(**built)
    except ValueError as exc:
        raise ConfigError(f"{path or 'configuration'}: {exc}") from exc


def check(settings: Any) -> None:
    """Raises ConfigError for a field of a dataclass whose value its annotation does not allow: type, choice or range."""
    hints = get_type_hints(type(settings), include_extras=True)
    for name in keys(type(settings)):
        convert(hints[name], getattr(settings, name), name)


def keys(cls: type) -> list[str]:
    """Names of the fields that may be set."""
    return [field.name for field in fields(cls) if field.init]


def paths(cls: type, path: str = "") -> list[str]:
    """Dotted names of every field, sections' own fields included."""
    found = []
    for name, hint in get_type_hints(cls).items():
        if name in keys(cls):
            found.append(_join(path, name))
            if is_dataclass(hint) and isinstance(hint, type):
                found += paths(hint, found[-1])
    return found


def unknown_key(name: str, allowed: Iterable[str], also: Sequence[str] = ()) -> ConfigError:
    """The error for a key that does not exist; `also` are full names that the user may have meant."""
    parent, _, last = name.rpartition(".")
    allowed = list(allowed)
    match = nearest(last, allowed)
    meant = list(also) or ([_join(parent, match)] if match else [])
    hint = f" Did you mean {' or '.join(repr(one) for one in meant)}?" if meant else ""
    where = f"keys of {parent}" if parent else "keys"
    return ConfigError(f"unknown key '{name}'.{hint}\n{where}: {', '.join(sorted(allowed)) or '(none)'}")


def convert(hint: Any, value: Any, name: str) -> Any:
    """`value` as the type `hint`, or ConfigError naming `name`."""
    origin = get_origin(hint)
    if origin is Annotated:
        hint, *rules = get_args(hint)
        converted = convert(hint, value, name)
        for rule in rules:
            if isinstance(rule, Bound) and converted is not None and not _holds(rule, converted):
                raise ConfigError(f"{name} is {value!r}; it must be {rule}")
            if isinstance(rule, OneOf) and converted not in rule.names():
                raise not_among(name, value, rule.names())
        return converted
    if isinstance(value, str) and value == "???":
        raise ConfigError(f"{name} has no value; set it, for example {name}=<{describe(hint)}>")
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _union(hint, value, name)
    if origin is Literal:
        allowed = get_args(hint)
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise not_among(name, value, allowed)
        return value
    if is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else build(hint, value, name)
    kind = origin or hint
    if kind in (list, tuple):
        return _sequence(hint, value, name)
    if kind is dict:
        if not isinstance(value, Mapping):
            raise _wrong(hint, value, name)
        item = get_args(hint)[1] if origin else Any
        return {str(key): convert(item, one, f"{name}.{key}") for key, one in value.items()}
    return _scalar(hint, value, name)


def _union(hint: Any, value: Any, name: str) -> Any:
    options = get_args(hint)
    if value is None:
        if type(None) in options:
            return None
        raise _wrong(hint, value, name)
    options = tuple(option for option in options if option is not type(None))
    errors = []
    for option in options:
        try:
            return convert(option, value, name)
        except ConfigError as exc:
            errors.append(exc)
    if len(errors) == 1:
        raise errors[0]
    raise _wrong(hint, value, name)


def _sequence(hint: Any, value: Any, name: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _wrong(hint, value, name)
    kind, items = get_origin(hint) or hint, get_args(hint) or (Any, ...)
    if kind is list or items[-1] is Ellipsis:
        items = (items[0],) * len(value)
    elif len(value) != len(items):
        raise ConfigError(f"{name} has {len(value)} values; it must have {len(items)}")
    return kind(convert(item, one, f"{name}[{i}]") for i, (item, one) in enumerate(zip(items, value)))


def _scalar(hint: Any, value: Any, name: str) -> Any:
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
        return float(value)
    # A name that looks like a number (run=7) is a name all the same.
    if hint is str and isinstance(value, (str, int)) and not isinstance(value, bool):
        return value if isinstance(value, str) else str(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    # Everything else is taken as it is: bool, and classes that only Python code can give a value of.
    if hint not in (int, float, str) and isinstance(hint, type) and isinstance(value, hint):
        return value
    raise _wrong(hint, value, name)


def _wrong(hint: Any, value: Any, name: str) -> ConfigError:
    kind = "nothing (null)" if value is None else f"{value!r} ({type(value).__name__})"
    return ConfigError(f"{name} is {kind}; it must be {describe(hint)}")


def _holds(rule: Bound, value: Any) -> bool:
    return all(rule.holds(one) for one in (value if isinstance(value, (list, tuple)) else [value]))


def describe(hint: Any) -> str:
    """A type in words."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *rules = get_args(hint)
        if choice := next((rule for rule in rules if isinstance(rule, OneOf)), None):
            return str(choice)
        return " ".join([describe(inner), *(str(rule) for rule in rules if isinstance(rule, Bound))])
    if origin in (Union, types.UnionType):
        return " or ".join("null" if option is type(None) else describe(option) for option in get_args(hint))
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if (origin or hint) in (list, tuple):
        items = dict.fromkeys(describe(item) for item in get_args(hint) or (Any,) if item is not Ellipsis)
        return f"a list of {' and '.join(items)} in brackets"
    if is_dataclass(hint) and isinstance(hint, type):
        return f"a section with keys {', '.join(keys(hint))}"
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path", Any: "anything"}
    if (origin or hint) is dict:
        return "a section"
    return words.get(hint, hint.__name__ if isinstance(hint, type) else str(hint))


def plain(value: Any) -> Any:
    """Dataclasses, tuples and paths as dicts, lists and strings: what YAML and JSON can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.init}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
