"""Files are on the disk before their names are, whole or not at all; a file system that refuses to sync costs a warning."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from envs.common import disk


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has written nothing yet."""
    monkeypatch.setattr(disk, "_told", False)
    monkeypatch.setattr(disk, "_cleared", set())


def refuse(monkeypatch: pytest.MonkeyPatch, code: int, only_folders: bool = False) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) or not only_folders:
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def synced(monkeypatch: pytest.MonkeyPatch, target: Path) -> list[tuple[str, bool]]:
    """Filled with what is synced from now on: the kind, and whether `target` was there already."""
    real, found = os.fsync, list[tuple[str, bool]]()

    def fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        found.append((kind, target.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_a_file_is_synced_before_it_has_its_name_and_its_folder_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = synced(monkeypatch, tmp_path / "it")
    disk.write(tmp_path / "it", b"content")
    assert found == [("file", False), ("folder", True)]
    assert (tmp_path / "it").read_bytes() == b"content"


def test_all_of_a_folder_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = synced(monkeypatch, tmp_path / "it")
    with disk.aside(tmp_path / "it") as partial:
        (partial / "below").mkdir(parents=True)
        (partial / "below" / "one").write_text("1")
        (partial / "two").write_text("2")
    assert sorted(found[:-1]) == [("file", False), ("file", False), ("folder", False), ("folder", False)]
    assert found[-1] == ("folder", True)


def test_folders_that_are_made_are_synced_into_those_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = synced(monkeypatch, tmp_path / "a" / "b" / "c")
    disk.folder(tmp_path / "a" / "b" / "c")
    assert found == [("folder", True)] * 3
    disk.folder(tmp_path / "a" / "b" / "c")
    assert len(found) == 3


@pytest.mark.fault("a write breaks off", lost="the new content")
@pytest.mark.parametrize("before", ["file", "folder", "nothing"])
def test_a_block_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path, before: str) -> None:
    if before == "file":
        (tmp_path / "it").write_text("old")
    elif before == "folder":
        (tmp_path / "it").mkdir()
    there = list(tmp_path.rglob("*"))

    def interrupted() -> None:
        with disk.aside(tmp_path / "it") as partial:
            (partial / "deep").mkdir(parents=True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.rglob("*")) == there


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with disk.aside(tmp_path / "it") as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert [path.name for path in tmp_path.rglob("*")] == ["it", "new"]


@pytest.mark.fault("a file system that refuses to sync", lost="certainty over power cuts, with a warning")
@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("only_folders", [True, False])
def test_a_file_system_that_refuses_to_sync_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int, only_folders: bool
) -> None:
    refuse(monkeypatch, code, only_folders)
    for content in (b"first", b"second"):
        disk.folder(tmp_path / "deep")
        disk.write(tmp_path / "deep" / "it", content)
        with (tmp_path / "lines").open("ab") as file:
            file.write(content)
            disk.flush(file)
    assert (tmp_path / "deep" / "it").read_bytes() == b"second"
    assert (tmp_path / "lines").read_bytes() == b"firstsecond"
    assert len(caplog.records) == 1
    assert "refuses to sync" in caplog.text


@pytest.mark.fault("a disk fails to sync", lost="the new content")
def test_a_disk_that_fails_to_sync_is_an_error_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.write(tmp_path / "it", b"old")
    refuse(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        disk.write(tmp_path / "it", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("it", b"old")]


@pytest.mark.fault("kill -9 while a file is written", lost="the new content")
def test_leftovers_of_the_dead_are_deleted_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    old, young, growing = (tmp_path / f".{name}.0123456789ab.partial" for name in ("old", "young", "growing"))
    (old / "below").mkdir(parents=True)
    (old / "below" / "file").write_text("half")
    young.write_text("half")
    growing.mkdir()
    long_ago = time.time() - disk.OLD_S - 60
    for path in (old / "below" / "file", old / "below", old, growing):
        os.utime(path, (long_ago, long_ago))
    (growing / "new").write_text("just written")
    os.utime(growing, (long_ago, long_ago))
    foreign = tmp_path / ".download.partial"
    foreign.write_text("of another program")
    os.utime(foreign, (long_ago, long_ago))
    disk.write(tmp_path / "it", b"")
    assert {path.name for path in tmp_path.iterdir()} == {"it", young.name, growing.name, foreign.name}


@pytest.mark.parametrize("name", ["x" * 255, "\U0001f511" * 60])
def test_a_name_as_long_as_a_file_system_takes_can_be_written(tmp_path: Path, name: str) -> None:
    disk.write(tmp_path / name, b"content")
    assert [path.name for path in tmp_path.iterdir()] == [name]
