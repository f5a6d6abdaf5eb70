"""The real command with caches that are damaged or cannot be written, and where nothing can be synced: the same run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agents.train import main
from envs.common import cache, disk
from envs.webshop import shop
from tests.envs.test_cache import DAMAGES, NOT_WRITABLE

SMALL = [
    *("rollout.groups=2", "rollout.group_size=2", "evaluation.episodes=2", "iterations=1", "checkpoint.every=1", "threads=1"),
    *("model.tiny.hidden=32", "model.tiny.intermediate=32", "warmstart.steps=20", "warmstart.batch=4", "device=cpu"),
    *("warmstart.demonstrations=8", "tracker.console=null", "run=it"),
]
ENVIRONMENTS = {
    "alfworld": ["env=alfworld", "env.max_steps=8", "env.train_games=6", "env.eval_games=2", "warmstart.suboptimal_share=1"],
    "webshop": ["env=webshop", "env.products=60", "env.eval_goals=6", "env.max_steps=8"],
}


def trained(environment: str, out: Path) -> bytes:
    """The weights at the end of a run that begins as a new process does."""
    shop._generated.cache_clear()
    cache._opened.clear()
    assert main([*ENVIRONMENTS[environment], *SMALL, f"out={out}"]) == 0
    return (out / "it" / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, bytes]:
    """An environment, the cache that a run in it left, and its weights."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPCREDIT_CACHE", str(folder / "cache"))
        return request.param, folder / "cache", trained(request.param, folder)


def content(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    }


@pytest.mark.fault("damaged caches", lost="the time to make them again")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_cache_that_is_damaged_all_over_is_told_and_made_again(
    whole: tuple[str, Path, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    environment, before, weights = whole
    folder = tmp_path / "cache"
    for name, kept in content(before).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(DAMAGES[damage](kept))
    monkeypatch.setenv("STEPCREDIT_CACHE", str(folder))
    assert trained(environment, tmp_path) == weights
    assert content(folder) == content(before)
    for name in content(before):
        assert f"{folder / name} is damaged" in caplog.text or f"{folder / name.parent} is damaged" in caplog.text


@pytest.mark.fault("caches that cannot be written", lost="the cache")
@pytest.mark.parametrize("place", ["read-only", "a file in the way"])
def test_a_cache_that_cannot_be_written_costs_a_warning_and_not_what_was_trained(
    whole: tuple[str, Path, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
) -> None:
    environment, _, weights = whole
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEPCREDIT_CACHE", str((NOT_WRITABLE if place == "read-only" else tmp_path / "file") / "cache"))
    assert trained(environment, tmp_path) == weights
    assert "warmstart" in caplog.text
    assert "cannot be kept" in caplog.text
    assert "STEPCREDIT_CACHE names another folder" in caplog.text


def test_tilde_in_the_place_of_the_cache_is_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STEPCREDIT_CACHE", "~/mine")
    monkeypatch.chdir(tmp_path)
    trained("alfworld", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "it"}


@pytest.mark.fault("a file system that refuses to sync", lost="certainty over power cuts, with a warning")
@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_refuses_to_sync_costs_one_warning_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(disk, "_told", False)
    trained("alfworld", tmp_path)
    assert main([f"resume={tmp_path / 'it'}", "iterations=2"]) == 0
    assert ["refuses to sync" in record.getMessage() for record in caplog.records] == [True]
