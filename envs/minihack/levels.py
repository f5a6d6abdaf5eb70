"""Which levels of MiniHack can be played, by family; why others cannot; and levels of one's own, checked before play.

Names are MiniHack's ids without "MiniHack-" and the version: "KeyRoom-S5".
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

from envs.base import TaskError
from envs.common.files import regular
from envs.common.structured import suggestion
from envs.minihack.compiler import compile_level


class Level(NamedTuple):
    """What a game is made of: the name, and for a level of one's own its description in NetHack's language (des)."""

    name: str
    description: str | None = None


def _each(*parts: str) -> tuple[str, ...]:
    """All names that take one alternative of every part, in order; alternatives are separated by "|"."""
    return tuple("".join(chosen) for chosen in product(*(part.split("|") for part in parts)))


FAMILIES: dict[str, tuple[str, ...]] = {
    "room": _each("Room-", "|Random-|Dark-|Monster-|Trap-|Ultimate-", "5x5|15x15"),
    "corridor": _each("Corridor-", "R2|R3|R5"),
    "keyroom": _each("KeyRoom-", "Fixed-S5|S5|S15|Dark-S5|Dark-S15"),
    "river": _each("River", "-Narrow||-Monster|-Lava|-MonsterLava"),
    "mazewalk": _each("MazeWalk-", "|Mapped-", "9x9|15x15|45x19"),
    "quest": _each("Quest-", "Easy|Medium|Hard"),
    "skill": (
        *_each("Eat|Wear|Wield|Zap|Read|PutOn|Pray|Sink", "|-Fixed|-Distr"),
        *_each("LockedDoor", "|-Fixed"),
        "ClosedDoor",
        *_each("Levitate-", "Boots|Potion|Ring", "-Fixed|-Restricted|-Full"),
        "Levitate-Random-Full",
        *_each("Freeze-", "Wand|Horn|Random|Lava", "-Restricted|-Full"),
        *_each("LavaCross-", "|Levitate-|Levitate-Potion-Inv-|Levitate-Potion-Pickup-", "Restricted|Full"),
        *_each("LavaCross-Levitate-Ring-", "Inv|Pickup", "-Restricted|-Full"),
        *_each("WoD-", "Easy|Medium|Hard|Pro", "-Restricted|-Full"),
    ),
    "battle": _each("CorridorBattle", "|-Dark"),
    "hidenseek": _each("HideNSeek", "|-Mapped|-Lava|-Big"),
    "exploremaze": _each("ExploreMaze-", "Easy|Hard", "|-Mapped"),
    "labyrinth": _each("Labyrinth-", "Small|Big"),
    "memento": _each("Memento-", "Short-F2|F2|F4"),
    "sokoban": _each("Sokoban", "1|2|3|4", "a|b"),
}
"""Levels by family; a split may be made of several."""
SUPPORTED = tuple(name for names in FAMILIES.values() for name in names)
_MINIGRID = "its maps come from minigrid, and MiniHack 1.0.2 cannot seed them: its seed() calls a method that minigrid lacks"
UNSUPPORTED: dict[str, str] = {
    "MultiRoom-*": _MINIGRID,
    "LavaCrossing*": _MINIGRID,
    "SimpleCrossing*": _MINIGRID,
    "Boxoban-*": "its maps are a download of MiniHack's own script and are drawn from unseeded randomness",
    "*-Custom": "it is an empty frame for a level of one's own: name a des file in env.custom",
}
"""Patterns of what MiniHack also registers, and why it cannot be played."""


def chosen(patterns: Iterable[str], custom: Mapping[str, str]) -> tuple[Level, ...]:
    """The levels that names, patterns ("Room-*") and families ("quest") mean, each once, in that order; `custom` levels are
    known by their names. Raises TaskError for one that means none, and for a custom level that is not named or that NetHack
    does not take."""
    for name in custom:
        if not name or set("/*?[]") & set(name) or name in SUPPORTED or name in FAMILIES:
            raise TaskError(f"custom level '{name}': choose a name without / * ? [ ] that no level or family of MiniHack has")
    known = (*SUPPORTED, *custom)
    found: dict[str, None] = {}
    for pattern in patterns:
        names = FAMILIES.get(pattern) or tuple(name for name in known if fnmatchcase(name, pattern))
        if not names:
            raise TaskError(_unknown(pattern, known))
        found |= dict.fromkeys(names)
    if unused := [name for name in custom if name not in found]:
        raise TaskError(f"custom level '{unused[0]}' is played by nobody: name it in levels too, env.levels=[{unused[0]}]")
    if not found:
        raise TaskError(f"levels is empty; give names of levels, patterns, or families: {', '.join(FAMILIES)}")
    return tuple(Level(name, _description(name, custom[name]) if name in custom else None) for name in found)


def family(level: str) -> str:
    """The family of a level; "custom" for one of one's own."""
    return next((family for family, names in FAMILIES.items() if level in names), "custom")


def _unknown(pattern: str, known: Iterable[str]) -> str:
    for unsupported, reason in UNSUPPORTED.items():
        if fnmatchcase(pattern, unsupported) or fnmatchcase(unsupported.rstrip("*-"), pattern.rstrip("*-")):
            return f"level '{pattern}' is not supported: {reason}"
    hint = suggestion(pattern, [*known, *FAMILIES])
    return f"there is no level '{pattern}'.{hint} Allowed: names, patterns like 'Room-*', families: {', '.join(FAMILIES)}"


def _description(name: str, file: str) -> str:
    """The text of a des file that NetHack's compiler takes. Raises TaskError with what the compiler says.

    MiniHack itself plays a blank map where the compiler finds an error, and what is not called "mylevel" is not the level.
    """
    try:
        text = regular(Path(file).expanduser()).read_text(encoding="latin-1")
    except OSError as error:
        raise TaskError(f"custom level '{name}': cannot read {file}: {error.strerror}") from error
    said = _compile(text)
    if said is not None:
        raise TaskError(f"custom level '{name}': NetHack's level compiler does not take {file}:\n{said}")
    return text


@lru_cache(maxsize=64)
def _compile(text: str) -> str | None:
    """None if NetHack's compiler makes the level "mylevel" of a des file; else what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        return compile_level(text, Path(folder))
