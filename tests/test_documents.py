"""The pages hang together: on a forge, which shows them as they stand, and on the site that `make docs` makes of them."""

from __future__ import annotations

import ast
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from markdown_it import MarkdownIt
from markdown_it.token import Token

import stepcredit
from agents.config.commands import TrainConfig
from agents.config.loading import load
from scripts.site_pages import PAGES

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / path for path in PAGES if "/" not in path)])
REFERENCE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]


@cache
def parsed(path: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))


def links(path: Path) -> Iterator[str]:
    for token in parsed(path):
        for inner in token.children or ():
            target = inner.attrGet("href") or inner.attrGet("src")
            if target and not re.match(r"[a-z]+:", str(target)):
                yield str(target)


@cache
def anchors(path: Path) -> set[str]:
    """As forges name headings: small letters, no signs, blanks as hyphens, and a number where one occurs again."""
    found: Counter[str] = Counter()
    names = set()
    for heading, inline in zip(parsed(path), parsed(path)[1:]):
        if heading.type == "heading_open":
            text = "".join(part.content for part in inline.children or () if part.type in ("text", "code_inline"))
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            names.add(f"{name}-{found[name]}" if found[name] else name)
            found[name] += 1
    return names


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(document: Path) -> None:
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.is_file(), link
        assert ROOT in target.parents, link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_lists_and_tables_stand_where_the_site_sees_them_too(document: Path) -> None:
    """Its Markdown wants a blank line before them, and four blanks before those that belong to a list."""
    lines = document.read_text(encoding="utf-8").splitlines()
    for token in parsed(document):
        if token.type in ("bullet_list_open", "ordered_list_open", "table_open"):
            assert token.map is not None
            line, before = lines[token.map[0]], lines[token.map[0] - 1] if token.map[0] else ""
            assert not before.strip(), f"no blank line before {line!r}"
            assert (len(line) - len(line.lstrip())) % 4 == 0, f"not four blanks before {line!r}"


def test_every_page_is_once_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = yaml.safe_load(text[re.search(r"^nav:", text, re.MULTILINE).start() :])["nav"]  # type: ignore[union-attr]

    def pages(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for one in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(one)

    assert sorted(pages(navigation)) == sorted(PAGES.get(name, name.removeprefix("docs/")) for name in NAMES)


def defined(module: str) -> set[str]:
    """The names that a module of ours defines; read, because some import torch."""
    path = ROOT.joinpath(*module.split("."))
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return found


def test_the_reference_has_every_public_name_and_none_that_is_not_there() -> None:
    python, plugins = (REFERENCE.findall((ROOT / "docs" / name).read_text()) for name in ("api.md", "plugin-api.md"))
    assert {name.removeprefix("stepcredit.") for name in python} <= set(stepcredit.__all__)
    for name in plugins:
        module, _, last_part = name.rpartition(".")
        assert last_part in defined(module), name
    last = {name.rpartition(".")[2] for name in (*python, *plugins)}
    assert set(stepcredit.__all__) - {"__version__"} <= last


def test_every_test_and_every_recorded_file_that_a_page_names_is_there() -> None:
    tests = {name for file in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)\(", file.read_text())}
    named = {name for page in DOCUMENTS for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))}
    assert not named - tests
    departures = (ROOT / "docs" / "papers-code.md").read_text(encoding="utf-8")
    last = [line.rstrip(" |").rpartition("| ")[2] for line in departures.splitlines() if line.startswith("| ")]
    files = {name for cell in last for name in re.findall(r"(?:; |\. |, )`([a-z_]+)`", cell) if not name.startswith("test_")}
    assert len(files) > 20
    assert not [name for name in files if not (ROOT / "tests" / "golden" / f"{name}.json").is_file()]


COMING = (ROOT / "docs" / "verl-agent.md").read_text(encoding="utf-8")


def differences(left: dict[str, Any], right: dict[str, Any], path: str = "") -> set[str]:
    found: set[str] = set()
    for key in {*left, *right}:
        one, other = left.get(key), right.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found |= differences(one, other, f"{path}{key}.")
        elif one != other:
            found.add(f"{path}{key}")
    return found


def test_the_run_of_verl_agent_is_the_experiment_with_what_the_page_adds() -> None:
    (command,) = re.findall(r"^\$ python -m agents.train (.*?)^```", COMING, re.DOTALL | re.MULTILINE)
    written = asdict(load(shlex.split(command.replace("\\\n", " "))))
    experiment = asdict(load(["+experiment=gigpo_alfworld_qwen2.5_1.5b", "algo=gigpo_official", "engine=vllm"]))
    added = {"optim.weight_decay", "evaluation.episodes", "checkpoint.every", "tracker.wandb"}
    added |= {"launcher.name", "launcher.processes"}
    assert differences(written, experiment) == added | {"warmstart.enabled"}
    assert not written["warmstart"]["enabled"]


def test_the_settings_that_it_names_are_there() -> None:
    configs = [load(["env=alfworld", "algo=gigpo"]), load(["env=webshop", "algo=ppo"])]

    def known(config: TrainConfig, key: str) -> bool:
        here: Any = asdict(config)
        here["env"] |= here["env"]["settings"] or {}
        for part in key.split("."):
            if not isinstance(here, dict) or part not in here:
                return False
            here = here[part]
        return True

    cells = [line.split(" | ")[1] for line in COMING.splitlines() if line.startswith("| ") and line.count(" | ") >= 2]
    keys = {word.partition("=")[0] for cell in cells for code in re.findall(r"`([^`]+)`", cell) for word in code.split()}
    keys = {key for key in keys if re.fullmatch(r"\w+(\.\w+)+", key)} - {"shaping.invalid_action.coefficient"}
    assert len(keys) > 40
    assert not [key for key in keys if not any(known(config, key) for config in configs)]
