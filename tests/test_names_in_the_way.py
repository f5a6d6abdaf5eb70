"""Packages of other people that have the names of this project's: told in one line with the way out, or harmless."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ["-m", "agents.train", "env=alfworld", "--cfg"]
USE = ["-c", "import stepcredit; print(*stepcredit.environments())"]
FINDER = """
import importlib.util, os, sys
from pathlib import Path
del os.environ["PYTHONPATH"]  # its folder stands for site-packages
class Editable:
    # As setuptools writes it for `pip install -e`: what is found nowhere else, and the modules right in our packages.
    @staticmethod
    def find_spec(name, path=None, target=None):
        parent, _, child = name.rpartition(".")
        if parent in ("", "agents", "envs", "algorithms", "stepcredit"):
            place = Path({root!r}, *name.split("."))
            for file in (place / "__init__.py", place.with_suffix(".py")):
                if file.exists():
                    return importlib.util.spec_from_file_location(name, file)
sys.meta_path[:] = [one for one in sys.meta_path if not one.__module__.startswith("__editable__")] + [Editable]
"""
"""A sitecustomize.py."""


def python(folder: Path, *words: str, path: Path | str = ROOT) -> subprocess.CompletedProcess[str]:
    """Started in the folder, with `path` beside what is installed."""
    environment = {"PYTHONPATH": str(path), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def foreign(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with a package of somebody else's."""
    package = tmp_path / "project" / request.param
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("mine = 1\n")
    return package


@pytest.mark.fault("a package of the same name in the way", lost="nothing: no run begins")
@pytest.mark.parametrize("foreign", ["envs", "algorithms"], indirect=True)
def test_a_package_in_the_folder_of_the_start_is_told_in_one_line_and_left_out_by_the_advice(foreign: Path) -> None:
    done = python(foreign.parent, *CONFIG)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"the package '{foreign.name}' in {foreign} stands in the place of stepcredit's" in line
    assert "python -P -m agents.train" in line
    done = python(foreign.parent, "-P", *CONFIG)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("foreign", ["agents", "envs", "algorithms"], indirect=True)
def test_a_program_of_the_user_s_beside_such_a_package_is_told_what_is_wrong(foreign: Path) -> None:
    done = python(foreign.parent, *USE)
    assert f"the package '{foreign.name}' in {foreign} stands in the place of stepcredit's" in done.stderr.splitlines()[-1]
    assert python(foreign.parent, "-P", *USE).stdout.startswith("alfworld ")


@pytest.mark.fault("a package of the same name in the way", lost="nothing: no run begins")
@pytest.mark.parametrize("foreign", ["envs"], indirect=True)
@pytest.mark.parametrize("path", ["{project}", ""], ids=["by name", "as the current folder"])
def test_a_package_that_pythonpath_brings_is_told_with_the_way_out_of_there(foreign: Path, path: str) -> None:
    """Where -P does not help."""
    entries = f"{path.format(project=foreign.parent)}:{ROOT}"
    for words in (CONFIG, ["-P", *CONFIG]):
        done = python(foreign.parent, *words, path=entries)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert f"the package 'envs' in {foreign} stands in the place of stepcredit's" in line
        assert "rename it, or take that folder out of the environment variable PYTHONPATH" in line


@pytest.mark.fault("a file with the name of a library in the way")
def test_with_p_no_file_of_the_start_s_folder_is_read_by_workers_either(tmp_path: Path) -> None:
    for name in ("json", "socket", "pickle"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('read')\n")
    program = (
        "import asyncio\nfrom functools import partial\nimport envs\nfrom envs.pool import Pool\n"
        "async def run():\n"
        "    async with Pool(partial(envs.make, 'alfworld', train_games=1), mode='processes') as pool:\n"
        "        with pool.slot() as env: print(len(await env.reset(seed=1)))\n"
        "asyncio.run(run())"
    )
    done = python(tmp_path, "-P", "-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


@pytest.mark.parametrize("foreign", ["conf", "scripts", "tests"], indirect=True)
def test_other_names_are_harmless(foreign: Path) -> None:
    assert python(foreign.parent, *CONFIG).returncode == 0
    assert python(foreign.parent, *USE).stdout.startswith("alfworld ")


@pytest.mark.fault("a package of the same name in the way")
def test_a_distribution_that_put_its_files_among_ours_is_harmless(tmp_path: Path) -> None:
    """Of packages installed one over the other (openai-agents brings `agents`), the later one's __init__ stays."""
    ours = [entry for entry in (ROOT / "agents").iterdir() if entry.name != "__init__.py"]
    (tmp_path / "agents").mkdir()
    for entry in ours:
        (tmp_path / "agents" / entry.name).symlink_to(entry)
    (tmp_path / "agents" / "__init__.py").write_text("class Agent: ...\n")
    for package in ("envs", "algorithms", "conf", "stepcredit"):
        (tmp_path / package).symlink_to(ROOT / package)
    done = python(tmp_path, *CONFIG, path=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert python(tmp_path, *USE, path=tmp_path).stdout.startswith("alfworld ")


@pytest.mark.fault("a package of the same name in the way", lost="nothing: no run begins")
@pytest.mark.parametrize("foreign", ["agents"], indirect=True)
def test_a_distribution_before_an_editable_install_is_told_in_one_line(foreign: Path, tmp_path: Path) -> None:
    site = foreign.parent
    (site / "sitecustomize.py").write_text(FINDER.format(root=str(ROOT)))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = python(elsewhere, *CONFIG, path=site)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"the package 'agents' in {foreign} stands in the place of stepcredit's: install stepcredit in a virtual" in line
    done = python(elsewhere, *USE, path=site)
    assert "install stepcredit in a virtual environment of its own" in done.stderr.splitlines()[-1]
