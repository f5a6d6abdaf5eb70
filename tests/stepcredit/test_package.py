"""The package itself: what it exports, what it imports, and that nothing depends on it."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import stepcredit
from envs.trajectory import Step

ROOT = Path(__file__).resolve().parents[2]


def test_importing_it_loads_nothing_heavy_and_no_environment() -> None:
    program = (
        "import sys, stepcredit; heavy = ('torch', 'transformers', 'hydra', 'numpy', 'gymnasium', 'envs', 'agents');"
        "print([m for m in sys.modules if m.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_credit_and_environments_need_no_torch() -> None:
    program = (
        "import sys, stepcredit; stepcredit.make('alfworld').reset(seed=0); stepcredit.methods();"
        "stepcredit.advantages('ppo', rewards=[1], episodes=[0], values=[0]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("name", stepcredit.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(stepcredit, name)
    assert name in dir(stepcredit)
    assert name == "__version__" or (found.__doc__ and not found.__doc__.startswith(f"{name}("))


def test_names_that_it_passes_on_are_those_of_their_own_packages() -> None:
    assert stepcredit.Step is Step


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'stepcredit' has no attribute 'trian'"):
        _ = stepcredit.trian
    with pytest.raises(ImportError):
        from stepcredit import trian  # noqa: F401


def test_the_version_is_that_of_the_installed_package() -> None:
    assert stepcredit.__version__ == version("stepcredit")


def test_nothing_imports_it() -> None:
    for folder in ("envs", "algorithms", "agents", "scripts"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
                assert not [name for name in names if name.partition(".")[0] == "stepcredit"], file
