"""Demonstrations are played once and kept: the next run has the same ones, and none that are damaged or no longer true."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from agents.config.sections import EnvConfig, WarmstartConfig
from agents.training import demonstrations
from agents.training.demonstrations import SAMPLE, Demonstration, demonstrated
from envs.alfworld.config import ALFWorldConfig
from envs.alfworld.env import ALFWorldEnv
from envs.base import NoOracle, StepResult
from envs.common.cache import keep, kept

COUNT = 12


class Counting(ALFWorldEnv):
    """Counts how often its oracle is asked, and says what it is told to besides."""

    asked = 0
    says = ""

    def imperfect_demonstration(self, *arguments, **named):  # type: ignore[no-untyped-def]
        self.asked += 1
        if self.says == "no":
            raise NoOracle("not any more")
        return super().imperfect_demonstration(*arguments, **named)

    def act(self, action: str) -> StepResult:
        turn = super().act(action)
        turn.observation += self.says
        return turn


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEPCREDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "demonstrations"


def played(
    max_steps: int = 20,
    says: str = "",
    games: int = 5,
    count: int = COUNT,
    seed: int = 0,
    detours: float = 0.5,
    suboptimal: float = 0.4,
) -> tuple[list[Demonstration], int]:
    """The demonstrations, and how often the oracle was asked for them."""
    config = ALFWorldConfig(max_steps=max_steps, train_games=5)
    env = Counting(config)
    env.says = says
    warmstart = WarmstartConfig(detours=detours, suboptimal_share=suboptimal)
    tasks = env.tasks("train")[:games]
    return demonstrated(env, EnvConfig(name="alfworld", settings=config), warmstart, tasks, count, seed), env.asked


def test_a_second_run_has_the_same_demonstrations_and_plays_but_a_sample() -> None:
    first, asked = played()
    assert (len(first), asked) == (COUNT, COUNT)
    second, asked = played()
    assert second == first
    assert asked == SAMPLE


@pytest.mark.parametrize(
    "other",
    [{"max_steps": 25}, {"games": 4}, {"count": COUNT + 1}, {"seed": 1}, {"detours": 0.4}, {"suboptimal": 0.3}],
    ids=lambda other: next(iter(other)),
)
def test_they_are_kept_by_all_that_they_depend_on(other: dict[str, float]) -> None:
    played()
    _, asked = played(**other)  # type: ignore[arg-type]
    assert asked == other.get("count", COUNT)


def test_they_are_kept_by_the_source_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    played()
    monkeypatch.setattr(demonstrations, "_source", lambda kind: "edited")
    assert played()[1] == COUNT
    monkeypatch.setattr(demonstrations, "_source", lambda kind: None)  # typed at a prompt, say: it could change unseen
    assert played()[1] == played()[1] == COUNT


def test_an_edited_file_beside_the_environments_class_is_other_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "somebodys_env"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "env.py").write_text("from envs.base import TextEnv\nclass Env(TextEnv):\n    name = 'somebodys'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from somebodys_env.env import Env  # type: ignore[import-not-found]

    first = demonstrations._source(Env)
    assert first == demonstrations._source(Env)
    (package / "words.txt").write_text("a lamp")
    assert demonstrations._source(Env) != first


def test_those_that_are_no_longer_true_are_played_anew() -> None:
    played()
    changed, asked = played(says=" It rains.")
    assert asked > COUNT
    assert all("It rains." in observation for shown in changed for observation, *_ in shown[1:])
    assert played(says=" It rains.") == (changed, SAMPLE)
    with pytest.raises(NoOracle):
        played(says="no")


@pytest.mark.fault("an environment fails in a demonstration", lost="the demonstration")
@pytest.mark.parametrize("error", [ConnectionError("http://me:secret@host is down"), SystemExit(0)], ids=repr)
def test_a_task_that_fails_is_passed_over_by_name_and_nothing_is_kept(
    error: BaseException, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = ALFWorldEnv(ALFWorldConfig(train_games=5)).tasks("train")[1]
    good, start = played(games=5)[0], Counting.start

    def fails(env: Counting, task_id: str, rng: np.random.Generator) -> StepResult:
        if task_id == broken:
            raise error
        return start(env, task_id, rng)

    monkeypatch.setattr(Counting, "start", fails)
    first, asked = played()
    assert len(first) == COUNT
    assert first != good
    assert "the environment failed in 1 of 5 tasks of the warm start, which does without them" in caplog.text
    assert f"; the first is {broken}: " in caplog.text
    assert "secret" not in caplog.text
    assert played()[1] >= asked, "what was made without it is not kept"


@pytest.mark.fault("an environment fails in every demonstration", lost="nothing: no training begins")
def test_an_environment_that_fails_in_all_tasks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(env: Counting, *_: object) -> StepResult:
        raise ConnectionError("the server is down")

    monkeypatch.setattr(Counting, "start", fails)
    with pytest.raises(ConnectionError, match="the server is down"):
        played()


@pytest.mark.fault("damaged demonstrations in the cache", lost="the time to play them again")
@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_file_is_written_again(damage: bytes | None, cache: Path) -> None:
    first, _ = played()
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-100] + whole[-99:] if damage is None else damage)
    assert played() == (first, COUNT)
    assert file.read_bytes() == whole
    assert [file] == list(cache.iterdir())


def test_two_runs_may_make_them_at_once(cache: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: played()[0], range(4)))
    assert all(one == made[0] for one in made)
    assert len(list(cache.iterdir())) == 1
    assert played() == (made[0], SAMPLE)


def test_a_folder_that_cannot_be_written_to_costs_the_cache_and_not_the_run(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.mkdir()
    cache.write_text("a file in the way")
    first, _ = played()
    assert "cannot be kept" in caplog.text
    assert played() == (first, COUNT)


def test_what_is_kept_is_read_back_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file"
    assert kept(file) is None
    for content in (b"", b"one", bytes(range(256)) * 1000):
        keep(file, content)
        assert kept(file) == content
    file.write_bytes(file.read_bytes()[:-1])
    assert kept(file) is None
