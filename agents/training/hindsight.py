"""What a policy makes of its own actions once it is told how the episode ended: rows whose prompts say so, and what they give.

Nothing that was sampled changes, and nothing is tokenized again: a note is put into the whole prompt that each row begins with.
In a growing conversation that is its first message, so that every later action is seen in the same light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from agents.training.experience import Experience
from agents.training.packing import Row
from algorithms.base import Floats

Noted = Callable[[str], tuple[list[int], int]]
"""Ids of a note, and how many of a whole prompt's ids stand behind them: `Dialogue.noted`."""


def rows_with_notes(experience: Experience, notes: Sequence[str | None], noted: Noted, longest: int) -> Iterator[Row]:
    """The rows of episodes that have a note [N], with it, but for rows that get longer than `longest` tokens."""
    for member, (trajectory, note) in enumerate(zip(experience.trajectories, notes, strict=True)):
        if note is None:
            continue
        ids, behind = noted(note)
        for row, step in zip(experience.plain_rows([member]), trajectory.steps):  # a row begins with the step's whole prompt
            if len(row) + len(ids) <= longest:
                at = len(step.prompt_ids) - behind
                told = np.concatenate([row.ids[:at], np.array(ids, dtype=np.int32), row.ids[at:]])
                yield Row(told, [place + len(ids) for place in row.targets], row.tokens)


def by_step(experience: Experience, logprobs: Floats) -> Floats:
    """[S] mean over the tokens of each step, nan if one of them is or there is none; logprobs [T]."""
    total = np.bincount(experience.token_step.numpy(), logprobs, len(experience.tokens))
    return np.divide(total, experience.tokens, out=np.full(len(total), np.nan), where=experience.tokens > 0)
