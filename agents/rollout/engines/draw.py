"""Drawing the next token of each row: constraint, temperature, nucleus, and uniforms that depend on seed and place alone.

The token is the first whose cumulative probability, over the tokens in the order of their ids, exceeds the uniform. A
constrained row is drawn among its few allowed tokens alone, a free one in two stages: the block, then the token in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from agents.models.temperature import ByEntropy, Temperature
from agents.rollout.constraint import Node
from agents.rollout.engines.base import Sampling, uniforms

BLOCK = 256
"""Tokens of a block."""


def draw(
    logits: Tensor, nodes: Sequence[Node | None], sampling: Sequence[Sampling], seeds: Sequence[int], places: Sequence[int]
) -> tuple[list[int], list[float]]:
    """A token of each row of `logits` [B, V] and its log-probability; `nodes`: places in their tries of constrained rows."""
    draws = uniforms(np.array(seeds, dtype=np.uint64), np.array(places, dtype=np.uint64))
    tokens, logprobs = [0] * len(nodes), [0.0] * len(nodes)
    for constrained in (True, False):
        rows = [row for row, node in enumerate(nodes) if (node is not None) is constrained]
        if not rows:
            continue
        settings, u, of_rows = [sampling[row] for row in rows], draws, logits
        if len(rows) < len(nodes):
            u, of_rows = draws[rows], logits[torch.tensor(rows, device=logits.device)]
        if constrained:
            found = _among(of_rows, [sorted(node) for node in nodes if node is not None], settings, u)
        else:
            found = _drawn(of_rows, settings, u)
        for row, token, logprob in zip(rows, *found, strict=True):
            tokens[row], logprobs[row] = token, logprob
    return tokens, logprobs


def _among(
    logits: Tensor, allowed: list[list[int]], sampling: Sequence[Sampling], draws: np.ndarray
) -> tuple[list[int], list[float]]:
    """As `draw`, where only the tokens `allowed` of each row are possible."""
    width = max(map(len, allowed))
    index = torch.tensor([ids + [-1] * (width - len(ids)) for ids in allowed]).to(logits.device)
    few = logits.gather(-1, index.clamp_min(0)).masked_fill_(index < 0, -torch.inf)
    places, logprobs = _drawn(few, sampling, draws)
    return [ids[place] for ids, place in zip(allowed, places, strict=True)], logprobs


def _drawn(logits: Tensor, sampling: Sequence[Sampling], draws: np.ndarray) -> tuple[list[int], list[float]]:
    """Of each row of `logits` [R, K] a place and its log-probability; `draws` [R] uniforms."""
    temperatures = [s.temperature for s in sampling]
    greedy = torch.tensor([t == 0 for t in temperatures], device=logits.device) if 0 in temperatures else None
    logp = torch.log_softmax(_divided(logits, temperatures), dim=-1)
    if any(s.top_p < 1 for s in sampling):
        logp = _nucleus(logp, torch.tensor([s.top_p for s in sampling], device=logits.device))
    places = _first_beyond(logp.exp(), torch.from_numpy(draws).to(logits.device)[:, None])
    if greedy is not None:
        places = torch.where(greedy, logits.argmax(-1), places)
    chosen = logp.gather(-1, places[:, None])[:, 0]
    found = chosen.tolist()
    if -np.inf in found:
        # With a uniform close to 1 the search can end on a token of probability zero: take the likeliest one instead.
        places = torch.where(torch.isinf(chosen), logp.argmax(-1), places)
        found = logp.gather(-1, places[:, None])[:, 0].tolist()
    return places.tolist(), found


def _divided(logits: Tensor, temperatures: Sequence[Temperature]) -> Tensor:
    """Each row of `logits` [R, K] by its temperature; those that are drawn greedily as they are."""
    if set(temperatures) == {1.0}:
        return logits
    divisor = torch.tensor([1.0 if isinstance(t, ByEntropy) else t or 1.0 for t in temperatures], device=logits.device)
    for following in {t for t in temperatures if isinstance(t, ByEntropy)}:
        theirs = torch.tensor([t == following for t in temperatures], device=logits.device)
        divisor = torch.where(theirs, following.of(logits), divisor)
    return logits / divisor[:, None]


def _first_beyond(p: Tensor, draws: Tensor) -> Tensor:
    """[R] the first place whose cumulative share of `p` [R, K] exceeds `draws` [R, 1]; sums in float64."""
    count = p.shape[-1]
    if count <= BLOCK:
        cumulative = p.cumsum(-1, dtype=torch.float64)
        return torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True)[:, 0].clamp_max_(count - 1)
    blocks = functional.pad(p, (0, -count % BLOCK)).view(len(p), -1, BLOCK)
    reached = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    wanted = draws * reached[:, -1:]
    block = torch.searchsorted(reached, wanted, right=True).clamp_max_(blocks.shape[1] - 1)
    before = torch.where(block > 0, reached.gather(-1, (block - 1).clamp_min(0)), 0.0)
    inside = blocks.gather(1, block[:, :, None].expand(-1, 1, BLOCK))[:, 0].cumsum(-1, dtype=torch.float64)
    place = torch.searchsorted(inside, wanted - before, right=True).clamp_max_(BLOCK - 1)
    return (block * BLOCK + place)[:, 0].clamp_max_(count - 1)


def _nucleus(logp: Tensor, top_p: Tensor) -> Tensor:
    """Keep the smallest set of tokens whose probability reaches top_p [B], renormalized."""
    ordered, order = logp.sort(dim=-1, descending=True)
    mass_before = ordered.exp().cumsum(-1) - ordered.exp()
    keep = torch.zeros_like(logp, dtype=torch.bool).scatter(-1, order, mass_before < top_p[:, None])
    return torch.log_softmax(logp.masked_fill(~keep, -torch.inf), dim=-1)
