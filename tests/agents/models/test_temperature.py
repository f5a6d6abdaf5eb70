"""A temperature that follows the entropy: its numbers by hand and by the authors' formula, and what is drawn at it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.models.policy import token_logprobs
from agents.models.temperature import SPREAD, SURE, ByEntropy, Temperature, constant, entropy, tempered
from agents.rollout.constraint import Node
from agents.rollout.engines.base import Sampling
from agents.rollout.engines.draw import draw

GOLDEN = Path(__file__).parents[2] / "golden" / "hapo_heterogeneous.json"
FOLLOWING = ByEntropy(base=0.8, tau=0.5, centre=-0.5, above=1.0, below=2.0)


def scores(temperature: ByEntropy, entropies: list[float]) -> list[float]:
    """h of entropies."""
    found = temperature.at(torch.tensor(entropies, dtype=torch.float64))
    return ((found / temperature.base - 1) / temperature.tau).tolist()


def test_it_is_the_hand_computed_one() -> None:
    # Of six logarithms the 0.8-quantile is the fifth, 1; the largest is 1 above it, the smallest 4 below.
    fitted = ByEntropy.fitted(2.0, 0.1, np.exp([0.0, 2.0, -3.0, 1.0, -2.0, -1.0]))
    assert (fitted.base, fitted.tau) == (2.0, 0.1)
    assert (fitted.centre, fitted.above, fitted.below) == pytest.approx((1.0, 1.0, 4.0))
    assert scores(fitted, np.exp([2.0, 1.5, 1.0, -1.0, -3.0]).tolist()) == pytest.approx([1.0, 0.5, 0.0, -0.5, -1.0])
    assert scores(fitted, [100.0, 1e-30, 0.0]) == pytest.approx([1.0, -1.0, -1.0]), "never beyond what was seen"
    assert fitted.at(torch.tensor([np.e**2, np.e, np.e**-3])).tolist() == pytest.approx([2.2, 2.0, 1.8])


def test_entropies_that_are_all_alike_leave_the_temperature_nearly_as_it_is() -> None:
    fitted = ByEntropy.fitted(1.0, 0.9, np.full(5, 0.7))
    assert fitted.above == fitted.below == SPREAD
    assert scores(fitted, [0.7, 0.7 * (1 + 1e-6)]) == pytest.approx([0.0, 0.0], abs=1e-3)
    nothing = ByEntropy.fitted(1.0, 0.9, np.zeros(3))
    assert scores(nothing, [0.0, SURE]) == pytest.approx([0.0, 0.0], abs=1e-6)


def test_it_is_the_authors_where_entropy_is_high_and_mirrored_where_it_is_low() -> None:
    (case,) = json.loads(GOLDEN.read_text())["cases"]
    mask = np.array(case["inputs"]["response_mask"], dtype=bool)
    entropies = np.array(case["inputs"]["entropy"])[mask]
    fitted = ByEntropy.fitted(1.0, 0.05, entropies)
    theirs = np.array(case["outputs"]["h_hat"])[mask]
    np.testing.assert_allclose(np.abs(scores(fitted, entropies.tolist())), theirs, atol=1e-4)
    # The next iteration's tokens: by median, deviation and two scales, as their sampler has it.
    later = np.random.default_rng(0).uniform(0.01, 2.5, 200)
    median = np.quantile(np.log(entropies), 0.8, method="nearest")
    h = np.log(entropies) - median
    std = np.sqrt((h**2).mean())
    high, low = 1 / (h / std).max(), 1 / (h / std).min()
    h = (np.log(later) - median) / (std + 1e-6)
    theirs = np.clip(np.where(h > 0, h * high, h * low), -1, 1)
    np.testing.assert_allclose(scores(fitted, later.tolist()), np.where(h > 0, theirs, -theirs), atol=1e-5)
    assert (theirs[h < 0] > 0).all(), "a division by a negative number: their temperature rises for sure tokens too"


def test_it_rises_with_the_entropy_and_lets_no_gradient_through() -> None:
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 9, 50)[:, None]
    logits.requires_grad_()
    temperatures = FOLLOWING.of(logits)
    assert not temperatures.requires_grad
    order = entropy(torch.log_softmax(logits / FOLLOWING.base, -1)).argsort()
    assert (temperatures[order].diff() >= 0).all()
    assert temperatures.min() >= 0.4
    assert temperatures.max() <= 1.2
    assert temperatures.max() - temperatures.min() > 0.5
    (slope,) = torch.autograd.grad(token_logprobs(logits, torch.zeros(50, dtype=torch.long), None, FOLLOWING)[0].sum(), logits)
    p = torch.softmax(logits / temperatures[:, None], -1)
    torch.testing.assert_close(slope, (torch.eye(40)[0] - p) / temperatures[:, None], atol=1e-6, rtol=1e-4)


def test_what_cannot_be_sampled_does_not_count() -> None:
    logits, allowed = torch.randn(6, 9, generator=torch.Generator().manual_seed(1)), torch.zeros(6, 9, dtype=torch.bool)
    allowed[:, :4] = True
    for temperature in (1.0, 0.7, FOLLOWING):
        found = tempered(logits, temperature, allowed)
        torch.testing.assert_close(found[:, :4], tempered(logits[:, :4], temperature))
        assert (found[:, 4:] == -torch.inf).all()


def test_rows_of_different_temperatures_are_drawn_as_alone_and_at_the_probabilities_of_the_trainer() -> None:
    picks = np.random.default_rng(0)
    rows, vocabulary = 40, 300
    logits = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(2)) * torch.linspace(0.1, 6, rows)[:, None]
    nodes: list[Node | None] = [
        {int(token): {} for token in picks.permutation(vocabulary)[: 2 + row % 6]} if row % 3 == 1 else None
        for row in range(rows)
    ]
    kinds: list[Temperature] = [1.0, FOLLOWING, 0.4, ByEntropy(1.0, 0.9, 0.0, 0.5, 0.5)]
    sampling = [Sampling(temperature=kinds[row % 4]) for row in range(rows)]
    asked = list(zip(logits[:, None], nodes, sampling, range(rows), strict=True))
    tokens, logprobs = draw(logits, nodes, sampling, range(rows), [0] * rows)
    alone = [draw(line, [node], [one], [seed], [0]) for line, node, one, seed in asked]
    assert tokens == [token for [token], _ in alone]
    assert logprobs == pytest.approx([logprob for _, [logprob] in alone], abs=1e-5)
    for (line, node, one, _), token, logprob in zip(asked, tokens, logprobs, strict=True):
        allowed = None if node is None else torch.zeros(1, vocabulary, dtype=torch.bool)
        if allowed is not None and node is not None:
            allowed[0, list(node)] = True
        trained, _ = token_logprobs(line, torch.tensor([token]), allowed, one.temperature)
        assert logprob == pytest.approx(float(trained), abs=1e-5)


def test_a_whole_action_has_none() -> None:
    assert constant(0.5) == 0.5
    with pytest.raises(ValueError, match="chosen as wholes"):
        constant(FOLLOWING)
