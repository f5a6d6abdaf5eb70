"""Trajectories for tests: small ones written by hand, and hypothesis strategies for random ones."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from hypothesis import strategies as st

from agents.config.loading import load
from algorithms.shaping import Shaping
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch


def episode(
    rewards: list[float],
    *,
    group: str = "task",
    states: str | None = None,
    tokens: int = 2,
    valid: list[bool] | None = None,
    **fields: Any,
) -> Trajectory:
    """One trajectory; `states` has a letter for each step's state (default: all different within and between episodes)."""
    steps = [
        Step(
            f"observation {t}",
            f"action {t}",
            reward,
            valid=valid[t] if valid else True,
            state_key=states[t] if states else f"{group} {id(rewards)} {t}",
            response_ids=list(range(tokens)),
        )
        for t, reward in enumerate(rewards)
    ]
    return Trajectory("env", group, group, 0, "train", steps=steps, success=sum(rewards) > 0, **fields)


@cache
def official(name: str) -> dict[str, Any]:
    """The method's settings with which it computes what its authors' trainer does: conf/algo/<name>_official.yaml."""
    return {key: value for key, value in load([f"algo={name}_official"]).algo.items() if key != "name"}


def shape(shaping: Shaping, trajectories: Sequence[Trajectory], name: str) -> None:
    """Write the shaping's rewards into the steps, as a trainer does."""
    rewards = asyncio.run(shaping.shape(as_batch(trajectories)))
    for step, reward in zip((step for one in trajectories for step in one.steps), rewards.tolist(), strict=True):
        if not math.isnan(reward):
            step.shaped_rewards[name] = reward


REWARDS = (0.0, 0.0, 0.0, 1.0, 10.0, -0.1, 0.25, 1 / 3)
TEXTS = ("you see a door", "you see a desk", "nothing happens", "you see a door")


def _step(bits: int) -> Step:
    """A step read off 12 bits: one drawn number a step keeps hypothesis quick."""
    return Step(
        observation=TEXTS[bits & 3],
        action="go",
        reward=REWARDS[bits >> 2 & 7],
        shaped_rewards={name: 0.5 for place, name in enumerate(("invalid_action", "subgoal")) if bits >> 5 + place & 1},
        valid=bool(bits >> 7 & 1),
        state_key="abcd"[bits >> 8 & 3],
        response_ids=list(range(bits >> 10 & 3)),
    )


def _trajectory(task: str, steps: list[int], success: bool, error: str | None) -> Trajectory:
    last = ("", "a", "b", "e")[sum(steps) & 3]
    played = [_step(bits) for bits in steps]
    return Trajectory("env", task, task, 0, "train", steps=played, success=success, error=error, final_state_key=last)


def trajectories(faults: bool = True) -> st.SearchStrategy[list[Trajectory]]:
    """Lists of random trajectories of up to three tasks that share states; with `faults`, some were cut off."""
    steps = st.lists(st.integers(0, 2**12 - 1), min_size=1, max_size=5)
    errors = st.sampled_from([None, None, "timeout"] if faults else [None])
    tasks = st.sampled_from(["task 1", "task 2", "task 3"])
    return st.lists(st.builds(_trajectory, tasks, steps, st.booleans(), errors), min_size=1, max_size=7)


def walk(
    states: str, won: bool = False, *, last: str = "", group: str = "task", actions: str | None = None, error: str | None = None
) -> Trajectory:
    """An episode through states, a letter each, that pays 10 at its end if it is won; `last`: the state it ended in."""
    steps = [
        Step(
            f"you see a {state * 3}",
            (actions or states[1:] + last.ljust(1, "?"))[t],
            10.0 * (won and t == len(states) - 1),
            state_key=state,
            response_ids=[0, 1],
        )
        for t, state in enumerate(states)
    ]
    ends: dict[str, Any] = {"final_state_key": last, "final_observation": f"you see a {last * 3}" if last else None}
    return Trajectory("env", group, group, 0, "train", steps=steps, success=won, error=error, **ends)


def walks(faults: bool = False) -> st.SearchStrategy[list[Trajectory]]:
    """Random walks of up to two tasks through a few states; some end in a state that is not known."""
    one = st.builds(
        lambda states, won, last, group, error: walk(states, won, last=last, group=group, error=error),
        st.text("abcde", min_size=1, max_size=6),
        st.booleans(),
        st.sampled_from(["", "a", "c", "z"]),
        st.sampled_from(["task 1", "task 2"]),
        st.sampled_from([None, None, "timeout"] if faults else [None]),
    )
    return st.lists(one, min_size=1, max_size=6)
