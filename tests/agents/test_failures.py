"""How a run that fails ends: in words, with an exit code, and with a note in its folder."""

import errno
from pathlib import Path

import pytest

from agents import loading
from agents.checkpoint import CheckpointError
from agents.failures import reported
from agents.runfolder import RunFolder
from envs.base import TaskError
from envs.structured import ConfigError
from tests.agents.test_runfolder import HASHES, PANELS


def end(exc: BaseException, folder: RunFolder | None = None) -> int:
    with reported(folder) as outcome:
        raise exc
    return outcome.code


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Of a run that has begun, and has numbers."""
    config = loading.load([f"out={tmp_path}", "run=it"])
    folder = RunFolder.open(config)
    folder.begin(config, PANELS, HASHES)
    folder.metrics.write_text("{}\n")
    return folder


def test_a_block_that_ends_well_has_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    with reported() as outcome:
        pass
    assert outcome.code == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("exc", [TaskError("game 7 is broken"), CheckpointError("no room"), ConfigError("unknown key 'x'")])
def test_an_error_written_for_people_is_shown_as_it_is(exc: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert end(exc) == (2 if isinstance(exc, ConfigError) else 1)
    assert capsys.readouterr().err == f"error: {exc}\n"


def test_an_error_inside_a_task_group_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    end(ExceptionGroup("unhandled errors", [ExceptionGroup("again", [TaskError("game 7 is broken")])]))
    assert capsys.readouterr().err == "error: game 7 is broken\n"


def test_an_error_nobody_foresaw_keeps_its_traceback_in_the_folder(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end(ZeroDivisionError("division by zero"), folder) == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero" in shown
    assert str(folder.traceback) in shown
    assert "Traceback (most recent" not in shown
    assert "Traceback (most recent" in folder.traceback.read_text()
    assert folder.get_status()["status"] == "failed"
    assert f"resume={folder.path}" in shown


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("exc", [TaskError("game 7 is broken"), ZeroDivisionError("division by zero")])
def test_a_start_that_fails_leaves_no_folder_and_advises_no_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], exc: Exception, begun: bool
) -> None:
    config = loading.load([f"out={tmp_path}", "run=it"])
    folder = RunFolder.open(config)
    if begun:
        folder.begin(config, PANELS, HASHES)
    assert end(exc, folder) == 1
    shown = capsys.readouterr().err
    assert str(exc) in shown
    assert "resume=" not in shown
    assert ("Traceback (most recent" in shown) == isinstance(exc, ZeroDivisionError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exc", [ConfigError("another model"), KeyboardInterrupt()])
def test_a_resume_that_ends_before_it_goes_on_leaves_the_status_alone(folder: RunFolder, exc: BaseException) -> None:
    folder.set_status("finished")
    before = folder.status.read_bytes()
    assert end(exc, RunFolder.open(loading.load([f"resume={folder.path}"]))) != 0
    assert folder.status.read_bytes() == before


def test_ctrl_c_is_no_failure_and_says_how_to_go_on(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert end(KeyboardInterrupt(), folder) == 130
    assert f"resume={folder.path}" in capsys.readouterr().err
    assert folder.get_status()["status"] == "interrupted"
    assert not folder.traceback.exists()


def test_a_full_disk_and_full_memory_are_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    end(OSError(errno.ENOSPC, "No space left on device"))
    end(MemoryError())
    shown = capsys.readouterr().err
    assert "the disk is full" in shown
    assert "token_budget" in shown
    assert "Traceback" not in shown
