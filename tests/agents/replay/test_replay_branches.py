"""Branches in the replay: where they left an episode, and what they returned from there on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from agents import train
from agents.replay import __main__ as replay
from agents.replay.reading import read
from agents.replay.view import Branch
from agents.runs.folder import RunFolder
from envs import registry, trajectory_file
from envs.trajectory import Trajectory
from tests.agents.replay.replayed import episode, step, write_run
from tests.envs import toys

registry.register("hallway", "tests/Hallway-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)


def leaf(
    name: str, parent: tuple[str, int], rewards: list[float], advantage: float | None = None, **more: object
) -> Trajectory:
    """A branch with a step for each reward, those that it shares included."""
    credit = None if advantage is None else {"advantage": advantage}
    steps = [step("wait", credit if t >= parent[1] else None, reward=reward) for t, reward in enumerate(rewards)]
    return episode(steps, name=name, parent=parent, **more)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """An episode of three steps, and another one."""
    steps = [step("wait", {"advantage": 0.5}) for _ in range(3)]
    begun = [episode(steps, name="g0/0"), episode([step("wait", {"advantage": 0.5})], name="g0/1")]
    return write_run(tmp_path / "it", begun, config="algo:\n  name: vineppo\n  gamma: 0.5\nenv:\n  name: room\n")


def test_a_branch_is_shown_at_the_step_before_which_it_left_with_its_return_from_there(run: RunFolder) -> None:
    run.write_branches(
        1,
        [
            leaf("g0/0>0#1", ("g0/0", 0), [4.0, 2.0], success=True),
            leaf("g0/0>2#1", ("g0/0", 2), [9.0, 9.0, 1.0, 1.0], success=True),
            leaf("g0/0>2#2", ("g0/0", 2), [9.0, 9.0, 0.0]),
            leaf("g0/0>2#3", ("g0/0", 2), [9.0, 9.0], error="the environment died"),
        ],
    )
    first, other = read(run.path).episodes
    assert first.steps[0].branches == [Branch(5.0, True, None)]
    assert first.steps[1].branches == []
    assert first.steps[2].branches == [Branch(1.5, True, None), Branch(0.0, False, None), Branch(None, False, None)]
    assert other.steps[0].branches == []


def test_what_was_branched_from_a_branch_left_the_episode_where_that_did(run: RunFolder) -> None:
    leaves = [
        leaf("a", ("g0/0", 1), [0.0, 1.0, 0.0], advantage=0.7),
        leaf("b", ("a", 2), [0.0, 1.0, 4.0], advantage=0.9),
        leaf("c", ("b", 0), [8.0], advantage=-0.1),
    ]
    run.write_branches(1, leaves)
    steps = read(run.path).episodes[0].steps
    assert [(one.returned, one.advantage) for one in steps[0].branches] == [(8.0, -0.1)]
    assert [(one.returned, one.advantage) for one in steps[1].branches] == [(1.0, 0.7), (3.0, pytest.approx(0.9))]


def test_page_and_terminal_say_it(run: RunFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    returns = [1.0, 0.0, 1.0, 1.0]
    values = [leaf(f"g0/0>1#{n}", ("g0/0", 1), [0.0, one], success=one > 0) for n, one in enumerate(returns)]
    lost = leaf("g0/0>1#x", ("g0/0", 1), [0.0], error="the environment died")
    run.write_branches(1, [*values, lost, leaf("l", ("g0/0", 2), [0.0, 0.0, 1.0], advantage=0.7, success=True)])
    page = tmp_path / "page.html"
    assert replay.main([str(run.path), "episode=1", "--html", str(page)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    said = "5 branches from here, 3 won, mean return 0.75 (3 x 1, 0), 1 cut off by a fault"
    for text in (printed, page.read_text()):
        assert said in text
        assert "1 branch from here, 1 won, mean return 1 (1 credited +0.70)" in text


def test_results_of_many_kinds_are_summed_up(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run.write_branches(1, [leaf(f"b{n}", ("g0/0", 0), [n / 10]) for n in range(9)])
    assert replay.main([str(run.path), "episode=1"]) == 0
    assert "(0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 3 others)" in " ".join(capsys.readouterr().out.split())


def test_an_episode_that_is_no_leaf_to_learn_from_says_so(run: RunFolder) -> None:
    stored = list(trajectory_file.read(run.trajectories(1)))
    for one in stored[0].steps:
        one.credit = None
    run.write_trajectories(1, stored)
    run.write_branches(1, [leaf("a", ("g0/0", 1), [0.0, 1.0], advantage=0.7)])
    assert read(run.path).episodes[0].left_out == "its tree was learned from by other leaves"


@pytest.mark.parametrize("method", ["vineppo", "tree_grpo"])
def test_a_run_of_a_method_on_branches_is_shown_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    words = ["env=hallway", "warmstart.enabled=false", "rollout.groups=2", "rollout.group_size=2", "threads=1", "iterations=1"]
    words += ["evaluation.before=false", "evaluation.after=false", f"algo={method}", f"out={tmp_path}", "run=it"]
    assert train.main(words) == 0
    signal.signal(signal.SIGTERM, before)
    run = RunFolder(tmp_path / "it")
    branches = list(trajectory_file.read(run.branches(1)))
    shown = [one for e in read(run.path).episodes for s in e.steps for one in s.branches]
    assert len(shown) == len(branches) > 7
    assert all((one.advantage is not None) == (method == "tree_grpo") for one in shown)
    assert replay.main([str(run.path)]) == 0
    assert "from here, " in " ".join(capsys.readouterr().out.split())
