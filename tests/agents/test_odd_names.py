"""Folders and names with any character: what is printed can be typed, and what is typed is read as it stands."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from agents.config import loading
from agents.config.overrides import assignment, command_line, parse
from agents.replay import __main__ as replay
from agents.runs.checkpoint import _what_happened
from agents.runs.folder import RunFolder, RunFolderError
from envs.common.structured import ConfigError
from tests.agents.runs.test_folder import begin

ROOT = Path(__file__).resolve().parents[2]
ODD = [
    "my runs, josé",
    "日本(1)",
    "v=1",
    "it's",
    '"quoted"',
    "[x]",
    "{a: b}",
    "$HOME",
    "${x}",
    "~x",
    "-x",
    "a\\b\\",
    "null",
    "1e3",
    "new\nline",
]

characters = st.characters(exclude_categories=("Cs",), exclude_characters="/\0") | st.sampled_from("()[]{}'\"\\$~-=,#&; \n\té")
names = st.text(characters, min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))


def hydra(word: str) -> object:
    """The value of an override for the grammar alone."""
    return OverridesParser.create().parse_override(word).value()


@given(names, st.sampled_from(["/tmp/", "runs/", ""]))
@settings(max_examples=60, deadline=None)
@example("~", "")
@example("null", "")
def test_the_printed_command_names_the_folder_for_shell_and_grammar(name: str, parent: str) -> None:
    folder = RunFolder(parent + name)
    failed = _what_happened(folder.checkpoints / "iteration_000001", 1, OSError()).split("then: ")[1]
    for command, place in ((folder.resume_command, folder.named), (failed, folder.path)):
        *start, word = shlex.split(command)
        assert start == ["python", "-m", "agents.train"]
        assert hydra(word) == parse([word])[0].value() == str(place)


@given(names, st.sampled_from(["/tmp/", "runs/", ""]), st.sampled_from(["resume", "run", "out"]))
@settings(max_examples=60, deadline=None)
def test_what_is_typed_is_the_place_it_says_unless_quoted_or_null(name: str, parent: str, key: str) -> None:
    typed = parent + name
    assume(not typed.strip().startswith(("'", '"')) and typed.strip() != "null" and not typed.startswith("~/"))
    assert parse([f"{key}={typed}"])[0].value() == typed


@given(st.text(characters, max_size=12), st.sampled_from(["model.name", "judge.file", "engine.stop"]))
@settings(max_examples=60, deadline=None)
def test_an_assignment_gives_any_key_exactly_its_text(text: str, key: str) -> None:
    assert hydra(assignment(key, text)) == parse([assignment(key, text)])[0].value() == text


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("run='null'", "null"),
        ("run='a b'", "a b"),
        ('out="x(1)"', "x(1)"),
        ("out=~/runs", str(Path.home() / "runs")),
        ("out='~/runs'", "~/runs"),
        ("out=~runs", "~runs"),
        ("resume=null", None),
        ("++run=007", "007"),
        ("out=${oc.env:HOME}/runs", "${oc.env:HOME}/runs"),
        ("model.name=josé/model(2)", "josé/model(2)"),
        ("model.name=a/b=c", "a/b=c"),
        ("seed=7", 7),
        ("evaluation.temperature=[0.4,1]", [0.4, 1]),
    ],
)
def test_quotes_null_home_and_values_of_other_keys_are_read_as_before(typed: str, value: object) -> None:
    assert parse([typed])[0].value() == value


def test_several_values_of_other_keys_are_refused_with_the_way_to_quote_them() -> None:
    with pytest.raises(ConfigError) as refused:
        parse(["model.name=a,b"])
    words = shlex.split(str(refused.value).partition("quote what is one: ")[2])
    assert parse(words)[0].value() == "a,b"


@pytest.mark.fault("a folder with an odd name")
@pytest.mark.parametrize("name", ODD)
def test_a_run_in_an_odd_folder_is_opened_and_gone_on_with_more_than_once(name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    folder = begin(loading.load([assignment("out", out).replace("${", "\\${"), assignment("run", "it")]))
    assert folder.path == out / "it"
    for _ in range(2):
        folder.set_status("interrupted")
        config = loading.load([shlex.split(folder.resume_command)[-1]])
        assert config.resume == str(folder.path)
        folder = begin(config)
    assert loading.load([f"resume={folder.path}", "iterations=9"]).iterations == 9
    with pytest.raises(RunFolderError, match=r"(?s)already holds a run; go on with .*, or choose another run=") as refused:
        RunFolder.open(loading.load([assignment("out", out).replace("${", "\\${"), "run=it"]))
    folder.checkpoints.mkdir()
    folder.write_trajectories(1, [])
    commands = folder.last_lines().partition("evaluate it   ")[2].split("\nreplay it     ")
    evaluation, replaying = (shlex.split(line)[3:] for line in commands)
    assert parse(evaluation)[0].value() == str(folder.path)
    assert replay.main([*replaying, "episode=1"]) == 1  # it is found, and has no episodes
    words = shlex.split(str(refused.value).partition("go on with ")[2].rpartition(", or choose")[0])
    assert parse(words)[0].value() == str(folder.path)


@pytest.mark.parametrize("name", ["it's josé's (v=1), [x]", "$HOME/~x -y\\'"])
def test_a_shell_starts_what_was_printed(name: str, tmp_path: Path) -> None:
    folder = begin(loading.load([assignment("out", tmp_path), assignment("run", name)]))
    folder.set_status("interrupted")
    command = folder.resume_command.replace("python", shlex.quote(sys.executable), 1) + " iterations=77 --cfg job"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "iterations: 77" in done.stdout
    assert command_line("agents.train", assignment("resume", folder.path)) == folder.resume_command
