"""POAD's advantages and those of its baselines, from a buffer [T, threads, tokens] to trajectories and back (poad_gae.json)."""

from __future__ import annotations

from typing import Any

import numpy as np

from algorithms.base import Batch
from algorithms.poad import POAD
from algorithms.ppo import PPO
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.golden_rows import Case, close

METHODS: dict[str, dict[str, Any]] = {
    "POAD": {},
    "NTPO": {"inner": None},
    "ARCHER": {"inner": None, "next_value": "action"},
}


def poad_gae(case: Case, tolerance: float) -> None:
    given = case["inputs"]
    lengths, values = np.array(given["action_lengths"]), np.array(given["values"])  # [T, threads], [T, threads, tokens]
    batch, places = buffer(given)
    flat = np.concatenate([values[t, thread, : lengths[t, thread]] for t, thread in places])
    batch.values = flat
    settings = {"gamma": given["gamma"], "lam": given["lam"]}
    ends = np.cumsum(batch.tokens)
    for name, expected in case["outputs"].items():
        method = POAD(**settings, **METHODS[name]) if name in METHODS else PPO(**settings, level="action", normalize=False)
        found = method.advantages(batch)
        assert found.returns is not None
        advantages, returns = np.zeros(values.shape), np.zeros(values.shape)
        for (t, thread), end, n in zip(places, ends, batch.tokens, strict=True):
            advantages[t, thread, :n], returns[t, thread, :n] = found.values[end - n : end], found.returns[end - n : end]
        if name in METHODS:
            close(advantages, expected["advantages"], tolerance)
            close(returns, expected["returns"], tolerance)
        else:
            close(advantages[:, :, 0], expected["advantages"], tolerance)
            close(returns[:, :, 0], expected["returns"], tolerance)


def buffer(given: Case) -> tuple[Batch, list[tuple[int, int]]]:
    """The trajectories of a buffer whose rows hold one episode after another, and where each of their steps stands in it."""
    trajectories, places = [], []
    for thread in range(given["n_threads"]):
        steps: list[Step] = []
        for t in range(given["T"]):
            tokens = given["action_lengths"][t][thread]
            goes_on, last = bool(given["masks_after_step"][t][thread]), t == given["T"] - 1
            # An episode that is still going on where the buffer ends: the value of what follows is discounted like a reward.
            ahead = given["gamma"] * given["next_value"][thread] if goes_on and last else 0.0
            steps.append(Step("", "", given["rewards"][t][thread] + ahead, response_ids=[0] * tokens))
            places.append((t, thread))
            if not goes_on or last:
                trajectories.append(Trajectory("golden", "task", "task", 0, "train", steps=steps))
                steps = []
    return as_batch(trajectories), places
