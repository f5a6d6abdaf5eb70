"""Who may import whom: no cycle between modules, and no room imports one above it, wherever in a file the import stands."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("envs", "algorithms", "agents", "stepcredit")
ROOMS = (
    *("agents.namesakes", "envs", "algorithms", "agents.config", "agents.models", "agents.rollout", "agents.judges"),
    *("agents.runs", "agents.training", "agents.replay", "agents.auditing", "agents.reporting", "agents", "stepcredit"),
)
"""From low to high; the modules right in `agents` are the entry points."""
COMMON = ("envs.common", "envs.trajectory")
"""What algorithms may know of environments."""


def modules() -> dict[str, Path]:
    """Every module by its dotted name; a package by that of its folder."""
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


MODULES = modules()


def imported(source: str, importer: str, known: frozenset[str] = frozenset(MODULES)) -> set[str]:
    """Our modules that a source names: at its top, in functions and for type checkers alike."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{importer} has a relative import"
            for alias in node.names:
                within = f"{node.module}.{alias.name}"
                found.add(within if within in known else str(node.module))
    return (found & known) - {importer}


GRAPH = {name: imported(file.read_text(), name) for name, file in MODULES.items()}


def room(module: str) -> str:
    """The room that a module is in."""
    return max((name for name in ROOMS if f"{module}.".startswith(f"{name}.")), key=len)


def misplaced(graph: dict[str, set[str]]) -> list[str]:
    """Imports of a room above; of algorithms, also those of an environment."""
    return [
        f"{importer} imports {name}"
        for importer, names in sorted(graph.items())
        for name in sorted(names)
        if ROOMS.index(room(importer)) < ROOMS.index(room(name))
        or (
            room(importer) == "algorithms"
            and room(name) == "envs"
            and not f"{name}.".startswith(tuple(f"{c}." for c in COMMON))
        )
    ]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one cycle of imports, the first one again at the end; [] if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not cycle(GRAPH), " <- ".join(cycle(GRAPH))


def test_no_room_imports_one_above_it() -> None:
    assert not misplaced(GRAPH), "\n".join(misplaced(GRAPH))


def test_every_module_is_read() -> None:
    assert {"envs.trajectory", "algorithms.base", "agents.train", "agents.runs.folder"} <= set(MODULES)
    assert "envs.trajectory" in GRAPH["algorithms.segments"]


@pytest.mark.parametrize(
    "source",
    [
        "from envs.trajectory import Step",
        "from envs import trajectory",
        "import envs.trajectory as t",
        "def f():\n    from envs.trajectory import Step",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from envs.trajectory import Step",
    ],
)
def test_an_import_is_found_wherever_it_stands(source: str) -> None:
    assert imported(source, "algorithms.base") == {"envs.trajectory"}


def test_the_rules_find_what_they_forbid() -> None:
    assert misplaced({"envs.base": {"agents.config"}, "agents.runs.folder": {"agents.train"}, "agents.judge": {"envs"}}) == [
        "agents.runs.folder imports agents.train",
        "envs.base imports agents.config",
    ]
    assert misplaced({"algorithms.base": {"envs.base", "envs.common.registry", "envs.trajectory"}}) == [
        "algorithms.base imports envs.base"
    ]
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}
