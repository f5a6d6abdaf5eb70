"""Trajectory files: what is read equals what was written, and what cannot be read says where and why."""

from __future__ import annotations

import gzip
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.trajectory import Step, Trajectory
from envs.trajectory_file import SCHEMA, TrajectoryFileError, TruncatedFile, append, read, repair, write

TEXT = st.text(st.characters(codec=None), max_size=20)  # any code point, lone surrogates too
FLOAT = st.floats(allow_nan=False)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOAT | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(TEXT | st.integers() | st.sampled_from(["$float", "$dict", "$"]), inner, max_size=3)
    ),
    max_leaves=8,
)
STEP = st.builds(
    Step,
    observation=TEXT,
    action=TEXT,
    reward=FLOAT,
    shaped_rewards=st.dictionaries(TEXT, FLOAT, max_size=2),
    valid=st.booleans(),
    terminated=st.booleans(),
    truncated=st.booleans(),
    state_key=TEXT,
    admissible_actions=st.none() | st.lists(TEXT, max_size=3),
    prompt_ids=st.lists(st.integers(0, 1 << 20), max_size=5),
    response_ids=st.lists(st.integers(0, 1 << 20), max_size=5),
    rollout_logprobs=st.lists(FLOAT, max_size=5),
    weights_version=st.integers(0, 1 << 40),
    versions=st.none() | st.lists(st.integers(0, 1 << 40), max_size=5),
    stop=st.sampled_from(["", "stop", "length", "context"]),
    well_formed=st.booleans(),
    executed=st.booleans(),
    changed=st.booleans(),
    subgoals=st.lists(TEXT, max_size=3),
    frame=VALUE,
    judged=st.none() | st.lists(TEXT, max_size=3),
    credit=st.none() | st.dictionaries(TEXT, VALUE, max_size=2),
    step_group=st.none() | st.integers(0, 9),
    info=st.dictionaries(TEXT, VALUE, max_size=3),
)
TRAJECTORY = st.builds(
    Trajectory,
    env_id=TEXT,
    task_id=TEXT,
    group_id=TEXT,
    seed=st.integers(0, (1 << 63) - 1),
    split=st.sampled_from(["train", "eval", "test"]),
    context=st.sampled_from(["full", "window"]),
    steps=st.lists(STEP, max_size=3),
    success=st.booleans(),
    score=FLOAT,
    error=st.none() | TEXT,
    reason=st.none() | TEXT,
    final_observation=st.none() | TEXT,
    final_frame=VALUE,
    final_state_key=TEXT,
    attempt=st.integers(0, 3),
    name=TEXT,
    parent=st.none() | st.tuples(TEXT, st.integers(0, 9)),
    reseeded=st.lists(st.tuples(st.integers(0, 9), st.integers(0, (1 << 63) - 1)), max_size=2),
)


def episode(task: str = "t", steps: int = 2) -> Trajectory:
    made = [Step(observation="où? ünïcode 🚪", action="go", reward=0.1, rollout_logprobs=[-0.1, -1e-300]) for _ in range(steps)]
    return Trajectory(env_id="e", task_id=task, group_id="g", seed=1, split="train", steps=made, score=1 / 3)


OLD = (
    rb'{"schema":"stepcredit.trajectory/1","env_id":"e","task_id":"t","group_id":"g","seed":1,"split":"train","context":"full",'
    rb'"success":false,"score":0.25,"error":null,"steps":[{"observation":"a hall","action":"go","reward":0.5,"shaped_rewards":'
    rb'{"calm":1.0},"valid":true,"terminated":false,"truncated":false,"state_key":"s","admissible_actions":["go"],"prompt_ids":'
    rb'[1],"response_ids":[2,3],"response_logprobs":[-0.5,{"$float":"-inf"}],"policy_version":4,"info":{"subgoals":["key"],'
    rb'"changed":true,"stop":"stop","frame":"@","judged":[],"credit":{"advantage":1.5},"step_group":7}},{"observation":"r",'
    rb'"action":"go aw","reward":0.0,"shaped_rewards":{},"valid":false,"terminated":false,"truncated":true,"state_key":"r",'
    rb'"admissible_actions":null,"prompt_ids":[],"response_ids":[2],"response_logprobs":[-1.0],"policy_version":4,"info":'
    rb'{"subgoals":["key"],"changed":false,"stop":"context","well_formed":false,"executed":false,"final_observation":"a room",'
    rb'"final_frame":["@"],"reason":"context","credit":3,"own":1}}]}'
)
"""An episode as version 1 wrote it."""


def test_a_version_for_each_token_is_kept_where_they_differ_and_one_number_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    mixed = Step("a", "b", response_ids=[1, 2, 3], weights_version=4, versions=[4, 4, 5])
    plain = Step("a", "b", response_ids=[1, 2, 3], weights_version=4)
    write(path, [Trajectory("e", "t", "g", 1, "train", steps=[mixed, plain])])
    assert path.read_bytes().count(b'"versions"') == 1
    (found,) = read(path)
    assert [step.token_versions for step in found.steps] == [[4, 4, 5], [4, 4, 4]]
    assert found.steps == [mixed, plain]


def test_an_episode_of_the_first_version_is_read_with_what_it_noted_in_fields(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(OLD + b"\n")
    (found,) = read(path)
    first = Step(
        "a hall",
        "go",
        reward=0.5,
        shaped_rewards={"calm": 1.0},
        state_key="s",
        admissible_actions=["go"],
        prompt_ids=[1],
        response_ids=[2, 3],
        rollout_logprobs=[-0.5, -math.inf],
        weights_version=4,
        stop="stop",
        subgoals=["key"],
        frame="@",
        judged=[],
        credit={"advantage": 1.5},
        step_group=7,
    )
    last = Step(
        "r",
        "go aw",
        valid=False,
        truncated=True,
        state_key="r",
        response_ids=[2],
        rollout_logprobs=[-1.0],
        weights_version=4,
        stop="context",
        well_formed=False,
        executed=False,
        changed=False,
        subgoals=["key"],
        info={"credit": 3, "own": 1},
    )
    whole = Trajectory("e", "t", "g", 1, "train", steps=[first, last], score=0.25, reason="context")
    whole.final_observation, whole.final_frame = "a room", ["@"]
    assert found == whole
    assert found.cut_off == "context"
    append(path, [found])
    assert list(read(path)) == [whole, whole], "both versions may stand in one file"


def test_what_has_its_default_takes_no_place(tmp_path: Path) -> None:
    write(tmp_path / "t.jsonl", [Trajectory("e", "t", "g", 1, "train", steps=[Step("seen", "go", reward=-0.0)])])
    assert orjson.loads((tmp_path / "t.jsonl").read_bytes()) == {
        "schema": SCHEMA,
        "env_id": "e",
        "task_id": "t",
        "group_id": "g",
        "seed": 1,
        "split": "train",
        "steps": [{"observation": "seen", "action": "go", "reward": -0.0}],
    }


@settings(max_examples=150, deadline=None)
@given(trajectories=st.lists(TRAJECTORY, max_size=3), suffix=st.sampled_from([".jsonl", ".jsonl.gz"]))
def test_what_is_read_equals_what_was_written(
    trajectories: list[Trajectory], suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"trip{suffix}"
    assert write(path, trajectories) == len(trajectories)
    found = list(read(path))
    assert found == trajectories
    assert repr(found) == repr(trajectories)  # tells 1 from 1.0, 0.0 from -0.0 and a tuple from a list, where == does not
    append(path, trajectories)
    assert list(read(path)) == trajectories * 2


def test_not_a_number_and_the_infinities_are_kept(tmp_path: Path) -> None:
    odd = episode()
    odd.score = math.nan
    odd.steps[0].rollout_logprobs = [-math.inf, math.nan, -0.0, 5e-324, 1.7976931348623157e308]
    write(tmp_path / "t.jsonl", [odd])
    (found,) = read(tmp_path / "t.jsonl")
    assert repr(found) == repr(odd)


def test_a_numpy_scalar_becomes_a_number_and_any_other_object_is_refused_by_its_place(tmp_path: Path) -> None:
    odd = episode()
    odd.steps[1].info = {"depth": np.int64(3), "loss": np.float32(0.1)}
    write(tmp_path / "t.jsonl", [odd])
    assert next(read(tmp_path / "t.jsonl")).steps[1].info == {"depth": 3, "loss": float(np.float32(0.1))}
    odd.steps[1].info = {"map": [np.zeros(2)]}
    with pytest.raises(TrajectoryFileError, match=r"steps\[1\]\.info\.map\[0\] is a ndarray.*allowed: None, bool"):
        write(tmp_path / "t.jsonl", [odd])


@pytest.mark.fault("a write breaks off", lost="the new content")
def test_a_failed_write_keeps_the_older_file_and_leaves_no_other(tmp_path: Path) -> None:
    write(tmp_path / "t.jsonl", [episode("old")])
    bad = episode()
    bad.steps[0].info = {"x": object()}
    with pytest.raises(TrajectoryFileError):
        write(tmp_path / "t.jsonl", [episode("new"), bad])
    assert [trajectory.task_id for trajectory in read(tmp_path / "t.jsonl")] == ["old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.jsonl"]


@pytest.mark.fault("a file of episodes was cut off", lost="the episode that was being written")
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_truncated_last_line_is_told_after_the_good_ones(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    for number in range(3):
        append(path, [episode(str(number), steps=40)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    found = read(path)
    assert [next(found).task_id, next(found).task_id] == ["0", "1"]
    with pytest.raises(TruncatedFile, match=r"line 3: incomplete, its writer was stopped"):
        next(found)
    with pytest.warns(RuntimeWarning, match=r"line 3: incomplete"):
        assert [trajectory.task_id for trajectory in read(path, truncated="warn")] == ["0", "1"]
    repair(path)
    append(path, [episode("3")])
    assert [trajectory.task_id for trajectory in read(path)] == ["0", "1", "3"]


@pytest.mark.fault("a file of episodes was cut off", lost="the episode that was being written")
def test_nothing_is_added_behind_a_truncated_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write(path, [episode()])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TruncatedFile, match=r"call repair\(\)"):
        append(path, [episode()])


def test_a_last_line_that_only_lacks_its_end_is_good(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write(path, [episode()])
    path.write_bytes(path.read_bytes()[:-1])
    assert list(read(path)) == [episode()]


def changed(**entries: Any) -> bytes:
    record = {"schema": SCHEMA, **{entry.name: getattr(episode(), entry.name) for entry in fields(Trajectory)}}
    record.update(entries)
    return orjson.dumps({key: value for key, value in record.items() if value != "absent"})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"schema": "stepcr', "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[1, 2]", "not a trajectory: its schema is None"),
        (changed(schema="stepcredit.trajectory/3"), "its schema is 'stepcredit.trajectory/3', this program reads"),
        (changed(schema="other/1"), "not a trajectory: its schema is 'other/1'"),
        (changed(seed="absent"), r"lacks the fields \['seed'\]"),
        (changed(color="red"), r"unknown fields \['color'\]"),
        (changed(seed="one"), "the trajectory.seed is str, expected int"),
        (changed(steps=[{"observation": "x"}]), r"steps\[0\] lacks the fields \['action'\]"),
        (changed(steps=[{"observation": "x", "action": "y", "subgoals": "key"}]), r"steps\[0\].subgoals is str, expected list"),
        (changed(steps=[{"observation": "x", "action": "y", "credit": 3.5}]), r"steps\[0\].credit is float, expected dict"),
        (changed(parent=["g/0", 1]), "parent is list, expected tuple"),
        (changed(schema="stepcredit.trajectory/1", steps=["x"]), "a step has no info"),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: bytes, message: str, last: bool) -> None:
    path = tmp_path / "t.jsonl"
    write(path, [episode()])
    good = path.read_bytes()
    path.write_bytes(good + line + b"\n" + (b"" if last else good))
    with pytest.raises(TrajectoryFileError, match=f"t.jsonl, line 2: .*{message}") as caught:
        list(read(path))
    assert not isinstance(caught.value, TruncatedFile)


@pytest.mark.fault("a damaged file of episodes", lost="its episodes")
def test_broken_gzip_data_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(b"x" * 1000)[:15] + b"garbage" * 9)
    with pytest.raises(TrajectoryFileError, match=r"t\.jsonl\.gz, line 1"):
        list(read(path))
