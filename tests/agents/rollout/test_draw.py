"""Drawing tokens: the inverse of the cumulative distribution at a uniform of seed and place, however the work is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.rollout.constraint import Node
from agents.rollout.engines.base import Sampling, uniforms
from agents.rollout.engines.draw import draw


def expected(logits: torch.Tensor, node: Node | None, sampling: Sampling, seed: int, place: int) -> tuple[int, float]:
    """One row, over the whole vocabulary in float64."""
    row = logits.double()
    if node is not None:
        row = torch.full_like(row, -torch.inf).index_copy(0, torch.tensor(list(node)), row[list(node)])
    logp = torch.log_softmax(row / (sampling.temperature or 1.0), 0)
    if sampling.top_p < 1:
        ordered, order = logp.sort(descending=True)
        kept = order[ordered.exp().cumsum(0) - ordered.exp() < sampling.top_p]
        logp = torch.log_softmax(torch.full_like(logp, -torch.inf).index_copy(0, kept, logp[kept]), 0)
    u = float(uniforms(np.array([seed], dtype=np.uint64), np.array([place], dtype=np.uint64))[0])
    token = int(row.argmax()) if sampling.temperature == 0 else int((logp.exp().cumsum(0) <= u * logp.exp().sum()).sum())
    return token, float(logp[token])


@pytest.mark.parametrize("vocabulary", [7, 256, 257, 1500, 20_000])
def test_every_row_is_drawn_as_alone_over_the_whole_vocabulary(vocabulary: int) -> None:
    generator, picks = torch.Generator().manual_seed(vocabulary), np.random.default_rng(vocabulary)
    rows = 48
    logits = 3 * torch.randn(rows, vocabulary, generator=generator)
    nodes: list[Node | None] = [
        {int(token): {} for token in picks.permutation(vocabulary)[: 1 + row % 6]} if row % 3 == 1 else None
        for row in range(rows)
    ]
    sampling = [Sampling(temperature=(1.0, 0.4, 0.0, 2.0)[row % 4], top_p=(1.0, 0.9)[row % 5 == 0]) for row in range(rows)]
    seeds, places = picks.integers(1 << 62, size=rows).tolist(), list(range(rows))
    tokens, logprobs = draw(logits, nodes, sampling, seeds, places)
    wanted = [expected(*row) for row in zip(logits, nodes, sampling, seeds, places, strict=True)]
    assert tokens == [token for token, _ in wanted]
    assert logprobs == pytest.approx([logprob for _, logprob in wanted], abs=1e-4)


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-53])
def test_no_token_of_probability_zero_is_drawn(u: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.rollout.engines.draw.uniforms", lambda seeds, places: np.full(len(seeds), u))
    logits = torch.full((2, 1000), -torch.inf)
    logits[0, 300:310] = logits[1, :3] = 0.0
    tokens, logprobs = draw(logits, [None, None], [Sampling(), Sampling()], [0, 1], [0, 0])
    assert 300 <= tokens[0] < 310
    assert 0 <= tokens[1] < 3
    assert logprobs == pytest.approx([-np.log(10), -np.log(3)])
