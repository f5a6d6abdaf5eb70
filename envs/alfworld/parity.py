"""Compares an engine with what another one did: recorded transcripts, walkthroughs, and side by side on random play.

Reads games from a folder or from `.tar.xz` archives in the official layout (`<split>/<task>/<trial>/game.tw-pddl`).
Tables and exit codes are left to `scripts/check_parity.py`.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from envs.alfworld.engine import Engine
from envs.alfworld.game import GAME_FILE
from envs.alfworld.textworld_backend import TextWorldEngine
from envs.base import TaskError


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not equal, and where."""

    game: str
    step: int
    """0 is the reset."""
    command: str | None
    field: str
    expected: object
    found: object

    def __str__(self) -> str:
        expected, found = self.expected, self.found
        if isinstance(expected, list) and isinstance(found, list):  # of long lists only what is not shared
            if sorted(expected) != sorted(found):
                expected = [x for x in self.expected if x not in found]  # type: ignore[attr-defined]
                found = [x for x in self.found if x not in self.expected]  # type: ignore[attr-defined, operator]
            else:
                expected, found = "another order", found[:3]
        return f"{self.game} step {self.step} ({self.command!r}): {self.field} should be {expected!r}, is {found!r}"


@dataclass(frozen=True, slots=True)
class Transcript:
    """What an engine answered in one episode; the first step is the reset, with command None."""

    game: str
    steps: list[dict[str, Any]]
    """action, observation, admissible, won."""


def read_transcripts(path: Path) -> list[Transcript]:
    """Read JSONL (`.gz` or not) with a transcript a line. Raises TaskError with file and line."""
    opened = gzip.open if path.suffix == ".gz" else open
    transcripts = []
    try:
        with opened(path, "rb") as lines:
            for line in lines:
                entry = orjson.loads(line)
                steps = [{key: step[key] for key in ("action", "observation", "admissible", "won")} for step in entry["steps"]]
                transcripts.append(Transcript(entry["game"], steps))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise TaskError(f"{path}, line {len(transcripts) + 1}: not a transcript ({type(error).__name__}: {error})") from None
    if not transcripts:
        raise TaskError(f"{path}: holds no transcript")
    return transcripts


def read_games(path: Path, only: frozenset[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """(name, contents) of games under a folder, in it packed as `.tar.xz`, or in one such archive; `only` these names.

    Raises TaskError if there is none.
    """
    if path.is_dir():
        folders = sorted(path.glob(f"*/*/*/{GAME_FILE}"))
        found = ((file.relative_to(path).as_posix(), file.read_bytes) for file in folders)
        if folders:
            yield from ((name, read()) for name, read in found if only is None or name in only)
            return
    archives = sorted(path.glob("*.tar.xz")) if path.is_dir() else [path]
    if not archives or not all(archive.is_file() for archive in archives):
        raise TaskError(f"{path}: neither a folder of <split>/<task>/<trial>/{GAME_FILE} nor a .tar.xz of one")
    for archive in archives:
        try:
            with tarfile.open(archive, "r|xz") as members:  # a stream: nothing is written to disk, no name is trusted
                for member in members:
                    name = "/".join(Path(member.name).parts[-4:])
                    if member.isfile() and name.endswith(GAME_FILE) and (only is None or name in only):
                        file = members.extractfile(member)
                        assert file is not None
                        yield name, file.read()
        except (tarfile.TarError, OSError, EOFError) as error:
            raise TaskError(f"{archive}: cannot be read to its end ({error})") from None


def replay(engine: Engine, transcript: Transcript) -> Iterator[Difference]:
    """Play the commands of a transcript and yield what differs in observation, commands, won, validity."""
    admissible: Sequence[str] = ()
    for number, step in enumerate(transcript.steps):
        command = step["action"]
        observation, valid = (engine.reset(), True) if command is None else engine.step(command)
        pairs: dict[str, tuple[object, object]] = {
            "observation": (step["observation"], observation),
            "admissible": (step["admissible"], engine.admissible),
            "won": (step["won"], engine.won),
        }
        if command is not None:
            pairs["valid"] = (command.strip() in admissible, valid)
        for field, (expected, found) in pairs.items():
            if expected != found:
                yield Difference(transcript.game, number, command, field, expected, found)
        admissible = step["admissible"]


def wins_by_walkthrough(engine: Engine) -> bool:
    """Whether the game's own walkthrough wins it, and no sooner than with its last command."""
    engine.reset()
    commands = engine.game.walkthrough
    for command in commands:
        if engine.won or not engine.step(command)[1]:
            return False
    return engine.won


def record(engine: Engine | TextWorldEngine, name: str, rng: np.random.Generator, steps: int) -> Transcript:
    """Write down all answers to random commands, some impossible and rare kinds favored, and then to the walkthrough's."""
    entries: list[dict[str, Any]] = []
    seen: set[str] = set()

    def note(command: str | None, observation: str) -> None:
        seen.update(engine.admissible)
        entries.append(
            {"action": command, "observation": observation, "admissible": list(engine.admissible), "won": engine.won}
        )

    note(None, engine.reset())
    for _ in range(steps):
        command = _random_command(rng, engine.admissible, sorted(seen))
        note(command, engine.step(command)[0])
    for command in engine.game.walkthrough:
        note(command, engine.step(command)[0])
    return Transcript(name, entries)


def _random_command(rng: np.random.Generator, admissible: Sequence[str], seen: Sequence[str]) -> str:
    draw = rng.random()
    if draw < 0.05:
        return str(rng.choice(["", "go to", "look around", "take", "open fridge", "Look", "go to  bed 1", "examine nothing 1"]))
    if draw < 0.15:
        return seen[int(rng.integers(len(seen)))]  # often impossible now
    if draw < 0.18:
        return f"  {rng.choice(list(admissible))} "
    kinds = [kind for kind in _KINDS if any(command.startswith(kind) for command in admissible)]
    weights = np.array([_KINDS[kind] for kind in kinds], dtype=float)
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    choices = [command for command in admissible if command.startswith(kind)]
    return choices[int(rng.integers(len(choices)))]


_KINDS = {
    "go to": 10.0,
    "open": 8.0,
    "slice": 8.0,
    "take": 6.0,
    "clean": 6.0,
    "heat": 6.0,
    "cool": 6.0,
    "use": 4.0,
    "move": 3.0,
    "close": 2.0,
    "examine": 2.0,
    "look": 2.0,
    "inventory": 1.0,
    "help": 0.3,
}
"""How often a random player picks each kind of command."""
