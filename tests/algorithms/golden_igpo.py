"""IGPO's advantages (igpo.json), from rewards of single tokens [rows, width] to turns and back.

A turn ends where a reward is not 0, and at the last valid token, which has the outcome. Gains enter as differences of what is
given as the answers' log-probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.config.loading import load
from algorithms.igpo import IGPO
from envs.trajectory import Step
from tests.algorithms.golden_rows import Case, Rows, close


def igpo(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    settings = {
        "gain": "log_probability",
        "gamma": given["gamma"],
        "statistics": given["info_gain_norm_mode"],
        "normalize": "std" if given["norm_adv_by_std"] else "mean",
        "outcome_weight": given["outcome_weight"],
        "gain_weight": given["info_gain_weight"],
        "epsilon": given["epsilon"],
    }
    paper = IGPO(**settings, variance_epsilon=1e-8)
    close(advantages(paper, given, split=False), expected["advantages"], tolerance)
    official = IGPO(**{**configured("igpo_official"), **settings})
    close(advantages(official, given, split=False), expected["advantages"], tolerance)
    # What the authors' code does not see: a turn that gained nothing.
    close(advantages(official, given, split=True), expected["advantages"], tolerance)
    first = IGPO(**{**configured("igpo_first_release"), **settings, "cut": False})
    close(advantages(first, given, split=False), expected["first_release_advantages"], tolerance)


def configured(name: str) -> dict[str, Any]:
    return {key: value for key, value in load(["env=webshop", f"algo={name}"]).algo.items() if key != "name"}


def advantages(method: IGPO, given: Case, split: bool) -> np.ndarray:
    """[rows, width]; split: the first token of a turn of several is a turn of its own, that gained nothing."""
    rewards, mask = np.array(given["token_level_rewards"]), np.array(given["response_mask"]) > 0
    group: list[str] = []
    episode: list[str] = []
    steps: list[Step] = []
    answers: list[float] = []
    for row, task in enumerate(given["index"]):
        places = np.flatnonzero(mask[row])
        ends = sorted({*np.flatnonzero((rewards[row] != 0) & mask[row]).tolist(), int(places[-1])})
        known, start = 0.0, 0
        for end in ends:
            inside = int(((places >= start) & (places <= end)).sum())
            last = end == ends[-1]
            parts = [1, inside - 1] if split and inside > 1 else [inside]
            for number, length in enumerate(parts):
                answers.append(known)
                steps.append(Step("", "", state_key="-", response_ids=[0] * length))
                if number == len(parts) - 1 and last:
                    steps[-1].reward = rewards[row, end]
            known, start = known + rewards[row, end], end + 1
            group += [task] * len(parts)
            episode += [str(row)] * len(parts)
    rows = Rows(group, episode, steps)
    batch = rows.batch
    batch.answers = np.array(answers)[np.argsort(rows.place)]
    values, defined = method.advantages(batch).per_token(batch)
    assert bool(defined.all())
    table = np.zeros(mask.shape)
    table[mask] = values.numpy()
    return table
