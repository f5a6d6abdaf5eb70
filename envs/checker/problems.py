"""What a check found: each problem with what to do about it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """What breaks the contract, and what to do about it."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}\n    -> {self.fix}"


class Problems:
    """Those found so far; each kind is told once, with the first place where it occurred."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, what: str, fix: str) -> None:
        if fix not in {problem.fix for problem in self.found}:
            self.found.append(Problem(what, fix))

    @contextmanager
    def on(self, what: str, fix: str) -> Iterator[None]:
        """An exception inside is a problem."""
        try:
            yield
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            self.add(f"{what}: {type(error).__name__}: {error} ({place.filename}, line {place.lineno})", fix)


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:60]} ... {text[-30:]}"
