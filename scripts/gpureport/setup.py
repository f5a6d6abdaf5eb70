"""Where and how a line of the report is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Note = Callable[[dict[str, Any]], None]
"""Takes figures as they come: a line that is stopped keeps what it has so far."""


@dataclass(frozen=True)
class Setup:
    """Where and how a line is measured."""

    device: str
    work: Path
    """Folder for models and runs, which all lines share."""
    settings: Sequence[str] = ()
    """Further settings of the recipe."""

    @property
    def small(self) -> bool:
        """Without a card the lines are only rehearsed."""
        return self.device == "cpu"
