"""What vLLM samples: the same rules as engine=hf, and log-probabilities of the policy whose weights it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
import torch

from agents.models.answers import Stop
from agents.models.policy import Policy
from agents.rollout.constraint import Trie
from agents.rollout.engines.base import Completion, Engine, EngineError, Request, Sampling, Weights
from agents.rollout.engines.hf import HFEngine
from agents.rollout.engines.vllm import VLLMEngine
from agents.rollout.engines.vllm_core import BLOCK
from tests.agents.models.models_for_tests import full_logprobs, small_policy

T = TypeVar("T")
LENGTH = 256
PROMPTS = [[1, *(5 + (17 * i + 7 * j) % 60 for j in range(6 + 9 * i))] for i in range(8)]


@pytest.fixture(scope="module", params=["here", "process"])
def engine(request: pytest.FixtureRequest, opened: Callable[..., VLLMEngine]) -> VLLMEngine:
    return opened(policy_now(0), where=request.param, max_batch=16)


def policy_now(seed: int) -> Policy:
    return small_policy(seed, hidden=128, max_length=LENGTH)


def run(engine: Engine, policy: Policy, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """`work`, with the weights of `policy`."""

    async def main() -> T:
        await engine.update_weights(Weights(engine.weights_version + 1, policy.named_tensors()))
        return await work()

    return asyncio.run(main())


def both(engine: VLLMEngine, policy: Policy, requests: list[Request]) -> list[tuple[Completion, Completion]]:
    """The answers of engine=vllm and of engine=hf to each request."""

    async def ask(one: Engine) -> list[Completion]:
        return await asyncio.gather(*(one.generate(request) for request in requests))

    return list(zip(run(engine, policy, lambda: ask(engine)), asyncio.run(ask(HFEngine(policy))), strict=True))


def assert_logprobs(policy: Policy, ids: list[int], done: Completion, atol: float = 1e-4) -> None:
    expected = full_logprobs(policy, [*ids, *done.ids])[len(ids) :]
    torch.testing.assert_close(torch.tensor(done.logprobs), expected, atol=atol, rtol=0)


def test_logprobs_of_a_conversation_equal_a_full_forward_pass_and_its_prefix_is_kept(engine: VLLMEngine) -> None:
    policy = policy_now(0)

    async def converse(number: int) -> list[tuple[list[int], Completion]]:
        ids, said = [1, *PROMPTS[number % len(PROMPTS)], *range(5, 5 + number)], []
        for turn in range(4):
            done = await engine.generate(
                Request(str(number), list(ids), Sampling(max_tokens=4 + turn), seed=number * 10 + turn)
            )
            said.append((list(ids), done))
            ids = [*ids, *done.ids, *(5 + (turn * 3 + i + number) % 50 for i in range(20))]
        return said

    async def work() -> list[list[tuple[list[int], Completion]]]:
        engine.stats.take()
        return await asyncio.gather(*(converse(i) for i in range(20)))

    episodes = run(engine, policy, work)
    for said in episodes:
        for ids, done in said:
            assert_logprobs(policy, ids, done)
            assert (done.stop_reason, len(done.ids), len(done.versions)) == ("length", len(done.logprobs), len(done.ids))
    stats = engine.stats.take()
    assert stats["sampled"] == sum(len(done.ids) for said in episodes for _, done in said)
    assert stats["prefill"] + stats["reused"] == sum(len(ids) for said in episodes for ids, _ in said)
    # Of every later turn all is kept but the last block of what was read before, and what is new.
    kept = sum((len(before) + len(done.ids) - 1) // BLOCK * BLOCK for said in episodes for before, done in said[:-1])
    assert stats["reused"] >= kept


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(0.0, max_tokens=30),
        Sampling(0.0, max_tokens=30, stop_ids=(31, 12, 44)),
        Sampling(0.0, max_tokens=30, stop=Stop(("thing 3", "put"))),
        Sampling(0.0, max_tokens=30, stop=Stop(("thing 3",), (("thing 1", "thing 2"),)), stop_ids=(9, 17)),
        Sampling(0.0, max_tokens=30, stop=Stop(("thing",), (("put", "thing 4"),), thinking=True), stop_ids=(9, 17)),
        Sampling(0.0, max_tokens=LENGTH),
    ],
    ids=["free", "stop ids", "stop strings", "thoughts", "opened thoughts", "context"],
)
def test_greedy_responses_and_why_they_end_are_those_of_engine_hf(engine: VLLMEngine, sampling: Sampling) -> None:
    policy = policy_now(1)
    answers = both(engine, policy, [Request(str(i), ids, sampling, seed=i) for i, ids in enumerate(PROMPTS)])
    for mine, other in answers:
        assert (mine.ids, mine.stop_reason) == (other.ids, other.stop_reason)
        torch.testing.assert_close(torch.tensor(mine.logprobs), torch.tensor(other.logprobs), atol=1e-4, rtol=0)
    if sampling.max_tokens == LENGTH:
        assert {mine.stop_reason for mine, _ in answers} == {"context"}


def test_a_prompt_longer_than_the_model_reads_is_reported_not_truncated(engine: VLLMEngine) -> None:
    for length, ids in ((LENGTH - 1, 1), (LENGTH, 0), (LENGTH + 9, 0)):
        request = Request("x", [1 + i % 60 for i in range(length)], Sampling(), seed=0)
        for done in both(engine, policy_now(0), [request])[0]:
            assert (done.stop_reason, len(done.ids)) == ("context", ids)


def test_logprobs_are_those_after_temperature_and_nucleus(engine: VLLMEngine) -> None:
    policy = policy_now(2)
    for temperature, top_p in ((0.5, 1.0), (2.0, 1.0), (1.0, 0.6), (0.7, 0.9)):
        sampling = Sampling(temperature, top_p, max_tokens=8)

        async def work(sampling: Sampling = sampling) -> list[Completion]:
            return await asyncio.gather(*(engine.generate(Request(str(i), PROMPTS[2], sampling, seed=i)) for i in range(12)))

        for done in run(engine, policy, work):
            with torch.no_grad():
                logits = policy.causal(input_ids=torch.tensor([[*PROMPTS[2], *done.ids]])).logits[0, len(PROMPTS[2]) - 1 : -1]
            logp = torch.log_softmax(logits / temperature, -1)
            ordered, order = logp.sort(descending=True)
            outside = ordered.exp().cumsum(-1) - ordered.exp() >= top_p
            logp = torch.log_softmax(logp.scatter(-1, order, ordered.masked_fill(outside, -torch.inf)), -1)
            expected = logp[torch.arange(len(done.ids)), torch.tensor(done.ids)]
            torch.testing.assert_close(torch.tensor(done.logprobs), expected, atol=1e-4, rtol=0)


def test_constrained_sampling_gives_only_allowed_responses_with_renormalised_logprobs(engine: VLLMEngine) -> None:
    policy = policy_now(3)
    responses = [(7, 8), (7, 9), (7, 9, 10, 11, 12), (7, 9, 10, 11, 13), (12,), (13, 14, 15)]
    begun_alike = [(20, 21, *one) for one in responses]

    async def work() -> list[Completion]:
        return await asyncio.gather(
            *(
                engine.generate(Request(str(i), PROMPTS[i % 3], Sampling(1.5, max_tokens=1), i, Trie(allowed, end=2)))
                for i in range(60)
                for allowed in (responses, begun_alike, [(40, 41)])
            )
        )

    answers = run(engine, policy, work)
    said = {tuple(done.ids) for done in answers}
    assert said <= {(*one, 2) for one in [*responses, *begun_alike, (40, 41)]}
    assert len(said) >= 6
    for i, done in enumerate(answers):
        allowed = Trie([responses, begun_alike, [(40, 41)]][i % 3], end=2).allowed(done.ids)
        ids = PROMPTS[i // 3 % 3]
        with torch.no_grad():
            logits = policy.causal(input_ids=torch.tensor([[*ids, *done.ids]])).logits[0, len(ids) - 1 : -1] / 1.5
        expected = [logits[t, one] - logits[t, choice].logsumexp(-1) for t, (one, choice) in enumerate(zip(done.ids, allowed))]
        torch.testing.assert_close(torch.tensor(done.logprobs), torch.stack(expected), atol=1e-4, rtol=0)
        assert done.stop_reason == "stop"


def test_scores_equal_a_full_forward_pass_for_each_candidate(engine: VLLMEngine) -> None:
    policy = policy_now(4)
    many = [[5 + i % 60, 6 + i // 60, 2] for i in range(180)]
    candidates = [[7, 8, 9, 2], [7, 2], [2], [10, 11, 12, 13, 14, 2], [7, 8, 10, 2], [], [15, 16, 2], *many]

    async def work() -> list[list[list[float]]]:
        first = await engine.score("x", [1], [[]])
        too_long = await engine.score("x", list(range(1, LENGTH - 2)), [[5, 6, 7, 8]])
        several = await asyncio.gather(*(engine.score(str(i), ids, candidates) for i, ids in enumerate(PROMPTS[:3])))
        return [first, too_long, *several]

    first, too_long, *several = run(engine, policy, work)
    assert (first, too_long) == ([[]], [])
    for ids, found in zip(PROMPTS, several):
        assert [len(one) for one in found] == [len(one) for one in candidates]
        expected = torch.cat([full_logprobs(policy, [*ids, *one])[len(ids) :] for one in candidates])
        torch.testing.assert_close(torch.tensor([x for one in found for x in one]), expected, atol=1e-4, rtol=0)
    for ids, nothing in (([], [[5]]), ([1], [])):
        with pytest.raises(ValueError, match="nothing to score"):
            asyncio.run(engine.score("x", ids, nothing))


def test_after_each_of_20_updates_logprobs_are_the_learners(engine: VLLMEngine) -> None:
    policy = policy_now(5)
    torch.manual_seed(5)
    for number in range(20):
        with torch.no_grad():
            for p in policy.model.parameters():  # the output head is tied to the embeddings, which move
                p.add_(0.01 * torch.randn_like(p))

        async def work(number: int = number) -> list[Completion]:
            return await asyncio.gather(
                *(engine.generate(Request(str(i), ids, Sampling(), number)) for i, ids in enumerate(PROMPTS))
            )

        for ids, done in zip(PROMPTS, run(engine, policy, work)):
            assert_logprobs(policy, ids, done)
            assert set(done.versions) == {engine.weights_version}


def test_weights_that_come_while_responses_are_sampled_sample_the_rest_of_them(engine: VLLMEngine) -> None:
    older, newer = policy_now(6), policy_now(7)

    async def work() -> list[Completion]:
        under_way = [
            asyncio.ensure_future(engine.generate(Request(str(i), ids, Sampling(max_tokens=120), i)))
            for i, ids in enumerate(PROMPTS)
        ]
        while engine.stats.forwards - begun < 20:
            await asyncio.sleep(0)
        await engine.update_weights(Weights(engine.weights_version + 1, newer.named_tensors()))
        return [await one for one in under_way]

    begun = engine.stats.forwards
    for ids, done in zip(PROMPTS, run(engine, older, work)):
        assert done.versions == sorted(done.versions)
        assert set(done.versions) == {engine.weights_version - 1, engine.weights_version}
        first = done.versions.index(engine.weights_version)
        expected = torch.cat(
            [
                full_logprobs(older, [*ids, *done.ids])[len(ids) : len(ids) + first],
                full_logprobs(newer, [*ids, *done.ids])[len(ids) + first :],
            ]
        )
        torch.testing.assert_close(torch.tensor(done.logprobs), expected, atol=1e-4, rtol=0)


def test_equal_seeds_give_equal_responses_and_others_give_others(engine: VLLMEngine) -> None:
    async def work() -> list[Completion]:
        return [
            await engine.generate(Request("x", PROMPTS[4], Sampling(max_tokens=20), seed)) for seed in (3, (1 << 64) - 1, 3)
        ]

    first, other, again = run(engine, policy_now(0), work)
    assert first.ids == again.ids != other.ids


def test_tokens_are_drawn_by_their_probabilities(engine: VLLMEngine) -> None:
    policy = policy_now(0)
    p = torch.log_softmax(policy.causal(input_ids=torch.tensor([PROMPTS[1]])).logits[0, -1].detach(), -1).exp()

    async def work() -> list[Completion]:
        return await asyncio.gather(
            *(engine.generate(Request(str(i), PROMPTS[1], Sampling(max_tokens=1), seed=i)) for i in range(1500))
        )

    drawn = torch.tensor([done.ids[0] for done in run(engine, policy, work)])
    share = torch.bincount(drawn, minlength=len(p)) / len(drawn)
    assert bool(((share - p).abs() < 4.5 * (p * (1 - p) / len(drawn)).sqrt() + 2e-3).all())


def test_what_nobody_waits_for_is_given_up(engine: VLLMEngine) -> None:
    async def work() -> Completion:
        given_up = asyncio.ensure_future(engine.generate(Request("x", PROMPTS[0], Sampling(max_tokens=200), 0)))
        await asyncio.sleep(0.05)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        return await engine.generate(Request("x", PROMPTS[0], Sampling(max_tokens=3), 0))

    assert len(run(engine, policy_now(0), work).ids) == 3
    assert not engine._live


def test_a_request_that_vllm_refuses_costs_its_episode_alone(engine: VLLMEngine) -> None:
    async def work() -> list[Completion | BaseException]:
        good = engine.generate(Request("good", [1, 5], Sampling(max_tokens=30), 0))
        bad = engine.generate(Request("bad", [1, 5], Sampling(temperature=-1.0), 0))
        return await asyncio.gather(good, bad, return_exceptions=True)

    good, bad = run(engine, policy_now(0), work)
    assert isinstance(good, Completion)
    assert isinstance(bad, EngineError)


def test_new_weights_wake_vllm_that_rests(engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    older, newer = policy_now(8), policy_now(9)

    async def work() -> list[Completion]:
        done = []
        for number, policy in enumerate((newer, None, older)):
            await engine.rest()
            if policy is not None:
                await engine.update_weights(Weights(100 + number, policy.named_tensors()))
            done.append(await engine.generate(Request("x", PROMPTS[5], Sampling(max_tokens=9), 0)))
        return done

    for policy, done in zip((newer, newer, older), run(engine, older, work), strict=True):
        assert_logprobs(policy, PROMPTS[5], done)
