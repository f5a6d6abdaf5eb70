"""The official games, where they are: unpacked below ALFWORLD_DATA, or in archives beside the repository."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from envs.alfworld.game import Game, load_game
from tests.envs.alfworld.games import OFFICIAL

ARCHIVE = OFFICIAL / "alfworld_games_valid_unseen.tar.xz"
SAMPLE = 60


@pytest.fixture(scope="session")
def official_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds `valid_unseen`; the test is skipped without it."""
    for root in (OFFICIAL / "json_2.1.1", OFFICIAL):
        if (root / "valid_unseen").is_dir():
            return root
    if not ARCHIVE.is_file():
        pytest.skip(f"no official games at {OFFICIAL} (set ALFWORLD_DATA)")
    root = tmp_path_factory.mktemp("official")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    return root


@pytest.fixture(scope="session")
def official_games(official_root: Path) -> list[Game]:
    """Official games of all types, evenly from the sorted list."""
    paths = sorted(official_root.glob("valid_unseen/*/*/game.tw-pddl"))
    return [load_game(path) for path in paths[:: max(1, len(paths) // SAMPLE)]]
