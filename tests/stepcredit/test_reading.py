"""Episodes from files and run folders, and as a table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import stepcredit
from envs.trajectory import Trajectory
from envs.trajectory_file import append, write
from tests.algorithms.examples import episode


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with two iterations, and an evaluation in which a fault was played again."""
    folder = tmp_path / "run"
    (folder / "trajectories").mkdir(parents=True)
    for iteration in (2, 10):
        path = folder / "trajectories" / f"iteration_{iteration:06d}.jsonl.gz"
        write(path, [episode([0.0, float(iteration)], group=f"{iteration}")])
    fault, good = episode([0.0], group="a", error="crash: x"), episode([1.0], group="a")
    fault.split = good.split = "eval"
    append(folder / "evaluation-eval-123.episodes.jsonl", [fault])
    append(folder / "evaluation-eval-123.episodes.jsonl", [good])
    return folder


def groups(found: object) -> list[str]:
    return [one.group_id for one in found]  # type: ignore[attr-defined]


def test_of_a_run_all_iterations_are_read_in_order_or_one(run: Path) -> None:
    assert groups(stepcredit.read_trajectories(run)) == ["2", "10"]
    assert groups(stepcredit.read_trajectories(str(run), iteration=10)) == ["10"]
    assert groups(stepcredit.read_trajectories(run, split="train")) == ["2", "10"]


def test_of_an_evaluation_the_newest_of_each_episode_is_read(run: Path) -> None:
    (one,) = stepcredit.read_trajectories(run, split="eval")
    assert (one.error, one.total_reward) == (None, 1.0)


def test_a_file_is_read_whole_or_by_split(run: Path) -> None:
    file = run / "evaluation-eval-123.episodes.jsonl"
    assert len(list(stepcredit.read_trajectories(file))) == 2
    assert not list(stepcredit.read_trajectories(file, split="train"))


def test_what_is_not_there_is_said_at_once_with_what_is(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no episodes of iteration 3; there are 2, 10"):
        stepcredit.read_trajectories(run, iteration=3)
    with pytest.raises(FileNotFoundError, match="no episodes of split test"):
        stepcredit.read_trajectories(run, split="test")
    with pytest.raises(FileNotFoundError, match="no file or run folder"):
        stepcredit.read_trajectories(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="has no trajectories"):
        stepcredit.read_trajectories(tmp_path)
    with pytest.raises(ValueError, match="no run folder"):
        stepcredit.read_trajectories(run / "evaluation-eval-123.episodes.jsonl", iteration=1)


def test_an_unfinished_last_line_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    write(file, [episode([1.0]), episode([0.0])])
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.warns(RuntimeWarning, match="incomplete"):
        assert len(list(stepcredit.read_trajectories(file))) == 1


def with_credit() -> list[Trajectory]:
    one, other = episode([0.0, 1.0], states="ab"), episode([0.5], states="a", error="timeout: x")
    one.steps[1].shaped_rewards = {"bonus": 0.25}
    one.steps[0].credit = {"advantage": -0.5, "step": 0.0}
    return [one, other]


def test_a_table_has_a_row_for_each_step() -> None:
    pytest.importorskip("pandas")
    table = stepcredit.to_dataframe(with_credit())
    assert table["episode"].tolist() == [0, 0, 1]
    assert table["step"].tolist() == [0, 1, 0]
    assert table["state_key"].tolist() == ["a", "b", "a"]
    assert table["reward"].tolist() == [0.0, 1.0, 0.5]
    assert table["shaped/bonus"].fillna(0).tolist() == [0, 0.25, 0]
    assert table["credit/advantage"].fillna(0).tolist() == [-0.5, 0, 0]
    assert table["error"].tolist()[2] == "timeout: x"
    assert table["tokens"].tolist() == [2, 2, 2]


def test_without_pandas_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"^to_dataframe needs pandas: pip install pandas$"):
        stepcredit.to_dataframe(with_credit())
