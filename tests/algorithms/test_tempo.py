"""TEMPO: what its prefix tree is, where a token is credited beside its episode, and what is no parting."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.grpo import GRPO
from algorithms.tempo import TEMPO
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch

quick = settings(max_examples=60, deadline=None)
Said = list[tuple[str, list[int]]]
"""The state and the sampled tokens of each step of an episode."""


def played(said: Said, reward: float, group: str = "task") -> Trajectory:
    steps = [Step("", "", state_key=state, response_ids=list(ids)) for state, ids in said]
    steps[-1].reward = reward
    return Trajectory("env", group, group, 0, "train", steps=steps)


def credit(trajectories: list[Trajectory], **settings: Any) -> list[list[float]]:
    """The advantages of each trajectory's tokens."""
    batch = as_batch(trajectories)
    values = TEMPO(**settings).advantages(batch).values
    per_episode = np.bincount(batch.episode, batch.tokens, len(trajectories)).astype(int)
    return [part.tolist() for part in np.split(values, np.cumsum(per_episode)[:-1])]


def words(said: Said) -> list[tuple[str | None, int]]:
    """Each token, and at a step's first one the state in which it was sampled."""
    return [(None if place else state, token) for state, ids in said for place, token in enumerate(ids)]


def by_definition(tasks: list[tuple[str, Said, float]], std: bool) -> list[list[float]]:
    """A(i,j), prefix by prefix."""
    found = []
    for group, said, reward in tasks:
        alike = [(words(other), r) for g, other, r in tasks if g == group]
        returns = np.array([r for _, r in alike])
        scale = 1.0
        if std:
            scale = 1 / (returns.std(ddof=1) + 1e-6) if len(returns) > 1 and np.ptp(returns) else 0.0
        text = words(said)
        value = [np.mean([r for other, r in alike if other[:n] == text[:n]]) for n in range(len(text) + 1)]
        found.append([float((reward - returns.mean() + after - before) * scale) for before, after in pairwise(value)])
    return found


steps = st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 2), max_size=3)), min_size=1, max_size=3)
tasks = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), steps, st.sampled_from([0.0, 1.0, 10.0, 1 / 3])), min_size=1, max_size=8
)


@given(tasks, st.booleans())
@quick
def test_advantages_are_those_of_the_definition(made: list[tuple[str, Said, float]], std: bool) -> None:
    found = credit([played(said, reward, group) for group, said, reward in made], normalize="std" if std else "mean")
    for row, expected in zip(found, by_definition(made, std), strict=True):
        np.testing.assert_allclose(row, expected, atol=1e-8)


@given(st.lists(st.sampled_from([0.0, 1.0, 0.3]), min_size=1, max_size=6), steps, st.sampled_from(["std", "mean"]))
@quick
def test_without_branches_it_is_grpo(rewards: list[float], said: Said, norm: Any) -> None:
    trajectories = [played(said, reward) for reward in rewards]
    batch = as_batch(trajectories)
    expected = np.repeat(GRPO(normalize=norm).advantages(batch).values, batch.tokens)
    np.testing.assert_array_equal(TEMPO(normalize=norm).advantages(batch).values, expected)


@given(tasks, st.sampled_from([1.0, 0.1, 1 / 3]))
@quick
def test_equal_returns_give_exact_zeros_whatever_was_said(made: list[tuple[str, Said, float]], reward: float) -> None:
    for row in credit([played(said, reward, group) for group, said, _ in made]):
        assert row == [0.0] * len(row)


def test_a_branch_of_equal_returns_adds_nothing_to_its_inner_partings() -> None:
    good = [played([("", [1, token])], 0.1) for token in (2, 3, 4)]
    found = credit([*good, played([("", [9])], 0.0)], normalize="mean")
    assert [row[1] for row in found[:3]] == [pytest.approx(0.025)] * 3
    assert {row[1] for row in found[:3]} == {found[0][1]}


@pytest.mark.parametrize("lone", ["zero", "raw"])
def test_a_lone_response_gets_no_nan(lone: Any) -> None:
    (found,) = credit([played([("", [1, 2])], 5.0)], singleton_group=lone)
    assert found == pytest.approx([0.0 if lone == "zero" else 5.0] * 2, rel=1e-5)


def test_equal_tokens_in_another_state_or_another_step_are_another_prefix() -> None:
    here, there = [("a", [1]), ("b", [2])], [("a", [1]), ("c", [2])]
    rewards = 1.0, 0.0
    for other, branches in ((there, [0.0, 0.5]), ([("a", [1, 2])], [0.0, 0.5]), (here, [0.0, 0.0])):
        found = credit([played(here, rewards[0]), played(other, rewards[1])], normalize="mean")
        assert found == [[0.5 + b for b in branches], [-0.5 - b for b in branches]]
    without = [[("", ids) for _, ids in said] for said in (here, there)]
    found = credit([played(said, r) for said, r in zip(without, rewards)], normalize="mean")
    assert found == [[0.5, 0.5], [-0.5, -0.5]], "without state keys equal tokens have to do"
