"""Drawing the next token of each row: constraint, temperature, nucleus, and uniforms that depend on seed and place alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from agents.rollout.constraint import Node
from agents.rollout.engines.base import Sampling, uniforms


def draw(
    logits: Tensor, nodes: Sequence[Node | None], sampling: Sequence[Sampling], seeds: Sequence[int], places: Sequence[int]
) -> tuple[list[int], list[float]]:
    """A token of each row of `logits` [B, V] and its log-probability; `nodes`: places in their tries of constrained rows."""
    if any(node is not None for node in nodes):
        allowed = torch.zeros(logits.shape, dtype=torch.bool)
        free = [row for row, node in enumerate(nodes) if node is None]
        pairs = [(row, token) for row, node in enumerate(nodes) if node is not None for token in node]
        index = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        allowed[torch.from_numpy(index[:, 0]), torch.from_numpy(index[:, 1])] = True
        if free:
            allowed[free] = True
        logits = logits.masked_fill(~allowed.to(logits.device), -torch.inf)
    temperature = torch.tensor([s.temperature for s in sampling], device=logits.device)
    greedy = temperature == 0
    logp = torch.log_softmax(logits / torch.where(greedy, 1.0, temperature)[:, None], dim=-1)
    top_p = torch.tensor([s.top_p for s in sampling], device=logits.device)
    if bool((top_p < 1).any()):
        logp = _nucleus(logp, top_p)
    draws = uniforms(np.array(seeds, dtype=np.uint64), np.array(places, dtype=np.uint64))
    cumulative = logp.double().exp().cumsum(-1)
    threshold = torch.from_numpy(draws).to(logits.device)[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp_max(logits.shape[-1] - 1)
    tokens = torch.where(greedy, logits.argmax(-1), drawn)
    # With u close to 1 the search can end on a token of probability zero: take the likeliest one instead.
    chosen = logp.gather(-1, tokens[:, None])[:, 0]
    lost = torch.isinf(chosen)
    if bool(lost.any()):
        tokens = torch.where(lost, logp.argmax(-1), tokens)
        chosen = logp.gather(-1, tokens[:, None])[:, 0]
    return tokens.tolist(), chosen.tolist()


def _nucleus(logp: Tensor, top_p: Tensor) -> Tensor:
    """Keep the smallest set of tokens whose probability reaches top_p [B], renormalized."""
    ordered, order = logp.sort(dim=-1, descending=True)
    mass_before = ordered.exp().cumsum(-1) - ordered.exp()
    keep = torch.zeros_like(logp, dtype=torch.bool).scatter(-1, order, mass_before < top_p[:, None])
    return torch.log_softmax(logp.masked_fill(~keep, -torch.inf), dim=-1)
