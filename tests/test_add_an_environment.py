"""What docs/add-an-environment.md tells a user is done here to the letter: its files, its package, its commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "add-an-environment.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for sys.path that holds the user's package as an installer would lay it out."""
    site = tmp_path_factory.mktemp("site")
    for language, text in BLOCKS:
        if language != "console":
            path = site / text.splitlines()[0].removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    project = tomllib.loads((site / "pyproject.toml").read_text())["project"]
    info = site / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


def command(begin: str) -> tuple[list[str], str]:
    """The document's command that begins so, and the output it shows."""
    for language, text in BLOCKS:
        if language == "console" and text.startswith(f"$ {begin}"):
            first, _, output = text.partition("\n")
            return shlex.split(first.removeprefix("$ python ")), output
    raise AssertionError(f"the document shows no command '{begin}'")


def run(arguments: list[str], site: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, *arguments], env=environment, cwd=folder, capture_output=True, text=True)


def test_the_checker_says_what_the_document_shows(site: Path, tmp_path: Path) -> None:
    arguments, shown = command("python -m envs.checker")
    done = run(arguments, site, tmp_path)
    assert (done.returncode, done.stdout) == (0, shown), done.stderr


def test_the_class_is_checked_before_it_is_registered(site: Path, tmp_path: Path) -> None:
    done = run(["-m", "envs.checker", "mygrid_pkg.env:MyGrid", "size=5"], site, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_gymnasium_makes_it_once_the_package_is_imported(site: Path, tmp_path: Path) -> None:
    program = (
        "import gymnasium, mygrid_pkg; env = gymnasium.make('mygrid/MyGrid-v0', size=5); print(env.size, env.reset(seed=1)[0])"
    )
    done = run(["-c", program], site, tmp_path)
    assert done.stdout.startswith("5 You stand in a grid."), done.stderr


def test_its_configuration_file_is_found_and_its_keys_are_checked(site: Path, tmp_path: Path) -> None:
    done = run(["-m", "agents.train", "env=mygrid", "env.size=5", "--cfg"], site, tmp_path)
    assert "name: mygrid" in done.stdout, done.stderr
    assert "size: 5" in done.stdout
    done = run(["-m", "agents.train", "env=mygrid", "env.sise=5", "--cfg"], site, tmp_path)
    assert done.returncode == 2
    assert "env.sise" in done.stderr


def test_one_iteration_trains_on_it(site: Path, tmp_path: Path) -> None:
    arguments, _ = command("python -m agents.train")
    done = run([*arguments, f"out={tmp_path / 'runs'}"], site, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.glob("runs/*/metrics.jsonl"))
