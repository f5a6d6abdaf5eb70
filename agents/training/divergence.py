"""How much the next-token distributions of a task's episodes differ, place by place (TW-GRPO, arXiv 2505.24718).

Places count an episode's sampled tokens. Of one task at a time the log-probabilities of all tokens of the vocabulary are kept:
[sampled tokens of the task, vocabulary] in float32, on the CPU.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from agents.models.policy import Policy
from agents.models.temperature import Temperature, tempered
from agents.training.experience import Experience
from agents.training.passes import passes
from algorithms.base import Floats, Ints

CLAMP = 11.0
"""Bound of a difference of log-probabilities (the authors' code)."""


@torch.no_grad()
def divergence(experience: Experience, model: Policy, tokens_per_microbatch: int, temperature: Temperature) -> Floats:
    """[T] divergence at the place of each token; that of a task's places is the same in all of its episodes.

    Over the whole vocabulary, also where sampling was constrained.
    """
    found = np.zeros(experience.sampled)
    of_episode = experience.group[np.cumsum(experience.length) - 1]  # [N]
    for group in np.unique(of_episode):
        members = np.flatnonzero(of_episode == group).tolist()
        numbers = experience.numbers(members)
        at = torch.full((experience.sampled,), -1)
        at[numbers] = torch.arange(len(numbers))
        logp = torch.zeros(len(numbers), model.vocabulary)
        for batch in passes(experience, experience.plain_rows(members), model, tokens_per_microbatch, forced=True):
            logits = tempered(model.forward(batch.ids, batch.positions, batch.mask, batch.before), temperature)
            logp[at[batch.tokens]] = logits.log_softmax(-1)[batch.which].cpu()
        length = np.array([experience.first_token[m + 1] - experience.first_token[m] for m in members], dtype=np.int64)
        place = np.concatenate([np.arange(n) for n in length])
        found[numbers] = by_place(logp, place, len(members)).numpy()[place]
    return found


def by_place(logp: Tensor, place: Ints, episodes: int) -> Tensor:
    """[L] divergence at each place: the mean over a task's episodes of sum over the vocabulary of exp(m - l) - (m - l) - 1.

    logp: [M, V] l of the episodes' tokens; place: [M]; m: mean of l over the episodes, in which those that have ended are
    uniform.
    """
    uniform = -math.log(logp.shape[1])
    found = torch.zeros(int(place.max(initial=-1)) + 1, dtype=logp.dtype)
    for number in range(len(found)):
        here = logp[torch.from_numpy(place == number)]
        here = torch.cat([here, here.new_full((episodes - len(here), here.shape[1]), uniform)])
        gap = (here.mean(0) - here).clamp(-CLAMP, CLAMP)
        found[number] = (gap.exp() - gap - 1).sum(-1).mean()
    return found
