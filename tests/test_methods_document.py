"""What docs/methods.md says holds: it lists every method, and the method it adds works."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from agents.config import loading
from agents.config.commands import TrainConfig
from agents.config.compose import groups
from agents.config.sections import LossConfig
from algorithms import base, surrogates, transforms
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import episode

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs" / "methods.md").read_text()


def test_every_method_stands_in_the_table_and_nothing_else() -> None:
    cells = [line.split("|")[1] for line in DOCUMENT.splitlines() if line.startswith("| `")]
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == groups()["algo"]


def test_every_transform_stands_in_its_table_and_nothing_else() -> None:
    rows = [line.split("|")[2] for line in DOCUMENT.splitlines() if line.startswith("| ") and line.count("|") >= 6]
    names = [name for cell in rows for name in re.findall(r"^ `(\w+)` $", cell)]
    assert sorted(names) == transforms.names()


def test_every_file_it_names_is_there() -> None:
    for path in re.findall(r"`(algorithms/[\w/]+\.py)`", DOCUMENT):
        assert (Path(__file__).resolve().parents[1] / path).is_file(), path


def test_the_losses_it_names_are_those_there_are() -> None:
    (listed,) = re.findall(r"`loss\.surrogate` \(([^)]*)\)", DOCUMENT)
    assert set(listed.split(", ")) == set(surrogates.names())
    assert LossConfig().surrogate in surrogates.names()


def test_the_method_it_adds_can_be_chosen_and_credits_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    (tmp_path / "last_step.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    known = dict(base._registry._known)
    try:
        importlib.import_module("last_step")
        config = loading.load(["algo=last_step", "algo.scale=2"])
        assert isinstance(config, TrainConfig)
        found = base.build(config.algo).advantages(as_batch([episode([0, 1.5]), episode([1, 0])]))
        assert found.values.tolist() == [0, 3, 0, 0]
    finally:
        base._registry._known = known
        sys.modules.pop("last_step", None)
