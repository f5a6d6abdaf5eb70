"""Splits of ALFWorld tasks: which games train, evaluate and test, by ids that mean the same game on every machine.

Generated games are named `size/split/type/number`, and the id alone is the seed. Official ones are named by their path,
`valid_seen/pick_.../trial_...`. Splits are lists in a fixed order, never what a file system or a worker happens to see first.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from envs.alfworld import catalogue
from envs.alfworld.config import ALFWorldConfig
from envs.alfworld.game import GAME_FILE, Game, load_game, parse_game, read_bytes, read_json
from envs.alfworld.generator import VERSION, game_data, package_text
from envs.alfworld.goals import TASK_TYPES, TaskType
from envs.alfworld.household import SIZES, Household, Size, household
from envs.base import SPLITS, Split, TaskError
from envs.common.seeding import generator

ROOT_SEED = 0
GENERATED_GAMES: dict[Split, int] = {"train": 1200, "eval": 120, "test": 120}
"""How many generated games a split has unless the configuration says otherwise. Numbers beyond a split's end are games too."""
OFFICIAL_FOLDERS: dict[Split, str] = {"train": "train", "eval": "valid_seen", "test": "valid_unseen"}

_GENERATED_ID = re.compile(rf"({'|'.join(SIZES)})/({'|'.join(SPLITS)})/({'|'.join(TASK_TYPES)})/(\d{{6}})")
_SHARES: tuple[Split, ...] = ("train", "train", "eval", "test")
_HOW_TO_GET = (
    "get them with `pip install alfworld && alfworld-download` and set ALFWORLD_DATA (or env.data) to the folder that holds "
    "json_2.1.1/<split>/<task>/<trial>/game.tw-pddl; env.source=generated needs no data"
)


def split_tasks(config: ALFWorldConfig, split: Split) -> tuple[str, ...]:
    """The ids of a split's tasks in a fixed order. Raises TaskError if official games are asked for and not there."""
    if split not in SPLITS:
        raise TaskError(f"split is '{split}'; allowed: {', '.join(SPLITS)}")
    count = {"train": config.train_games, "eval": config.eval_games, "test": config.test_games}[split]
    if config.source == "generated":
        return _generated_split(config.size, split, GENERATED_GAMES[split] if count is None else count)
    return _official_split(_data_root(config), split, count)


def split_hash(config: ALFWorldConfig, split: Split) -> str:
    """16 hex digits: equal hashes mean equal games in equal order. Official games are read for it, 90 KB each."""
    ids = split_tasks(config, split)
    return _digest([_tables(), *ids]) if config.source == "generated" else _official_hash(_data_root(config), ids)


def load(config: ALFWorldConfig, task_id: str) -> Game:
    """The game that an id names; games are kept in memory. Raises TaskError if there is none or its file is broken."""
    if config.source == "generated":
        return _generated_game(task_id)
    return _official_game(_data_root(config), task_id)


def contents(config: ALFWorldConfig, task_id: str) -> dict[str, Any]:
    """What stands in the game's file, for the official engine. Raises TaskError as `load` does."""
    if config.source == "generated":
        return generated_contents(task_id)
    path = _official_path(_data_root(config), task_id)
    return read_json(read_bytes(path), str(path))


def task_type(task_id: str) -> TaskType:
    """The type of task that an id names, without loading the game. Raises TaskError."""
    parts = task_id.split("/")
    found = next((kind for kind in TASK_TYPES for part in parts[1:] if part == kind or part.startswith(f"{kind}-")), None)
    if found is None:
        raise TaskError(f"task '{task_id}' names none of the types {', '.join(TASK_TYPES)}")
    return found


# -- generated games -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _generated_split(size: Size, split: Split, count: int) -> tuple[str, ...]:
    return tuple(f"{size}/{split}/{TASK_TYPES[i % len(TASK_TYPES)]}/{i // len(TASK_TYPES):06d}" for i in range(count))


@lru_cache(maxsize=1)
def _tables() -> str:
    """Identity of all that turns an id into a game: changed by an edit of the tables, or by raising the generator's version."""
    tables = catalogue.KINDS, catalogue.ROOMS, sorted(catalogue.OPENABLE), sorted(catalogue.CONTAINERS)
    texts = package_text("domain.pddl"), package_text("grammar.twl2")
    return _digest([str(VERSION), repr(tables), *texts])


def generated_household(task_id: str) -> tuple[Household, int]:
    """What a generated task's id denotes, and the number of draws it took. Raises TaskError for a malformed id.

    The splits share out all possible households by a hash of their content, so that no game is in two splits.
    """
    match = _GENERATED_ID.fullmatch(task_id)
    if match is None:
        raise TaskError(
            f"no generated task '{task_id}'; ids look like '{SIZES[0]}/train/{TASK_TYPES[0]}/000042' "
            f"(size {'|'.join(SIZES)}, split {'|'.join(SPLITS)}, one of the six types, six digits)"
        )
    size, split, kind, _ = match.groups()
    draw = 0
    while True:
        home = household(kind, size, generator(ROOT_SEED, "alfworld", task_id, draw))  # type: ignore[arg-type]
        if _SHARES[int(home.content(), 16) % len(_SHARES)] == split:
            return home, draw
        draw += 1


@lru_cache(maxsize=4096)
def _generated_game(task_id: str) -> Game:
    return parse_game(generated_contents(task_id), task_id)


def generated_contents(task_id: str) -> dict[str, Any]:
    """The game file that a generated task's id denotes. Raises TaskError for a malformed id."""
    home, draw = generated_household(task_id)
    return game_data(home, generator(ROOT_SEED, "alfworld", task_id, draw, "geometry"))


# -- official games ------------------------------------------------------------------------------------------------------------


def _data_root(config: ALFWorldConfig) -> Path:
    """The folder that holds the splits' folders."""
    given = config.data or os.environ.get("ALFWORLD_DATA")
    if not given:
        raise TaskError(
            f"env.source=official needs the official games, and neither env.data nor ALFWORLD_DATA is set; {_HOW_TO_GET}"
        )
    root = Path(given).expanduser()
    for folder in (root / "json_2.1.1", root):
        if any((folder / name).is_dir() for name in OFFICIAL_FOLDERS.values()):
            return folder
    raise TaskError(f"{root} holds none of the folders {', '.join(OFFICIAL_FOLDERS.values())}; {_HOW_TO_GET}")


@lru_cache(maxsize=16)
def _official_split(root: Path, split: Split, count: int | None) -> tuple[str, ...]:
    folder = OFFICIAL_FOLDERS[split]
    if not (root / folder).is_dir():
        raise TaskError(f"{root / folder}: no such folder, so that the {split} split has no games; {_HOW_TO_GET}")
    names = list(_official_files(root, folder))
    if not names:
        raise TaskError(f"{root / folder} holds no <task>/<trial>/{GAME_FILE}; {_HOW_TO_GET}")
    # A part of a split must not be the first letters of the alphabet, which are all one type of task.
    return tuple(sorted(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count]))


@lru_cache(maxsize=16)
def _official_hash(root: Path, ids: tuple[str, ...]) -> str:
    return _digest([f"{name} {hashlib.sha256(read_bytes(_official_path(root, name))).hexdigest()}" for name in ids])


def _official_files(root: Path, folder: str) -> Iterator[str]:
    """The ids of all games; those with slicing or movable receptacles are left out, as officially."""
    for task in os.scandir(root / folder):
        if not task.is_dir() or "movable" in task.name or "Sliced" in task.name:
            continue
        for trial in os.scandir(task.path):
            if os.path.exists(os.path.join(trial.path, GAME_FILE)):  # or else a folder without a game, or a stray file
                yield f"{folder}/{task.name}/{trial.name}"


@lru_cache(maxsize=2048)
def _official_game(root: Path, task_id: str) -> Game:
    return load_game(_official_path(root, task_id))


def _official_path(root: Path, task_id: str) -> Path:
    parts = task_id.split("/")
    if len(parts) != 3 or parts[0] not in OFFICIAL_FOLDERS.values() or any(part in ("", ".", "..") for part in parts):
        raise TaskError(f"no official task '{task_id}'; ids look like 'valid_seen/<task>/<trial>', as folders of {root}")
    return root.joinpath(*parts, GAME_FILE)


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
