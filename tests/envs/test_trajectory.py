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

from envs.trajectory import SCHEMA, Step, Trajectory, TrajectoryFileError, TruncatedFile, append, read, repair, write

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
    response_logprobs=st.lists(FLOAT, max_size=5),
    policy_version=st.integers(0, 1 << 40),
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
)


def episode(task: str = "t", steps: int = 2) -> Trajectory:
    made = [
        Step(observation="où? ünïcode 🚪", action="go", reward=0.1, response_logprobs=[-0.1, -1e-300]) for _ in range(steps)
    ]
    return Trajectory(env_id="e", task_id=task, group_id="g", seed=1, split="train", steps=made, score=1 / 3)


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
    odd.steps[0].response_logprobs = [-math.inf, math.nan, -0.0, 5e-324, 1.7976931348623157e308]
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


def test_a_failed_write_keeps_the_older_file_and_leaves_no_other(tmp_path: Path) -> None:
    write(tmp_path / "t.jsonl", [episode("old")])
    bad = episode()
    bad.steps[0].info = {"x": object()}
    with pytest.raises(TrajectoryFileError):
        write(tmp_path / "t.jsonl", [episode("new"), bad])
    assert [trajectory.task_id for trajectory in read(tmp_path / "t.jsonl")] == ["old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.jsonl"]


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
        (changed(schema="stepcredit.trajectory/2"), "its schema is 'stepcredit.trajectory/2', this program reads"),
        (changed(schema="other/1"), "not a trajectory: its schema is 'other/1'"),
        (changed(seed="absent"), r"lacks the fields \['seed'\]"),
        (changed(colour="red"), r"unknown fields \['colour'\]"),
        (changed(seed="one"), "the trajectory.seed is str, expected int"),
        (changed(steps=[{"observation": "x"}]), r"steps\[0\] lacks the fields"),
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


def test_broken_gzip_data_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(b"x" * 1000)[:15] + b"garbage" * 9)
    with pytest.raises(TrajectoryFileError, match=r"t\.jsonl\.gz, line 1"):
        list(read(path))
