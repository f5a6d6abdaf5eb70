"""Streams that fail cost what would have been shown: the run goes on, and its status, files and exit code are true."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents import train
from agents.runs.folder import RunFolder
from agents.runs.metrics import read_metrics
from envs.trajectory_file import read
from tests import injections
from tests.agents import odd_environments
from tests.agents.models.models_for_tests import small_policy
from tests.injections import GAMES, LEARNING, LONG, TINY, module


def training(out: Path, *words: str) -> list[str]:
    return module("agents.train", *TINY, f"out={out}", "run=it", *words)


def finished(run: Path, iterations: int) -> bool:
    """Whether the run says that it is over, and everything of it is there."""
    folder = RunFolder(run)
    rows = [row["iteration"] for row in read_metrics(folder.metrics)]
    kept = folder.checkpoints / f"iteration_{iterations:06d}" / "manifest.json"
    there = kept.exists() and (folder.model / "model.safetensors").exists()
    return folder.get_status()["status"] == "finished" and rows == [*range(iterations + 1)] and there


@pytest.mark.fault("the reader of the output leaves", lost="the display")
def test_a_reader_that_leaves_ends_the_display_and_not_the_training(tmp_path: Path) -> None:
    end = injections.reader_leaves(training(tmp_path, "iterations=5"), after="[0/")
    assert end.code == 0
    assert finished(tmp_path / "it", 5)
    assert end.err.count("standard output reaches nobody any more (Broken pipe)") == 1
    assert "Traceback" not in end.err


@pytest.mark.fault("the output goes to a full device", lost="the display")
@pytest.mark.parametrize("streams", [["stdout"], ["stdout", "stderr"]])
def test_a_full_device_ends_the_display_and_not_the_training(tmp_path: Path, streams: list[str]) -> None:
    end = injections.device_full(training(tmp_path, "iterations=3"), *streams)
    assert end.code == 0
    assert finished(tmp_path / "it", 3)
    assert ("No space left on device" in end.err) == (streams == ["stdout"])


@pytest.mark.fault("streams closed from the start", lost="the display")
@pytest.mark.parametrize("descriptors", [(1,), (0, 1, 2)])
def test_streams_closed_at_the_start_take_nothing_from_the_training(tmp_path: Path, descriptors: tuple[int, ...]) -> None:
    assert injections.streams_closed(training(tmp_path, "iterations=2"), *descriptors).code == 0
    assert finished(tmp_path / "it", 2)


@pytest.mark.fault("the terminal is closed")
def test_a_terminal_that_is_closed_saves_the_training(tmp_path: Path) -> None:
    run = tmp_path / "it"
    end = injections.terminal_closed(training(tmp_path, LONG), injections.has_done(run, 2))
    assert end.code == 130
    assert "\x1b[?25l" in end.out  # the cursor is hidden: the live table was being shown
    status = RunFolder(run).get_status()
    assert (status["status"], status["reason"]) == ("interrupted", "asked to stop by SIGHUP")
    assert (run / "checkpoints" / f"iteration_{status['iteration']:06d}" / "manifest.json").exists()
    assert read_metrics(run / "metrics.jsonl")[-1]["iteration"] == status["iteration"] >= 2


@pytest.mark.fault("a reader who does not read, and SIGTERM", lost="the display")
def test_a_reader_who_does_not_read_keeps_no_training_from_being_saved(tmp_path: Path) -> None:
    end = injections.unread_and_signalled(training(tmp_path, LONG), signal.SIGTERM)
    assert end.code == 130
    status = RunFolder(tmp_path / "it").get_status()
    assert (status["status"], status["reason"]) == ("interrupted", "asked to stop by SIGTERM")
    assert (tmp_path / "it" / "checkpoints" / f"iteration_{status['iteration']:06d}" / "manifest.json").exists()


@pytest.mark.fault("the terminal is closed, under nohup", lost="the display")
def test_a_terminal_that_is_closed_costs_a_training_under_nohup_its_display_only(tmp_path: Path) -> None:
    run = tmp_path / "it"
    end = injections.terminal_closed(training(tmp_path, "iterations=40"), injections.has_done(run, 2), nohup=True)
    assert end.code == 0
    assert finished(run, 40)


@pytest.mark.fault("Ctrl-C with | tee")
def test_ctrl_c_at_a_training_whose_output_goes_through_tee_saves_it(tmp_path: Path) -> None:
    run = tmp_path / "it"
    end = injections.teed_and_interrupted(training(tmp_path, LONG), injections.has_done(run, 2))
    assert end.code == 130
    status = RunFolder(run).get_status()
    assert status["status"] == "interrupted"
    assert f"saved after iteration {status['iteration']}; go on with: {status['resume']}" in end.err
    assert (run / "checkpoints" / f"iteration_{status['iteration']:06d}" / "manifest.json").exists()
    assert "Traceback" not in end.err


@pytest.mark.fault("the reader of the output leaves", lost="what environments print")
def test_what_environments_print_to_nobody_is_no_fault_of_their_episodes(tmp_path: Path) -> None:
    words = [*LEARNING, "env=talkative", "env.pool.mode=processes", "env.pool.workers=1", "threads=1", "iterations=3"]
    command = [sys.executable, "-c", odd_environments.COMMAND, *words, f"out={tmp_path}", "run=it"]
    end = injections.reader_leaves(command, after="[1/")
    assert end.code == 0, end.err
    assert finished(tmp_path / "it", 3)
    episodes = list(read(RunFolder(tmp_path / "it").trajectories(3)))
    assert [one.error for one in episodes] == [None] * len(episodes)
    assert "Traceback" not in end.err


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is over."""
    out = tmp_path_factory.mktemp("runs")
    assert train.main([*TINY, f"out={out}", "run=it", "iterations=1"]) == 0
    small_policy().save(out / "model")
    return out / "it"


@pytest.mark.fault("an environment changes the working folder")
def test_files_are_where_they_were_asked_for_wherever_an_environment_changes_to(tmp_path: Path) -> None:
    def run(module: str, *words: str) -> str:
        command = odd_environments.COMMAND.replace("agents.train", f"agents.{module}")
        started = injections.start([sys.executable, "-c", command, *words], cwd=tmp_path, env=environment)
        end = injections.ended(started)
        assert end.code == 0, end.err
        return end.out

    environment = {**os.environ, "PYTHONPATH": str(injections.ROOT)}
    run("train", *LEARNING, "env=wandering", "threads=1", "iterations=1", "out=here", "run=it")
    assert "python -m agents.evaluate run=here/it" in run("train", "resume=here/it", "iterations=2")
    assert finished(tmp_path / "here" / "it", 2)
    run("evaluate", "run=here/it", "evaluation.episodes=2")
    run("audit", "run=here/it", *AUDIT[2:-1])
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert len([*(tmp_path / "here" / "it").glob("evaluation-*.json")]) == 1
    assert len([*(tmp_path / "here" / "it").glob("audit-*/audit.json")]) == 1


AUDIT = ["agents.audit", "run={run}", "methods=[grpo]", "episodes=2", "continuations=4", "resamples=10", "out={out}"]
COMMANDS = {
    "evaluate": (["agents.evaluate", "run={run}", "evaluation.episodes=2", "out={out}/found.json"], "found.json"),
    "audit": (AUDIT, "*/audit.json"),
    "judge": (["agents.judge", *GAMES, "episodes=4", "out={out}"], "*/results.json"),
    "replay": (["agents.replay", "{run}", "--html", "{out}/page.html"], "page.html"),
    "report": (["agents.report", "{run}", "--html", "{out}/page.html"], "page.html"),
    "export": (["agents.export", "model={run}/../model", "out={out}/whole"], "whole/config.json"),
}


@pytest.mark.fault("the reader of the output leaves, or its device is full", lost="the display")
@pytest.mark.parametrize("reader", ["leaves", "full"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_does_its_work_whoever_reads(run: Path, tmp_path: Path, name: str, reader: str) -> None:
    words, result = COMMANDS[name]
    command = module(*(word.format(run=run, out=tmp_path) for word in words))
    end = injections.reader_leaves(command) if reader == "leaves" else injections.device_full(command, "stdout")
    assert end.code == 0, end.err
    (written,) = tmp_path.glob(result)
    assert written.stat().st_size
    assert "Traceback" not in end.err
    assert ("warning: not all that was to be shown could be written" in end.err) == (reader == "full")


@pytest.mark.fault("the output goes to a full device", lost="what was to be printed, by exit code 1")
@pytest.mark.parametrize("words", [["--help"], ["--cfg"], ["--dry-run"]])
def test_what_a_command_only_prints_may_be_read_in_part_and_its_loss_is_a_failure(words: list[str]) -> None:
    command = module("agents.train", *words)
    assert injections.reader_leaves(command, after="").code == 0
    end = injections.device_full(command, "stdout")
    assert end.code == 1
    assert end.err.endswith("could be written to standard output: No space left on device\n")
    assert "Traceback" not in end.err


# -- the streams themselves -------------------------------------------------------------------------------------------------


def guarded(program: str, *arguments: str) -> list[str]:
    """A program within `guarded`."""
    head = "import os, sys\nfrom envs.common.streams import guarded\nwith guarded():\n"
    return [sys.executable, "-c", head + "\n".join(f"    {line}" for line in program.splitlines()), *arguments]


@pytest.mark.fault("streams closed from the start", lost="the display")
def test_a_file_never_gets_what_is_written_to_a_stream_that_was_closed(tmp_path: Path) -> None:
    program = "file = open(sys.argv[1], 'wb')\nos.write(1, b'shown'); print('shown'); file.write(b'kept'); file.close()"
    assert injections.streams_closed(guarded(program, str(tmp_path / "file")), 0, 1, 2).code == 0
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.fault("streams closed on the way", lost="the display")
@pytest.mark.parametrize("descriptors", [(1,), (0, 1, 2)])
def test_a_stream_that_somebody_closes_on_the_way_ends_the_display_and_nothing_else(
    tmp_path: Path, descriptors: tuple[int, ...]
) -> None:
    """Its number is free then: the null device that takes its place may get it at once."""
    program = f"for number in {descriptors}: os.close(number)\nprint('gone', flush=True); print('gone', flush=True)\n"
    program += "with open(sys.argv[1], 'w') as file: file.write('kept')"
    assert injections.ended(injections.start(guarded(program, str(tmp_path / "file")))).code == 0
    assert (tmp_path / "file").read_text() == "kept"


def test_a_stream_that_somebody_closes_as_a_file_goes_on() -> None:
    done = subprocess.run(
        guarded("sys.stdout.close(); sys.stderr.close(); print('on'); print('and on', file=sys.stderr)"),
        cwd=injections.ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "and on\n")


def test_what_was_printed_before_a_loss_and_around_it_comes_in_its_order() -> None:
    program = "print('one'); os.write(2, b'x'); print('two', flush=True); sys.stdout.write('three')"
    done = subprocess.run(guarded(program), cwd=injections.ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("one\ntwo\nthree", "x")


@pytest.mark.fault("a pipe that does not wait")
def test_a_pipe_that_does_not_wait_loses_nothing() -> None:
    process = injections.start(guarded("os.set_blocking(1, False)\nfor _ in range(50): print('x' * 9999)"))
    end = injections.ended(process)
    assert (end.code, end.out) == (0, ("x" * 9999 + "\n") * 50)


@pytest.mark.fault("an output whose encoding lacks a letter", lost="the letter, shown as its number")
def test_what_an_encoding_has_no_letter_for_is_shown_by_its_number() -> None:
    command = guarded("print('josé ▁▂'); print('日本', file=sys.stderr)")
    end = injections.ended(injections.start(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}))
    assert (end.code, end.out, end.err) == (0, "jos\\xe9 \\u2581\\u2582\n", "\\u65e5\\u672c\n")


PIPE = 1 << 16
"""Bytes that a pipe takes on Linux before the writer waits, of pages that are full."""


@pytest.mark.fault("SIGTERM while the display waits for its reader")
def test_a_signal_may_come_while_the_display_waits_for_its_reader() -> None:
    """The handler's own message must not get in the way of what is being printed."""
    program = (
        "import threading, json; from agents.runs.stopping import heard; asked = threading.Event()\n"
        "with heard(asked):\n"
        "    for _ in range(50): print('x' * 4095)\n"
        "    print(json.dumps(asked.is_set()))"
    )
    process = injections.start(guarded(program))
    injections.wait_until(lambda: injections.unread(process) == PIPE, process)
    process.terminate()
    end = injections.ended(process)
    assert end.code == 0, end.err
    assert json.loads(end.out.splitlines()[-1]) is True
    assert "SIGTERM: stopping after this iteration" in end.err


def test_streams_of_somebody_else_s_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    from envs.common.streams import guarded

    before = sys.stdout, sys.stderr
    with guarded():
        assert (sys.stdout, sys.stderr) == before
        print("kept")
    assert capsys.readouterr().out == "kept\n"
