"""Choosing an action as a whole, by a softmax over scores of all candidates (TWOSOME, arXiv 2401.14151 Sec. 4).

A candidate's score is the log-probability of its tokens divided by its length; unlike in the authors' program its end token is
one of them. Rollout and learner choose by the one formula here: with numbers the one, with gradient through all candidates the
other. Where candidates stand in a row is left to packing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from agents.rollout.constraint import ActionTries
from agents.rollout.engines.base import uniforms

Length = Literal["tokens", "words", "none"]


@dataclass(frozen=True, slots=True)
class Scoring:
    """What the candidates are and how their scores are made."""

    tries: ActionTries
    length: Length = "words"
    """tokens: of the response, end token included; words: of the action as it is written; none: 1."""

    def candidates(self, actions: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """The responses that say the different `actions` [C], end token included, and their lengths [C]."""
        ids, words = self.tries.responses(actions)
        if self.length == "tokens":
            return ids, [len(response) for response in ids]
        return ids, [max(1, n) for n in words] if self.length == "words" else [1] * len(ids)

    def choose(
        self, scores: Sequence[Sequence[float]], lengths: Sequence[int], temperature: float, seed: int
    ) -> tuple[int, float]:
        """A candidate, a function of `seed` and the scores [C][tokens] alone, and its log-probability. Temperature 0: the best.

        Raises ValueError for no candidates.
        """
        if not scores:
            raise ValueError("there is nothing to choose from")
        logp = log_softmax_by_choice(
            torch.tensor([x for tokens in scores for x in tokens], dtype=torch.float64),
            torch.tensor([len(tokens) for tokens in scores]),
            torch.tensor(lengths),
            torch.zeros(len(scores), dtype=torch.long),
            temperature or 1.0,
        )
        if temperature == 0:
            chosen = int(logp.argmax())
        else:
            cumulative = logp.exp().cumsum(0)
            draw = uniforms(np.array([seed], dtype=np.uint64), np.zeros(1, dtype=np.uint64))
            chosen = int(torch.searchsorted(cumulative, torch.from_numpy(draw) * cumulative[-1], right=True)[0])
            chosen = min(chosen, len(scores) - 1)
        return chosen, float(logp[chosen])


@dataclass(slots=True)
class ActionChoice:
    """One choice."""

    responses: list[list[int]]
    """[C] tokens of each candidate."""
    lengths: list[int]
    """[C] what its log-probability is divided by."""
    chosen: int
    """Which candidate was sampled."""


@dataclass(slots=True)
class ActionChoices:
    """The choices [M] of a micro-batch: all their candidates [C], which have tokens [K] together."""

    sizes: Tensor
    """[C]"""
    lengths: Tensor
    """[C]"""
    choice: Tensor
    """[C] number of the choice that a candidate belongs to."""
    chosen: Tensor
    """[M] number of the candidate that was sampled."""

    @classmethod
    def of(cls, choices: Sequence[ActionChoice], device: torch.device) -> ActionChoices:
        counts = np.array([len(choice.responses) for choice in choices], dtype=np.int64)
        first = np.cumsum(counts) - counts
        return cls(
            sizes=torch.tensor([len(one) for choice in choices for one in choice.responses], device=device),
            lengths=torch.tensor([n for choice in choices for n in choice.lengths], device=device),
            choice=torch.from_numpy(np.repeat(np.arange(len(choices)), counts)).to(device),
            chosen=torch.from_numpy(first + np.array([choice.chosen for choice in choices], dtype=np.int64)).to(device),
        )

    def decide(self, token_logp: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """From the log-probabilities of all candidates' tokens [K]: that of what was chosen [M], and the entropy [M]."""
        logp = log_softmax_by_choice(token_logp, self.sizes, self.lengths, self.choice, temperature)
        return logp[self.chosen], -_sums(logp.exp() * logp, self.choice, len(self.chosen))


def log_softmax_by_choice(token_logp: Tensor, sizes: Tensor, lengths: Tensor, choice: Tensor, temperature: float) -> Tensor:
    """log pi of every candidate [C]: log-softmax, within its choice, of its log-probability / length / temperature.

    token_logp: [K], candidate by candidate; sizes: [C] tokens of each; lengths: [C]; choice: [C] ascending from 0.
    """
    number = torch.arange(len(sizes), device=sizes.device)
    score = _sums(token_logp, number.repeat_interleave(sizes), len(sizes)) / lengths / temperature
    choices = int(choice[-1]) + 1
    best = torch.full((choices,), -torch.inf, dtype=score.dtype, device=score.device)
    best = best.scatter_reduce(0, choice, score.detach(), "amax")
    score = score - best[choice]
    return score - _sums(score.exp(), choice, choices).log()[choice]


def _sums(values: Tensor, number: Tensor, count: int) -> Tensor:
    return values.new_zeros(count).index_add(0, number, values)
