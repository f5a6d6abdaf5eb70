"""Files of a run's folder that are damaged, edited by hand or too old: each is named with what to do, and never a traceback."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents import evaluate, export
from agents.replay import __main__ as replay
from agents.runs.folder import RunFolder, _started
from agents.train import main as train
from tests.agents.test_train import SMALL

LONG = "n" * 280
COMMANDS: dict[str, Callable[[Path], int]] = {
    "resume": lambda run: train([f"resume={run}", "iterations=3"]),
    "evaluate": lambda run: evaluate.main([f"run={run}", "evaluation.episodes=2"]),
    "replay": lambda run: replay.main([str(run)]),
    "export": lambda run: export.main([f"model={run}/model", f"out={run}/exported"]),
}
DAMAGES: dict[str, bytes | None] = {
    "empty": b"",
    "garbage": b"\x00\xff\xfe garbage \x80\n",
    "list": b"[]\n",
    "number": b"7\n",
    "other": b'{"train": 3, "status": [], "pid": {}, "files": null, "state": 3, "format": "stepcredit.checkpoint/1"}\n',
    "deep": b"[" * 100_000 + b"\n",
    "cut": None,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints of iterations 1 and 2 and an evaluation."""
    out = tmp_path_factory.mktemp("runs")
    small = ["model.tiny.hidden=32", "model.tiny.intermediate=32", "evaluation.episodes=2", "evaluation.temperature=[1.0]"]
    assert train([*SMALL, *small, f"out={out}", "run=it", "iterations=2", "checkpoint.every=1"]) == 0
    return out / "it"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "it"))


def damage(file: Path, how: str) -> None:
    content = DAMAGES[how]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if content is None else content)


def told(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> str:
    shown = capsys.readouterr()
    text = shown.out + shown.err + caplog.text
    assert "Traceback" not in text
    assert "not foreseen" not in text
    return text


@pytest.mark.fault("a damaged file of a run", lost="what was in it, which is named")
@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize(
    ("file", "commands", "cure"),
    [
        ("status.json", ["resume"], None),
        ("splits.json", ["resume"], None),
        ("metrics.jsonl", ["resume"], None),
        ("config.yaml", ["resume", "evaluate"], ""),
        ("checkpoints/iteration_000002/manifest.json", ["resume", "evaluate"], None),
        ("checkpoints/iteration_000002/state.json", ["resume"], None),
        ("trajectories/iteration_000002.jsonl.gz", ["replay"], ""),
        ("model/tokenizer.json", ["export"], "copy or download it again"),
        ("model/config.json", ["export"], ""),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do_or_gone_on_without(
    file: str, commands: list[str], cure: str | None, how: str, run: Path, capsys: Any, caplog: Any
) -> None:
    damage(run / file, how)
    for command in commands:
        code = COMMANDS[command](run)
        text = told(capsys, caplog)
        if cure is None:  # it is said, and the command goes on
            assert code == 0, text
        else:
            assert code != 0
            assert cure in text or how == "other"  # a whole object, which only lacks what is looked for
        assert Path(file).name in text or "iteration_000002" in text or f"{run}/model" in text


@pytest.mark.fault("a checkpoint edited by hand", lost="the checkpoint, which is named")
@pytest.mark.parametrize(
    "edit",
    [
        lambda state: state.pop("iteration"),
        lambda state: state.pop("update"),
        lambda state: state.update(update=[]),
        lambda state: state.update(iteration="two"),
        lambda state: state.update(spent=None),
        lambda state: state.update(random={}),
        lambda state: state.update(faults={"set_aside": 3}),
    ],
)
def test_a_state_that_was_edited_by_hand_with_its_manifest_is_named(
    edit: Callable[[dict[str, Any]], Any], run: Path, capsys: Any, caplog: Any
) -> None:
    newest = run / "checkpoints" / "iteration_000002"
    stored = json.loads((newest / "state.json").read_text())
    edit(stored["state"])
    (newest / "state.json").write_text(json.dumps(stored))
    manifest = json.loads((newest / "manifest.json").read_text())
    content = (newest / "state.json").read_bytes()
    manifest["files"]["state.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (newest / "manifest.json").write_text(json.dumps(manifest))
    assert COMMANDS["resume"](run) == 1
    text = told(capsys, caplog)
    assert f"{newest} does not hold what a run goes on with" in text
    assert "Delete that folder" in text


@pytest.mark.fault("a setting edited by hand", lost="nothing: no run begins")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("  lr: fast", "optim.lr is 'fast'"),
        ("  lrr: 1", "unknown key 'optim.lrr'"),
        ("  lr: ${oc.env:NOT_SET}", "optim.lr cannot"),
    ],
)
def test_a_setting_that_was_edited_by_hand_is_told_with_its_file(
    line: str, said: str, run: Path, capsys: Any, caplog: Any
) -> None:
    config = run / "config.yaml"
    config.write_text(re.sub(r"(?m)^  lr: .*$", line, config.read_text(), count=1))
    assert COMMANDS["resume"](run) == 2
    text = told(capsys, caplog)
    assert said in text
    assert "NOT_SET" in line or f"in {config}" in text


@pytest.mark.fault("a process number that means nothing")
@pytest.mark.parametrize("pid", [-1, 0, 1 << 40, None, "7", 1.5, True, [3]])
def test_a_process_that_can_be_none_holds_no_run(pid: Any, run: Path, capsys: Any, caplog: Any) -> None:
    RunFolder(run).set_status("running", pid=pid)
    assert COMMANDS["resume"](run) == 0
    told(capsys, caplog)


@pytest.mark.fault("a process number that went to another program")
def test_a_number_that_went_to_another_program_holds_no_run(run: Path, capsys: Any, caplog: Any) -> None:
    """The other program is of the same kind, which its command line alone cannot tell apart."""
    program = [sys.executable, "-c", "print(flush=True); input()  # agents.train"]
    other = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    try:
        RunFolder(run).set_status("running", pid=other.pid, started=_started(other.pid))
        assert COMMANDS["resume"](run) == 2
        assert f"still being written by process {other.pid}" in told(capsys, caplog)
        RunFolder(run).set_status("running", pid=other.pid, started=_started(os.getppid()))
        assert COMMANDS["resume"](run) == 0
    finally:
        other.communicate(b"\n")


@pytest.mark.fault("a name of 280 letters", lost="nothing: no run begins")
@pytest.mark.parametrize(
    "start",
    [
        lambda tmp: train([*SMALL, f"out={tmp}", f"run={LONG}", "iterations=1"]),
        lambda tmp: train([*SMALL, f"out={tmp}/{LONG}", "iterations=1"]),
        lambda tmp: train([f"resume={tmp}/{LONG}"]),
        lambda tmp: train([*SMALL, "model=hub", f"model.name={tmp}/{LONG}"]),
        lambda tmp: evaluate.main([f"run={tmp}/{LONG}"]),
        lambda tmp: replay.main([f"{tmp}/{LONG}"]),
        lambda tmp: export.main([f"model={tmp}/{LONG}", f"out={tmp}/x"]),
        lambda tmp: export.main([f"model={tmp}", f"out={tmp}/{LONG}"]),
    ],
)
def test_a_name_of_280_letters_is_refused_in_words(
    start: Callable[[Path], int], tmp_path: Path, capsys: Any, caplog: Any
) -> None:
    assert start(tmp_path) != 0
    assert "error: " in told(capsys, caplog)
    assert not list(tmp_path.rglob("metrics.jsonl"))
