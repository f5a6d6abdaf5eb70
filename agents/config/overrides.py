"""Words of the command line: how `key=value` is read, and how one is written so that it is read as it is meant."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from envs.common.structured import ConfigError

PLACES = ("run", "resume", "out")
"""Keys whose values are names of files and folders, and count as they stand unless they are quoted."""
ASSIGNMENT = re.compile(r"(?P<key>\+{0,2}[A-Za-z_][\w./@-]*)=(?P<value>.*)", re.DOTALL)


def read(line: str) -> Override:
    """One override as Hydra's grammar reads it, of one value or several (`seed=0,1`). Raises ConfigError.

    A value that the grammar cannot read (`model.name=josé/model`, `out=runs(2)`) is the text that it is, and so is whatever
    names a place (`run=007`, `out=[a,b]`), except for null; `~/` is the home folder, as it is for shells that read it.
    """
    parser, match = OverridesParser.create(), ASSIGNMENT.fullmatch(line)
    key, text = match.groups() if match else ("", "")
    place = key.lstrip("+") in PLACES
    try:
        override = parser.parse_override(line)
        in_quotes = text.strip().startswith(("'", '"')) and not override.is_sweep_override()
        if not place or in_quotes or override.value() in (None, text):
            return override
    except HydraException as exc:
        if not match:
            raise ConfigError(f"cannot read '{line}': write key=value, for example optim.lr=1e-4") from exc
    if place and text.startswith("~/"):
        text = str(Path.home() / text[2:])
    return parser.parse_override(f"{key}={quoted(text)}")


def assignment(key: str, value: str | Path) -> str:
    """The override that gives `key` exactly this text, whatever characters it holds."""
    text = str(value)
    if re.fullmatch(r"[A-Za-z0-9_./-]+", text):
        plain = OverridesParser.create().parse_override(f"{key}={text}")
        if plain.value() == text:
            return f"{key}={text}"
    return f"{key}={quoted(text)}"


def override(key: str, value: Any) -> str:
    """The override that gives `key` this plain value."""
    return assignment(key, value) if isinstance(value, str) else f"{key}={_typed(value)}"


def _typed(value: Any) -> str:
    """A plain value in the grammar."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_typed, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_typed(str(name))}:{_typed(one)}' for name, one in value.items())}}}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def command_line(module: str, *words: str) -> str:
    """What a user types at a shell to start `module` with these arguments."""
    return shlex.join(["python", *["-P"] * sys.flags.safe_path, "-m", module, *words])


def quoted(text: str) -> str:
    """Text as one word of the grammar."""
    word: str = QuotedString(text, Quote.single).with_quotes()
    return word


def parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides of one value each. Raises ConfigError."""
    parsed = []
    for line in overrides:
        override = read(line)
        if override.is_sweep_override():
            raise ConfigError(
                f"'{line}' names several values; add --multirun to run them one after another, or quote what is one: "
                f"{shlex.quote(assignment(*line.split('=', 1)))}"
            )
        parsed.append(override)
    return parsed
