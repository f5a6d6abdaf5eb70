"""Small trained models that come with this package, by name: model.name=zoo/alfworld-tiny."""

from __future__ import annotations

from pathlib import Path

from envs.common.structured import suggestion

FOLDER = Path(__file__).resolve().parents[1] / "zoo"
PREFIX = "zoo/"


def names() -> list[str]:
    """Of all models that are there."""
    return sorted(f"{PREFIX}{file.parent.name}" for file in FOLDER.glob("*/config.json"))


def place(name: str) -> str:
    """The folder of a zoo model; any other name as it is. Raises ValueError for one that the zoo lacks."""
    if not name.startswith(PREFIX):
        return name
    if name not in names():
        raise ValueError(f"the zoo has no '{name}'.{suggestion(name, names())} Allowed: {', '.join(names())}")
    return str(FOLDER / name.removeprefix(PREFIX))
