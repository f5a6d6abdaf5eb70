"""Episodes as flat columns over their steps: what methods and shapings read of them (algorithms.base.Batch)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from algorithms.batch import following
from envs.trajectory import Trajectory


def columns(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """Fields of the batch of some trajectories in their order. Raises ValueError if one of them is in the list twice."""
    if len({id(trajectory) for trajectory in trajectories}) < len(trajectories):
        raise ValueError("a trajectory is in the list twice: copies made to fill a batch must not enter statistics")
    steps = [step for trajectory in trajectories for step in trajectory.steps]
    length = np.array([len(trajectory.steps) for trajectory in trajectories], dtype=np.int64)  # [N]
    episode = np.repeat(np.arange(len(length)), length)  # [S]
    groups: dict[str, int] = {}
    group = np.array([groups.setdefault(t.group_id, len(groups)) for t in trajectories], dtype=np.int64)[episode]
    states: dict[tuple[int, str], int] = {}

    def numbered(number: int, key: str) -> int:
        return states.setdefault((number, key), len(states)) if key else -1

    state = np.array([numbered(*pair) for pair in zip(group.tolist(), (step.state_key for step in steps))], dtype=np.int64)
    final = np.array([numbered(groups[t.group_id], t.final_state_key) for t in trajectories], dtype=np.int64)  # [N]
    actions: dict[str, int] = {}
    names = sorted({name for step in steps for name in step.shaped_rewards})
    return {
        "trajectories": trajectories,
        "group": group,
        "episode": episode,
        "position": np.arange(len(steps)) - np.repeat(np.cumsum(length) - length, length),
        "state": state,
        "next_state": following(state, length, final),
        "final_text": [trajectory.final_observation or "" for trajectory in trajectories],
        "action": np.array([actions.setdefault(step.action, len(actions)) for step in steps], dtype=np.int64),
        "reward": np.array([step.reward for step in steps], dtype=np.float64),
        "valid": np.array([step.valid for step in steps], dtype=bool),
        "tokens": np.array([len(step.response_ids) for step in steps], dtype=np.int64),
        "token_ids": np.fromiter(chain.from_iterable(step.response_ids for step in steps), dtype=np.int64),
        "success": np.array([trajectory.success for trajectory in trajectories], dtype=bool),
        "cut_off": np.array([trajectory.cut_off is not None for trajectory in trajectories], dtype=bool),
        "faulted": np.array([trajectory.error is not None for trajectory in trajectories], dtype=bool),
        "shaped": {name: np.array([step.shaped_rewards.get(name, 0.0) for step in steps], np.float64) for name in names},
        "state_text": [step.observation for step in steps],
    }
