"""The level that was compiled is the level that is played, whatever the folders are called; else the start is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nle
import pytest

from envs.base import TaskError
from envs.minihack.game import Game, Seeds

ROOT = Path(__file__).parents[3]
SEEDS = Seeds.of("KeyRoom-S5/train/000000")
PROGRAM = "from envs.minihack.game import Game, Seeds; print(Game('KeyRoom-S5').reset(Seeds.of('KeyRoom-S5/train/000000')).key)"


def first_scene() -> str:
    game = Game("KeyRoom-S5")
    key = game.reset(SEEDS).key
    game.close()
    return key


@pytest.fixture(scope="module")
def usual() -> str:
    """The first scene where no folder has an odd name."""
    return first_scene()


def nle_in(folder: Path) -> Path:
    """A folder for sys.path with the nle package, whose compiler can be exchanged."""
    installed = Path(nle.__file__).parent
    for place in (folder / "nle", folder / "nle" / "nethackdir"):
        place.mkdir(parents=True)
        for file in (installed / place.relative_to(folder / "nle")).iterdir():
            if file.name != "nethackdir":
                (place / file.name).symlink_to(file)
    return folder


def play(site: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    "name", ["a b", " ", "it's", 'say "a"', "a (copy)", "ünï 日本", "$HOME", "a;b", "*", "a\nb", "-rf", "x" * 200]
)
def test_a_temporary_folder_may_have_any_name(name: str, usual: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    assert first_scene() == usual
    assert not any((tmp_path / name).iterdir())


@pytest.mark.parametrize("name", ["my env", "it's (mine) ünï"])
def test_packages_may_lie_in_a_folder_of_any_name(name: str, usual: str, tmp_path: Path) -> None:
    done = play(nle_in(tmp_path / name))
    assert done.stdout.strip() == usual, done.stderr


@pytest.mark.parametrize(
    ("program", "does", "said"),
    [
        ("lev_comp", "exit 0", "it must make a level called 'mylevel'"),
        ("lev_comp", ": > mylevel.lev", "does not hold it (mylevel.lev)"),
        ("lev_comp", "echo no room is left >&2; exit 1", "level compiler fails in"),
        ("dlb", "exit 0", "librarian fails in"),
        ("dlb", "echo else > nhdat", "does not hold it (dungeon, mylevel.lev)"),
        ("lev_comp", None, "must be executable"),
    ],
)
def test_a_level_that_was_not_compiled_is_refused_with_its_folder(
    program: str, does: str | None, said: str, tmp_path: Path
) -> None:
    site = nle_in(tmp_path)
    file = site / "nle" / "nethackdir" / program
    file.unlink()
    file.write_text(f"#!/bin/sh\n{does}\n")
    file.chmod(0o755 if does else 0o644)
    done = play(site)
    assert done.returncode != 0
    refusal = done.stderr.splitlines()[-1]
    assert refusal.startswith("envs.base.TaskError")
    assert said in refusal
    assert f"{tempfile.gettempdir()}/nle" in refusal


@pytest.mark.parametrize("happens", ["replaced", "removed"])
def test_a_library_that_is_no_longer_the_compiled_one_is_noticed_at_the_next_start(happens: str) -> None:
    game = Game("KeyRoom-S5")
    game.reset(SEEDS)
    library = Path(game._nle.nethack._vardir, "nhdat")
    library.unlink()
    if happens == "replaced":
        library.symlink_to(Path(nle.__file__).parent / "nethackdir" / "nhdat")
    with pytest.raises(TaskError, match=f"{library} held the compiled level and "):
        game.reset(SEEDS)
    game.close()
