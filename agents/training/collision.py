"""How sure the policy was at each sampled token: the sum of the squared probabilities of all tokens there."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from agents.models.policy import Policy
from agents.training.packing import collate, micro_batches, rows
from agents.training.tokens import Tokens
from algorithms.base import Floats
from envs.trajectory import Trajectory


@torch.no_grad()
def collision(
    policy: Policy, trajectories: Sequence[Trajectory], tokens: Tokens, token_budget: int, temperature: float
) -> Floats:
    """[T] the probability that two draws at the place of a sampled token are equal; 1 where the token was forced."""
    found = torch.ones(len(tokens), dtype=torch.float64)
    for group in micro_batches(rows(trajectories, tokens.first[:-1], policy.longest_row(token_budget)), token_budget):
        batch, allowed = tokens.choices(collate(group, pad=0, device=policy.device), policy.vocabulary)
        if len(batch.tokens):
            logits = policy.forward(batch.ids, batch.positions, batch.mask, batch.before) / temperature
            if allowed is not None:
                logits = logits.masked_fill(~allowed, -torch.inf)
            found[batch.tokens] = torch.softmax(logits, -1).square().sum(-1).double().cpu()
    return found.numpy()
