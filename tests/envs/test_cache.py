"""What is read from a cache is what was written into it; whatever is wrong with one, it costs time and a warning."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from envs.common import cache, disk

ROOT = Path(__file__).resolve().parents[2]
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeroed": lambda content: bytes(len(content)),
    "flipped": lambda content: content[:-2] + bytes([content[-2] ^ 1]) + content[-1:],
    "longer": lambda content: content + b"\0",
}
NOT_WRITABLE = Path("/proc/self")
"""Whoever asks, and root too."""


def fill(folder: Path) -> None:
    (folder / "one").write_bytes(b"first content")
    (folder / "two").write_bytes(b"second content")


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("one", "two")}


def in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_opened", {})


def test_the_cache_is_where_the_variable_says_and_tilde_means_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, expected in {"~/mine": tmp_path / "mine", "": tmp_path / ".cache/stepcredit", "/x": Path("/x")}.items():
        monkeypatch.setenv("STEPCREDIT_CACHE", given)
        assert cache.cache_folder() == expected


def test_without_a_home_the_cache_is_among_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STEPCREDIT_CACHE", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)  # nobody's
    assert cache.cache_folder() == Path(tempfile.gettempdir()) / "stepcredit-4000000000"
    monkeypatch.setenv("STEPCREDIT_CACHE", "~/mine")
    assert cache.cache_folder().name == "stepcredit-4000000000"


# -- files ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.fault("damaged caches", lost="the time to make them again")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_told_and_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    file = tmp_path / "file"
    cache.keep(file, b"what was computed for an hour")
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert cache.kept(file) is None
    assert f"{file} is damaged" in caplog.text


@pytest.mark.fault("caches that cannot be written", lost="the cache")
def test_a_file_that_cannot_be_kept_is_told(caplog: pytest.LogCaptureFixture) -> None:
    cache.keep(NOT_WRITABLE / "cache" / "file", b"content")
    assert "cannot be kept" in caplog.text
    assert "STEPCREDIT_CACHE" in caplog.text
    assert cache.kept(NOT_WRITABLE / "cache" / "file") is None


@pytest.mark.fault("kill -9 while a cache is written", lost="the cache")
def test_what_killed_writers_of_any_version_left_is_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_cleared", set())
    leftovers = ["it.123.partial", "file.1-2.partial", ".lucene-1-abc.unfinished", ".it.0123456789ab.partial"]
    for name in leftovers:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1, 1))
    cache.keep(tmp_path / "file", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.fault("a full disk at a cache", lost="the cache")
def test_a_full_disk_costs_the_file_and_leaves_nothing(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.keep(small_disk / "deep" / "file", bytes(2_000_000))
    assert "No space left" in caplog.text
    assert list(small_disk.rglob("*")) == [small_disk / "deep"]


# -- folders -------------------------------------------------------------------------------------------------------------------


def test_a_folder_is_made_once_and_then_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert content(cache.made(tmp_path / "it", fill))
    in_a_new_process(monkeypatch)
    assert cache.made(tmp_path / "it", lambda folder: pytest.fail("made again")) == tmp_path / "it"


@pytest.mark.fault("damaged caches", lost="the time to make them again")
@pytest.mark.parametrize("damage", [*DAMAGES, "lost"])
@pytest.mark.parametrize("name", ["one", "two", cache.PROOF])
def test_a_damaged_folder_is_told_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    file = cache.made(tmp_path / "it", fill) / name
    whole = content(file.parent)
    if damage == "lost":
        file.unlink()
    else:
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    in_a_new_process(monkeypatch)
    assert content(cache.made(tmp_path / "it", fill)) == whole
    assert f"{tmp_path / 'it'} is damaged" in caplog.text
    in_a_new_process(monkeypatch)
    cache.made(tmp_path / "it", lambda folder: pytest.fail("made again"))
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["it"]


def test_a_folder_of_an_older_version_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "one").write_text("nobody knows")
    assert content(cache.made(tmp_path / "it", fill))["one"] == b"first content"


@pytest.mark.fault("a cache is deleted while it is used", lost="the time to make it again")
def test_a_folder_that_vanishes_while_a_process_goes_on_is_made_again(tmp_path: Path) -> None:
    cache.made(tmp_path / "it", fill).rename(tmp_path / "elsewhere")
    assert content(cache.made(tmp_path / "it", fill))


@pytest.mark.fault("caches that cannot be written", lost="the cache")
@pytest.mark.parametrize("why", ["read-only", "a file in the way"])
def test_a_folder_that_cannot_be_written_is_made_for_this_process_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    (tmp_path / "file").write_text("")
    wanted = (NOT_WRITABLE if why == "read-only" else tmp_path / "file") / "cache" / "it"
    found = cache.made(wanted, fill)
    assert len(content(found)) == 2
    assert not wanted.exists()
    assert cache.made(wanted, lambda folder: pytest.fail("made again")) == found
    assert len(caplog.records) == 1
    assert "cannot be written" in caplog.text


@pytest.mark.fault("a full disk at a cache", lost="the cache")
def test_a_full_disk_costs_the_folder_and_leaves_nothing(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    def large(folder: Path) -> None:
        (folder / "file").write_bytes(bytes(2_000_000))

    assert (cache.made(small_disk / "it", large) / "file").stat().st_size == 2_000_000
    assert "No space left" in caplog.text
    assert not [path for path in small_disk.iterdir() if path.is_dir()]


@pytest.mark.fault("what makes a cache fails", lost="the cache")
def test_what_fails_to_be_made_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.made(tmp_path / "it", fail)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert content(cache.made(tmp_path / "it", fill))


MAKER = """
import os, sys, time
from pathlib import Path
from envs.common import cache

def fill(folder):
    with open(sys.argv[2], "a") as made:
        made.write("x")
    for number in range(50):
        (folder / str(number)).write_text("content")
        time.sleep(0.002)

sys.stdin.read()
found = cache.made(Path(sys.argv[1]), fill)
print(sum((found / str(number)).read_text() == "content" for number in range(50)))
"""


@pytest.mark.fault("several runs need a cache at once")
def test_of_processes_that_need_it_at_once_one_makes_it_and_the_others_wait(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKER, str(tmp_path / "it"), str(tmp_path / "made")]
    makers = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.close()
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.read().strip() == "50"
        assert maker.wait() == 0
    assert (tmp_path / "made").read_text() == "x"
