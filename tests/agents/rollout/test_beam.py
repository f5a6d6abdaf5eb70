"""Searched answers: against all there are by brute force and plain forward passes, and what a width of one and batches mean."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.models.answers import Stop
from agents.models.policy import PolicyError
from agents.models.voice import Voice
from agents.rollout.constraint import Trie
from agents.rollout.engines.base import Completion, EngineStats, Request, Sampling
from agents.rollout.engines.beam import BeamEngine, Ratio
from tests.agents.models.models_for_tests import small_policy
from tests.agents.training.test_reward_model import KINDS, POLICIES, moved, reward_model

ACTING, BETTER, BASE = (small_policy(seed) for seed in (0, 1, 2))
RATIO = Ratio(Voice(BETTER), Voice(BASE), temperature=1.7, score="q")
LIKELIHOOD = replace(RATIO, score="likelihood")
ENOUGH = 10_000
PROMPT = [1, 9, 30, 12, 44, 7]


def said_logps(voice: Voice, ids: Sequence[int], answer: Sequence[int], trie: Trie | None, temperature: float) -> list[float]:
    """Log-probability of each token of an answer, by one plain forward pass."""
    with torch.no_grad(), voice.within():
        logits = voice.policy.causal(input_ids=torch.tensor([[*ids, *answer]])).logits[0, len(ids) - 1 : -1].double()
    everything = list(range(logits.shape[1]))
    places = trie.allowed(answer) if trie else [everything] * len(answer)
    return [
        float(torch.log_softmax(line[allowed] / temperature, -1)[allowed.index(token)])
        for line, allowed, token in zip(logits, places, answer, strict=True)
    ]


def q_of(ratio: Ratio, ids: Sequence[int], answer: Sequence[int], trie: Trie | None) -> list[float]:
    better, base = (said_logps(voice, ids, answer, trie, ratio.temperature) for voice in (ratio.better, ratio.base))
    return [one - other for one, other in zip(better, base, strict=True)]


def value_of(ratio: Ratio, ids: Sequence[int], answer: Sequence[int], trie: Trie | None) -> float:
    if ratio.score == "likelihood":
        return sum(said_logps(ratio.better, ids, answer, trie, ratio.temperature))
    return sum(q_of(ratio, ids, answer, trie))


def search(engine: BeamEngine, *requests: Request) -> list[Completion]:
    async def main() -> list[Completion]:
        return await asyncio.gather(*map(engine.generate, requests))

    return asyncio.run(main())


def answers(seed: int) -> list[tuple[int, ...]]:
    """Some answers, many of which begin alike, some of which begin others."""
    rng = np.random.default_rng(seed)
    return sorted({tuple(rng.integers(5, 9, rng.integers(1, 5)).tolist()) for _ in range(14)})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ratio", [RATIO, LIKELIHOOD], ids=["q", "likelihood"])
def test_with_room_for_all_it_finds_the_best_admissible_answer(seed: int, ratio: Ratio) -> None:
    trie = Trie(said := answers(seed), end=2)
    request = Request("x", [*PROMPT, 20 + seed], Sampling(temperature=0.7, stop_ids=(2,)), 0, trie)
    (found,) = search(BeamEngine(ACTING, ratio, ENOUGH), request)
    value = {(*ids, 2): value_of(ratio, request.ids, (*ids, 2), trie) for ids in said}
    best = max(value, key=lambda ids: value[ids])
    assert found.ids == list(best)
    assert found.stop_reason == "stop"
    assert found.versions == [0] * len(best)
    assert found.logprobs == pytest.approx(said_logps(Voice(ACTING), request.ids, best, trie, 0.7), abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_with_one_beam_it_takes_the_token_of_highest_score_each_time(seed: int) -> None:
    trie = Trie(answers(seed), end=2)
    request = Request("x", [*PROMPT, 20 + seed], Sampling(stop_ids=(2,)), 0, trie)
    (found,) = search(BeamEngine(ACTING, RATIO, 1), request)
    node, greedy = trie.root, list[int]()
    while node:
        # Among allowed tokens each distribution is divided by their mass, which is the same for all of them.
        q = {token: q_of(RATIO, request.ids, [*greedy, token], trie=None)[-1] for token in node}
        greedy.append(max(node, key=lambda token: q[token]))
        node = node[greedy[-1]]
    assert found.ids == greedy


def test_free_answers_are_searched_among_what_the_policy_proposes() -> None:
    vocabulary, end = ACTING.vocabulary, 3
    request = Request("x", PROMPT, Sampling(max_tokens=2, stop_ids=(end,)), 0)
    (found,) = search(BeamEngine(ACTING, RATIO, ENOUGH), request)
    logps = []
    with torch.no_grad():
        for policy in (BETTER, BASE):
            logits = policy.causal(input_ids=torch.tensor([[*PROMPT, token] for token in range(vocabulary)])).logits.double()
            first, second = torch.log_softmax(logits[0, -2] / 1.7, -1), torch.log_softmax(logits[:, -1] / 1.7, -1)
            second[end] = -torch.inf  # nothing follows
            logps.append((first, second))
    q = (logps[0][0] - logps[1][0])[:, None] + (logps[0][1] - logps[1][1]).nan_to_num(-torch.inf)
    alone = float(logps[0][0][end] - logps[1][0][end])
    best = [*divmod(int(q.argmax()), vocabulary)] if float(q.max()) > alone else [end]
    assert found.ids == best
    assert found.stop_reason == ("stop" if best[-1] == end else "length")
    # Of few beams: no token that was not among the policy's likeliest where it stands.
    (few,) = search(BeamEngine(ACTING, RATIO, 3), request)
    with torch.no_grad():
        proposed = ACTING.causal(input_ids=torch.tensor([PROMPT])).logits[0, -1].topk(3).indices
    assert few.ids[0] in proposed
    assert sum(q_of(RATIO, PROMPT, few.ids, None)) <= sum(q_of(RATIO, PROMPT, found.ids, None))


def test_equal_scores_are_decided_by_the_policy() -> None:
    """Before a reward model has learned it is the base, and every q is exactly 0."""
    trie = Trie(said := answers(1), end=2)
    same = Ratio(Voice(BASE), Voice(small_policy(2)), score="q")
    (found,) = search(BeamEngine(ACTING, same, ENOUGH), Request("x", PROMPT, Sampling(stop_ids=(2,)), 0, trie))
    likely = {ids: sum(said_logps(Voice(ACTING), PROMPT, (*ids, 2), trie, 1.0)) for ids in said}
    assert tuple(found.ids) == (*max(likely, key=lambda ids: likely[ids]), 2)


def test_sessions_together_and_over_turns_are_as_each_alone() -> None:
    async def converse(engine: BeamEngine, number: int) -> list[Completion]:
        ids, said = [*PROMPT, 5 + number], list[Completion]()
        for turn in range(3):
            trie = Trie(answers(number + turn), end=2) if turn < 2 else None
            sampling = Sampling(max_tokens=3 + number % 2, stop_ids=(2,))
            said.append(await engine.generate(Request(str(number), list(ids), sampling, 0, trie)))
            ids += [*said[-1].ids, *range(10, 13 + number)]
        engine.release(str(number))
        return said

    async def all_of(engine: BeamEngine) -> list[list[Completion]]:
        return await asyncio.gather(*(converse(engine, number) for number in range(5)))

    together = asyncio.run(all_of(BeamEngine(ACTING, RATIO, 3, capacity=5)))
    alone = [asyncio.run(converse(BeamEngine(ACTING, RATIO, 3), number)) for number in range(5)]
    assert [[one.ids for one in said] for said in together] == [[one.ids for one in said] for said in alone]


def test_only_new_tokens_of_a_conversation_are_read() -> None:
    engine = BeamEngine(ACTING, Ratio(Voice(BETTER), Voice(ACTING), score="q"), 2)
    stats = EngineStats()
    engine.count_apart("x", stats)
    trie = Trie([(5, 6), (7, 8)], end=2)
    (first,) = search(engine, Request("x", PROMPT, Sampling(), 0, trie))
    assert engine.stats.take()["computed"] == 2 * len(PROMPT)  # two models: what acts is the base here
    search(engine, Request("x", [*PROMPT, *first.ids, 11, 12], Sampling(), 0, trie))
    assert engine.stats.take()["computed"] == 2 * (len(first.ids) + 2)
    assert stats.take()["sampled"] == 6


def test_it_ends_where_the_text_or_the_context_does_and_goes_on_from_what_is_written() -> None:
    engine = BeamEngine(ACTING, RATIO, 4)
    word = next(one for one in range(5, 60) if ACTING.tokenizer.decode([one]).strip())
    everything = Stop(tuple({ACTING.tokenizer.decode([one]) for one in range(ACTING.vocabulary)} - {""}))
    spoken, full, long = search(
        engine,
        Request("a", PROMPT, Sampling(max_tokens=9, stop=everything), 0),
        Request("b", [word] * 511, Sampling(max_tokens=9), 0),
        Request("c", [word] * 512, Sampling(max_tokens=9), 0),
    )
    assert (len(spoken.ids), spoken.stop_reason) == (1, "stop")
    assert (len(full.ids), full.stop_reason) == (1, "context")
    assert (long.ids, long.stop_reason) == ([], "context")
    trie = Trie(answers(0), end=2)
    (whole,) = search(BeamEngine(ACTING, RATIO, 1), Request("x", PROMPT, Sampling(), 0, trie))
    written = Request("x", PROMPT, Sampling(), 0, trie, whole.ids[:1])
    (rest,) = search(BeamEngine(ACTING, RATIO, 1), written)
    assert (rest.ids, len(rest.logprobs)) == (whole.ids[1:], len(whole.ids) - 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", POLICIES)
def test_it_goes_by_the_reward_model_of_a_training(make: str, kind: str) -> None:
    policy = POLICIES[make]()
    model = reward_model(policy, kind)
    with torch.no_grad():
        for _, p in model.optimizer.parameters:
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3)))
    base = model.before()
    moved(policy)
    ratio = Ratio(model.voice(), base, score="q")
    trie = Trie(said := answers(2), end=2)
    (found,) = search(BeamEngine(policy, ratio, ENOUGH), Request("x", PROMPT, Sampling(), 0, trie))
    value = {ids: sum(q_of(ratio, PROMPT, (*ids, 2), trie)) for ids in said}
    assert tuple(found.ids) == (*max(value, key=lambda ids: value[ids]), 2)
    assert max(value.values()) - min(value.values()) > 0.01


def test_a_model_with_a_cache_of_its_own_is_refused() -> None:
    policy = small_policy()
    policy.kept = "chunks"
    with pytest.raises(PolicyError, match=r"evaluation\.beams cannot be used with this model \(llama\)"):
        BeamEngine(policy, RATIO, 2)


def test_the_engine_of_an_error_is_not_left_hanging() -> None:
    engine = BeamEngine(ACTING, RATIO, 2)
    engine._readers[0]._memory.read_grid = None  # type: ignore[assignment,method-assign]
    with pytest.raises(TypeError):
        search(engine, *(Request(str(n), PROMPT, Sampling(), 0) for n in range(2)))


def test_wide_beams_take_several_rows() -> None:
    """More tokens of branches than a row may have."""
    said = [ids for ids in itertools.product(range(5, 11), repeat=4) if sum(ids) % 2]
    trie = Trie(said, end=2)
    (found,) = search(BeamEngine(ACTING, RATIO, ENOUGH), Request("x", PROMPT, Sampling(), 0, trie))
    inside = {ids: sum(q_of(RATIO, PROMPT, (*ids, 2), trie)) for ids in said[::60]}
    assert sum(q_of(RATIO, PROMPT, found.ids, trie)) >= max(inside.values())
