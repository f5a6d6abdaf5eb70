"""How much learning one sampled token raises the likelihood of a task's successes (THR, arXiv 2510.03669).

To raise the log-probability of token i changes that of token j by <h_i, h_j> <e_i, e_j>, with hidden states h before the
token and prediction errors e (one-hot less probabilities). Summed over all tokens j of the task's successes this is h_i G e_i,
where G = sum of h_j e_j is the gradient of their log-likelihood by the output head: one matrix [hidden, vocabulary] a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from agents.models.policy import Policy, hidden_states
from agents.models.temperature import Temperature, tempered
from agents.training.experience import Experience
from agents.training.passes import MicroBatch, passes
from algorithms.base import Floats


@torch.no_grad()
def influence(experience: Experience, model: Policy, tokens_per_microbatch: int, temperature: Temperature) -> Floats:
    """[T] of each sampled token; nan in tasks without a success. A token that had no alternative influences nothing: 0."""

    def read(members: Sequence[int]) -> Iterator[tuple[MicroBatch, Tensor, Tensor]]:
        """Micro-batches of some episodes, with hidden states [M, H] and prediction errors [M, V]."""
        for batch in passes(experience, experience.plain_rows(members), model, tokens_per_microbatch):
            hidden = hidden_states(model.causal, batch.ids, batch.positions, batch.mask).float()
            logits = model.forward(batch.ids, batch.positions, batch.mask, batch.before)
            logits = tempered(logits, temperature, batch.allowed)
            error = one_hot(batch.targets, logits.shape[-1]) - logits.softmax(-1)[batch.which]
            yield batch, hidden.reshape(-1, hidden.shape[-1])[batch.before][batch.which], error

    found = np.full(experience.sampled, np.nan)
    of_episode = experience.group[np.cumsum(experience.length) - 1]  # [N]
    for group in np.unique(of_episode[experience.success]):
        members = np.flatnonzero(of_episode == group)
        gradient = torch.zeros(model.width, model.vocabulary, device=model.device)
        for _, hidden, error in read(members[experience.success[members]].tolist()):
            gradient += hidden.T @ error
        found[experience.numbers(members.tolist())] = 0.0
        for batch, hidden, error in read(members.tolist()):
            found[batch.tokens] = ((hidden @ gradient) * error).sum(-1).double().cpu().numpy()
    return found
