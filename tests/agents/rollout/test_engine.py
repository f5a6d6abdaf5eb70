"""The in-process engine: what it samples, how it batches, and that kept caches give the numbers of a full forward pass."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import torch

from agents.models.answers import Stop
from agents.models.memory import Part
from agents.models.policy import Policy
from agents.rollout.constraint import Trie
from agents.rollout.engines import branches
from agents.rollout.engines.base import Completion, Request, Sampling, Weights
from agents.rollout.engines.hf import HFEngine
from tests.agents.models.models_for_tests import full_logprobs, small_policy


async def converse(
    engine: HFEngine, session: str, turns: int, seed: int, **sampling: object
) -> list[tuple[list[int], Completion]]:
    ids = [1, *(5 + (seed * 7 + i) % 50 for i in range(8 + seed % 5))]
    said = []
    for turn in range(turns):
        settings = Sampling(max_tokens=2 + (seed + turn) % 4, **sampling)  # type: ignore[arg-type]
        done = await engine.generate(Request(session, list(ids), settings, seed=seed * 100 + turn))
        said.append((list(ids), done))
        ids = [*ids, *done.ids, *(5 + (turn * 3 + i + seed) % 50 for i in range(3 + turn % 3))]
    engine.release(session)
    return said


def run(engine: HFEngine, episodes: int, turns: int = 5) -> list[list[tuple[list[int], Completion]]]:
    async def main() -> list[list[tuple[list[int], Completion]]]:
        return await asyncio.gather(*(converse(engine, str(i), turns + i % 3, i) for i in range(episodes)))

    return asyncio.run(main())


def test_logprobs_of_kept_caches_equal_a_full_forward_pass() -> None:
    policy = small_policy()
    for said in run(HFEngine(policy), 12):
        for ids, done in said:
            expected = full_logprobs(policy, [*ids, *done.ids])[len(ids) :]
            torch.testing.assert_close(torch.tensor(done.logprobs), expected, atol=1e-4, rtol=1e-4)


def test_sampling_does_not_depend_on_what_else_is_in_the_batch() -> None:
    policy = small_policy()
    together = run(HFEngine(policy), 9)
    alone = [asyncio.run(converse(HFEngine(policy), "x", 5 + i % 3, i)) for i in range(9)]
    few_places = run(HFEngine(policy, max_batch=9, patience=0), 9)
    for one, other, third in zip(together, alone, few_places, strict=True):
        assert [d.ids for _, d in one] == [d.ids for _, d in other] == [d.ids for _, d in third]


def test_only_new_tokens_are_prefilled() -> None:
    engine = HFEngine(small_policy())
    said = run(engine, 6)
    stats = engine.stats.take()
    last = [ids for episode in said for ids, _ in episode[-1:]]
    responses = sum(len(d.ids) for episode in said for _, d in episode[:-1])
    # A turn prefills its observation and the last token of the response before it, which was sampled but never read.
    assert stats["prefill"] == sum(map(len, last)) - responses + sum(len(episode) - 1 for episode in said)
    assert stats["sampled"] == sum(len(d.ids) for episode in said for _, d in episode)


def test_no_generation_is_spent_on_a_finished_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = HFEngine(small_policy())
    read, rows = engine._memory.read, []

    def counted(policy: Policy, parts: Sequence[Part]) -> torch.Tensor:
        rows.append(len(parts))
        return read(policy, parts)

    monkeypatch.setattr(engine._memory, "read", counted)
    said = run(engine, 5)
    assert len({len(episode) for episode in said}) > 1  # some go on while others have ended
    responses = [done for episode in said for _, done in episode]
    assert sum(rows) == sum(len(done.ids) for done in responses)  # every row of every pass gave one token that was asked for
    # The last token of an episode is sampled and never computed.
    last = [episode[-1] for episode in said]
    assert engine.stats.computed_tokens == sum(len(ids) + len(done.ids) - 1 for ids, done in last)
    assert engine._slots == []
    assert engine._index == {}


def test_who_waits_for_a_slot_does_not_keep_the_processor_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only slot's episode is in its environment, another wants to begin, and a third has given up."""
    engine = HFEngine(small_policy(), max_batch=1)
    looked = 0
    admit = engine._admit

    def counting() -> None:
        nonlocal looked
        looked += 1
        admit()

    monkeypatch.setattr(engine, "_admit", counting)

    async def main() -> Completion:
        def ask(session: str) -> asyncio.Task[Completion]:
            return asyncio.ensure_future(engine.generate(Request(session, [1, 5, 6], Sampling(max_tokens=3), 0)))

        await ask("playing")
        waits, leaves = ask("waits"), ask("leaves")
        for _ in range(50):
            await asyncio.sleep(0)
        before = looked
        for _ in range(1000):
            await asyncio.sleep(0)
        assert looked == before
        leaves.cancel()
        await ask("playing")
        engine.release("playing")
        return await waits

    for _ in range(2):  # each in a loop of its own
        assert len(asyncio.run(main()).ids) == 3
        engine.release("waits")


def test_a_long_answer_does_not_hold_the_others_back() -> None:
    engine = HFEngine(small_policy(), patience=4)
    order: list[str] = []

    async def talk(name: str, turns: int, tokens: int) -> None:
        ids = [1, 7, 8, 9]
        for turn in range(turns):
            done = await engine.generate(Request(name, list(ids), Sampling(max_tokens=tokens), seed=turn))
            ids = [*ids, *done.ids, 11]
        order.append(name)

    async def main() -> None:
        await asyncio.gather(talk("long", 1, 200), talk("short", 6, 3), talk("other", 6, 3))

    asyncio.run(main())
    assert order[-1] == "long"


def test_constrained_sampling_gives_only_allowed_responses_with_renormalised_logprobs() -> None:
    policy = small_policy()
    responses = [(7, 8), (7, 9), (7, 9, 10), (12,), (13, 14, 15)]
    trie = Trie(responses, end=2)
    seen: dict[tuple[int, ...], float] = {}

    async def main() -> None:
        engine = HFEngine(policy)
        for seed in range(300):
            done = await engine.generate(Request(str(seed), [1, 5, 6], Sampling(max_tokens=9), seed=seed, trie=trie))
            engine.release(str(seed))
            assert done.stop_reason == "stop"
            seen[tuple(done.ids[:-1])] = sum(done.logprobs)

    asyncio.run(main())
    assert set(seen) <= set(responses)
    assert len(seen) >= 2
    everything = sum(torch.tensor(seen[r]).exp() for r in responses if r in seen)
    assert everything <= 1 + 1e-5
    if len(seen) == len(responses):
        assert everything == pytest.approx(1.0, abs=1e-4)


def test_an_allowed_response_is_never_cut_off() -> None:
    trie = Trie([(7, 8, 9, 10), (7, 11, 12, 13)], end=2)

    async def main() -> Completion:
        return await HFEngine(small_policy()).generate(Request("x", [1, 5], Sampling(max_tokens=1), seed=0, trie=trie))

    done = asyncio.run(main())
    assert done.stop_reason == "stop"
    assert trie.allowed(done.ids)[-1] == [2]


def test_forced_tokens_cost_no_pass_of_their_own_and_are_read_before_the_next_choice() -> None:
    policy = small_policy()
    trie = Trie([(7, 8, 9, 10, 11, 12), (7, 8, 9, 13, 14, 15)], end=2)

    async def main() -> tuple[list[int], Completion, Completion, dict[str, int]]:
        engine = HFEngine(policy)
        first = await engine.generate(Request("x", [1, 5, 6], Sampling(max_tokens=9), seed=0, trie=trie))
        stats = engine.stats.take()
        ids = [1, 5, 6, *first.ids, 20, 21]
        return ids, first, await engine.generate(Request("x", ids, Sampling(max_tokens=4), seed=1)), stats

    ids, first, second, stats = asyncio.run(main())
    assert len(first.ids) == 7
    assert [logprob != 0 for logprob in first.logprobs] == [False] * 3 + [True] + [False] * 3
    assert stats["forwards"] == 2  # the prompt, and what is forced up to the one choice there is
    assert stats["computed"] == 3 + 3
    own = full_logprobs(policy, [*ids[: 3 + 3], 10])[-1], full_logprobs(policy, [*ids[: 3 + 3], 13])[-1]
    chosen = own[0] if first.ids[3] == 10 else own[1]
    assert first.logprobs[3] == pytest.approx(float(chosen - torch.logsumexp(torch.stack(own), 0)), abs=1e-4)
    expected = full_logprobs(policy, [*ids, *second.ids])[len(ids) :]
    torch.testing.assert_close(torch.tensor(second.logprobs), expected, atol=1e-4, rtol=1e-4)


def test_frequencies_follow_the_reported_probabilities() -> None:
    policy = small_policy(hidden=16)
    trie = Trie([(7,), (8,), (9,), (10,)], end=2)
    counts: dict[int, int] = {}
    probability: dict[int, float] = {}

    async def one(engine: HFEngine, seed: int) -> None:
        done = await engine.generate(Request(str(seed), [1, 5, 6], Sampling(), seed=seed, trie=trie))
        engine.release(str(seed))
        counts[done.ids[0]] = counts.get(done.ids[0], 0) + 1
        probability[done.ids[0]] = float(torch.tensor(done.logprobs[0]).exp())

    async def main() -> None:
        engine = HFEngine(policy)
        await asyncio.gather(*(one(engine, s) for s in range(2000)))

    asyncio.run(main())
    for token, p in probability.items():
        assert counts[token] / 2000 == pytest.approx(p, abs=4.5 * (p * (1 - p) / 2000) ** 0.5 + 1e-3)


def test_greedy_takes_the_likeliest_token_and_top_p_cuts_the_tail() -> None:
    policy = small_policy()
    with torch.no_grad():
        logits = policy.causal(input_ids=torch.tensor([[1, 5, 6]])).logits[0, -1]

    async def first(seed: int, **sampling: float) -> Completion:
        engine = HFEngine(policy)
        return await engine.generate(Request("x", [1, 5, 6], Sampling(max_tokens=1, **sampling), seed=seed))

    assert asyncio.run(first(3, temperature=0.0)).ids == [int(logits.argmax())]
    nucleus = [asyncio.run(first(s, top_p=1e-6)) for s in range(5)]
    assert {c.ids[0] for c in nucleus} == {int(logits.argmax())}
    assert all(c.logprobs[0] == pytest.approx(0.0, abs=1e-6) for c in nucleus)


def test_stop_strings_and_stop_ids_end_a_response_and_are_kept() -> None:
    policy = small_policy()

    async def one(**sampling: object) -> Completion:
        engine = HFEngine(policy)
        return await engine.generate(Request("x", [1, 5, 6], Sampling(max_tokens=40, **sampling), seed=5))  # type: ignore[arg-type]

    free = asyncio.run(one())
    assert free.stop_reason == "length"
    stopped = asyncio.run(one(stop_ids=(free.ids[3],)))
    assert stopped.ids == free.ids[: free.ids.index(free.ids[3]) + 1]
    word = policy.tokenizer.decode([free.ids[4]])
    by_string = asyncio.run(one(stop=Stop((word,))))
    assert by_string.stop_reason == "stop"
    assert policy.tokenizer.decode(by_string.ids).endswith(word)
    within = policy.tokenizer.decode(free.ids[3:5])[:-1]  # a token may go on after the string that ends the response
    assert asyncio.run(one(stop=Stop((within,)))).stop_reason == "stop"


def test_a_prompt_longer_than_the_model_reads_is_reported_not_truncated() -> None:
    policy = small_policy(max_length=16)

    async def main() -> Completion:
        return await HFEngine(policy).generate(Request("x", list(range(5, 25)), Sampling(), seed=0))

    assert asyncio.run(main()).stop_reason == "context"


def test_new_weights_drop_everything_kept_from_older_ones() -> None:
    policy, newer = small_policy(0), small_policy(1)

    async def main() -> tuple[Completion, Completion]:
        engine = HFEngine(policy)
        first = await engine.generate(Request("x", [1, 5, 6], Sampling(max_tokens=2), seed=0))
        await engine.update_weights(Weights(1, newer.named_tensors()))
        ids = [1, 5, 6, *first.ids, 9]
        return first, await engine.generate(Request("x", ids, Sampling(max_tokens=3), seed=1))

    first, second = asyncio.run(main())
    assert (set(first.versions), set(second.versions)) == ({0}, {1})
    expected = full_logprobs(newer, [1, 5, 6, *first.ids, 9, *second.ids])[-len(second.ids) :]
    torch.testing.assert_close(torch.tensor(second.logprobs), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.fault("a forward pass fails", lost="the requests that were in it")
def test_a_failure_inside_a_pass_reaches_every_waiting_episode() -> None:
    policy = small_policy()
    engine = HFEngine(policy)

    async def main() -> list[object]:
        bad = Request("bad", [10**9], Sampling(), seed=0)
        good = Request("good", [1, 5], Sampling(max_tokens=30), seed=0)
        return await asyncio.gather(engine.generate(good), engine.generate(bad), return_exceptions=True)

    assert all(isinstance(r, Exception) for r in asyncio.run(main()))


# -- scores of candidates ---------------------------------------------------------------------------------------------------

CANDIDATES = [[7, 8, 9, 2], [7, 2], [2], [10, 11, 12, 13, 14, 2], [7, 8, 10, 2], [], [15, 16, 2]]


def expected_scores(policy: Policy, ids: list[int], candidates: list[list[int]]) -> list[list[float]]:
    """By one plain forward pass for each candidate."""
    return [full_logprobs(policy, [*ids, *candidate])[len(ids) :].tolist() for candidate in candidates]


def assert_scores(found: list[list[float]], expected: list[list[float]]) -> None:
    assert [len(one) for one in found] == [len(one) for one in expected]
    flat, wanted = (torch.tensor([x for one in scores for x in one]) for scores in (found, expected))
    torch.testing.assert_close(flat, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("widest", "largest"), [(512, 1 << 25), (4, 1 << 25), (512, 3000), (4, 1)])
def test_scores_equal_a_full_forward_pass_for_each_candidate_however_passes_are_cut(
    monkeypatch: pytest.MonkeyPatch, widest: int, largest: int
) -> None:
    monkeypatch.setattr(branches, "WIDEST_ROW", widest)
    monkeypatch.setattr(branches, "LARGEST_PASS", largest)
    policy = small_policy()
    engine = HFEngine(policy)

    async def session(number: int) -> None:
        """Turns of scoring and of sampling, each of which continues the one before."""
        ids = [1, *(5 + (number * 7 + i) % 50 for i in range(8 + number % 5))]
        for turn in range(4):
            candidates = CANDIDATES[turn:] + CANDIDATES[: number % 3]
            found = await engine.score(str(number), ids, candidates)
            assert_scores(found, expected_scores(policy, ids, candidates))
            if turn % 2:
                done = await engine.generate(Request(str(number), list(ids), Sampling(max_tokens=3), seed=turn))
                wanted = full_logprobs(policy, [*ids, *done.ids])[len(ids) :]
                torch.testing.assert_close(torch.tensor(done.logprobs), wanted, atol=1e-4, rtol=1e-4)
                ids = [*ids, *done.ids]
            ids = [*ids, *candidates[0], 20 + turn, 30]
        engine.release(str(number))

    async def main() -> None:
        await asyncio.gather(*(session(i) for i in range(7)))

    asyncio.run(main())
    assert engine._slots == []


def test_a_prefix_is_computed_once_for_all_candidates_and_kept_for_the_next_turn() -> None:
    engine = HFEngine(small_policy())
    ids = list(range(1, 31))

    async def main() -> tuple[dict[str, int], dict[str, int]]:
        await engine.score("x", ids, CANDIDATES)
        first = engine.stats.take()
        await engine.score("x", [*ids, 40, 41], CANDIDATES)
        return first, engine.stats.take()

    first, second = asyncio.run(main())
    branches_of_candidates = sum(max(0, len(c) - 1) for c in CANDIDATES)
    assert (first["forwards"], first["prefill"], first["computed"]) == (1, 30, 30 + branches_of_candidates)
    assert (second["forwards"], second["prefill"], second["computed"]) == (1, 2, 2 + branches_of_candidates)
    assert second["reused"] == 30


def test_sessions_are_scored_together() -> None:
    engine = HFEngine(small_policy())

    async def main() -> None:
        await asyncio.gather(*(engine.score(str(i), [1, 5, 6 + i], CANDIDATES) for i in range(20)))

    asyncio.run(main())
    assert engine.stats.forwards == 1


def test_candidates_that_do_not_fit_the_model_are_reported_and_nothing_to_score_is_refused() -> None:
    engine = HFEngine(small_policy(max_length=16))

    async def main() -> None:
        assert await engine.score("x", list(range(1, 13)), [[5, 6, 7, 8]]) != []
        assert await engine.score("x", list(range(1, 14)), [[5, 6, 7, 8]]) == []
        for ids, candidates in (([], [[5]]), ([1], [])):
            with pytest.raises(ValueError, match="nothing to score"):
                await engine.score("x", ids, candidates)

    asyncio.run(main())
