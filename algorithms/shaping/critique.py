"""Generative critique (CAPO, arXiv 2508.02298): a judge lists the wrong steps of an episode, several times; votes decide.

Every token of a wrong step loses the same. Who judges, and how, is left to the trainer; the paper's combination is GRPO
(conf/algo/capo.yaml).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Batch, Bools, Floats
from algorithms.shaping import NeedsJudge, Shaping
from envs.common.structured import NonNegative, Positive
from envs.trajectory import Trajectory

Vote = Literal["intersection", "majority", "union"]


@dataclass
class Critique(Shaping):
    """A penalty for steps that a judge calls wrong."""

    critiques: Positive = 4
    """How often an episode is judged; a model is sampled from, each time by another seed."""
    vote: Vote = "intersection"
    """A step is wrong if all critiques say so (the paper's best for small judges), at least half of them, or any."""
    weight: NonNegative = 1.0
    """What a wrong step loses, in units of the environment's reward; in the paper half of what a right answer is paid."""

    needs_judge: ClassVar[NeedsJudge] = "critiques"

    async def shape(self, batch: Batch) -> Floats:
        """[S] -weight at wrong steps, else 0. A critique that cannot be read has no vote.

        metrics: shares of steps that are wrong, and of critiques that could not be read; what the judge tells of its questions.
        """
        if self.judge is None:
            raise ValueError("critique has no judge: the trainer gives one before the first iteration")
        played = [one for one in batch.trajectories if one.error is None]
        said = await self.judge.critiques(played, self.critiques)
        wrong = [voted(critiques, len(one.steps), self.vote) for one, critiques in zip(played, said, strict=True)]
        steps = np.concatenate([np.zeros(0, dtype=bool), *wrong])
        unread = sum(one is None for critiques in said for one in critiques)
        self.metrics = {
            "wrong": float(steps.mean()) if len(steps) else 0.0,
            "unread": unread / max(1, self.critiques * len(played)),
            **self.judge.metrics,
        }
        rewards = np.full(len(batch.reward), np.nan)
        rewards[batch.included] = -self.weight * steps
        return rewards


def voted(critiques: Sequence[Collection[int] | None], steps: int, vote: Vote) -> Bools:
    """[steps] whether the step is wrong, by the numbers of the steps that each critique calls wrong; None has no vote."""
    cast = [one for one in critiques if one is not None]
    table = np.array([[step in one for step in range(steps)] for one in cast], dtype=bool).reshape(len(cast), steps)
    needed = {"intersection": len(cast), "majority": (len(cast) + 1) // 2, "union": 1}[vote]
    found: Bools = table.sum(axis=0) >= max(1, needed)
    return found


def wrong_by_rules(trajectory: Trajectory) -> Bools:
    """[steps] whether the step's action was refused, or led to a state that the episode had been in before.

    A state without a key is told apart from all others.
    """
    met: set[str] = set()
    found = []
    after = [*(step.state_key for step in trajectory.steps[1:]), trajectory.final_state_key]
    for step, key in zip(trajectory.steps, after, strict=True):
        met.add(step.state_key)
        found.append(not step.valid or (bool(key) and key in met))
    return np.array(found, dtype=bool)
