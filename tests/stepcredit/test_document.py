"""The examples of docs/python.md and of the README run as they stand, and print what the document shows."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

import stepcredit
from envs import registry

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```(?:\n\n```text\n(?P<shown>.*?)```)?", re.DOTALL)


@pytest.fixture
def _own_names() -> Iterator[None]:
    known, aliases, ids = dict(registry._registry._known), dict(registry._registry._aliases), dict(gymnasium.registry)
    yield
    registry._registry._known, registry._registry._aliases = known, aliases
    gymnasium.registry.clear()
    gymnasium.registry.update(ids)


def run_examples(text: str) -> int:
    """Run the examples of a document one after another, and compare what they print; returns their number."""
    found = list(EXAMPLE.finditer(text))
    names: dict[str, object] = {"__name__": "__main__"}
    for example in found:
        if "to_dataframe" in example["code"] and importlib.util.find_spec("pandas") is None:
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(example["code"], "docs/python.md", "exec"), names)
        if example["shown"] is not None:
            assert said.getvalue() == example["shown"]
    return len(found)


@pytest.mark.usefixtures("_own_names")
def test_the_examples_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_examples(DOCUMENT) == DOCUMENT.count("```python")
    assert {path.name.rsplit("-", 2)[0] for path in tmp_path.glob("runs/*")} == {"alfworld-gigpo", "lamp-grpo"}


def test_the_first_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_examples((ROOT / "README.md").read_text(encoding="utf-8")) >= 1


def test_every_public_function_is_shown_or_named() -> None:
    for name in stepcredit.__all__:
        if name[0].islower():
            assert f"{name}" in DOCUMENT, name
