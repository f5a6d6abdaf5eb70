"""What an engine begins with: a part of a response, and what was read ahead for sessions that begin alike."""

from __future__ import annotations

import asyncio

import pytest
import torch

from agents.models.answers import Stop
from agents.rollout.constraint import Trie
from agents.rollout.engines.base import Completion, EngineStats, Request, Sampling
from agents.rollout.engines.hf import HFEngine
from tests.agents.models.models_for_tests import full_logprobs, small_policy

PROMPT = [1, *range(5, 40)]
TRIE = Trie([(7, 8), (7, 9), (7, 9, 10, 11, 12), (7, 9, 10, 11, 13), (12,), (13, 14, 15)], end=2)


@pytest.mark.parametrize(
    ("sampling", "trie"),
    [
        (Sampling(1.0, max_tokens=12), None),
        (Sampling(0.7, 0.9, max_tokens=12), None),
        (Sampling(0.0, max_tokens=12), None),
        (Sampling(1.0, max_tokens=40, stop_ids=(31, 12, 44)), None),
        (Sampling(1.0, max_tokens=40, stop=Stop(("thing 3", "put"))), None),
        (Sampling(1.0, max_tokens=40, stop=Stop(("thing",), (("put", "thing 4"),), thinking=True), stop_ids=(9, 17)), None),
        (Sampling(1.0), TRIE),
    ],
    ids=["free", "nucleus", "greedy", "stop ids", "stop strings", "thoughts", "constrained"],
)
def test_a_response_goes_on_from_any_token_as_if_it_had_been_sampled_in_one_go(sampling: Sampling, trie: Trie | None) -> None:
    engine = HFEngine(small_policy())

    async def main() -> None:
        for seed in range(4):
            whole = await engine.generate(Request(f"whole {seed}", PROMPT, sampling, seed, trie))
            parts = await asyncio.gather(
                *(
                    engine.generate(Request(f"{seed} {n}", PROMPT, sampling, seed, trie, whole.ids[:n]))
                    for n in range(len(whole.ids))
                )
            )
            for n, done in enumerate(parts):
                assert [*whole.ids[:n], *done.ids] == whole.ids
                assert done.stop_reason == whole.stop_reason
                assert done.logprobs == pytest.approx(whole.logprobs[n:], abs=1e-4)
                assert len(done.versions) == len(done.ids)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("sampling", "trie", "written", "why"),
    [
        (Sampling(stop_ids=(31,)), None, [8, 31], "ends it"),
        (Sampling(max_tokens=2), None, [8, 9], "length"),
        (Sampling(), TRIE, [7, 8, 2], "ends it"),
        (Sampling(), TRIE, [8], "allowed"),
    ],
)
def test_what_cannot_go_on_is_refused_and_others_are_answered(
    sampling: Sampling, trie: Trie | None, written: list[int], why: str
) -> None:
    engine = HFEngine(small_policy())

    async def main() -> None:
        asked = (Request("a", PROMPT, sampling, 0, trie, written), Request("b", PROMPT, Sampling(max_tokens=3), 0))
        wrong, right = await asyncio.gather(*map(engine.generate, asked), return_exceptions=True)
        assert isinstance(wrong, ValueError)
        assert why in str(wrong)
        assert isinstance(right, Completion)
        assert len(right.ids) == 3

    asyncio.run(main())


def test_a_part_of_a_response_that_fills_the_context_is_told_as_context() -> None:
    engine = HFEngine(small_policy(max_length=40))

    async def main() -> None:
        for count, stop in ((3, 1), (4, 0)):
            done = await engine.generate(Request(f"{count}", PROMPT, Sampling(), 0, None, [8] * count))
            assert (done.stop_reason, len(done.ids)) == ("context", stop)

    asyncio.run(main())


@pytest.mark.parametrize("kept", ["slots", "chunks", "tokens"])
def test_sessions_begin_with_the_longest_that_is_held_of_what_they_read(kept: str) -> None:
    policy = small_policy()
    policy.kept = kept  # type: ignore[assignment]
    engine = HFEngine(policy)

    async def main() -> None:
        apart = EngineStats()
        for name, count in (("short", 10), ("long", 30), ("other", 1)):
            engine.count_apart(name, apart)
            await engine.hold(name, [*PROMPT[:count], 59, 58])
        # Slots go on from any place, a model's own cache from its end alone.
        assert apart.computed_tokens == apart.prefill_tokens == (11 + 21 + 1 if kept == "slots" else 11 + 31 + 2)
        engine.stats.take()
        ids = [*PROMPT[:30], 59, 58]
        done = await engine.generate(Request("a", ids, Sampling(max_tokens=4), 0))
        assert engine.stats.take()["prefill"] == 1
        expected = full_logprobs(policy, [*ids, *done.ids])[len(ids) :]
        torch.testing.assert_close(torch.tensor(done.logprobs), expected, atol=1e-4, rtol=1e-4)
        for name in ("short", "long", "other"):
            engine.release(name)
        await engine.generate(Request("b", ids, Sampling(max_tokens=4), 0))
        assert engine.stats.take()["prefill"] == len(ids)

    asyncio.run(main())


def test_to_hold_takes_no_place_for_longer_than_it_is_read() -> None:
    """With one place in the batch: what is held waits for it, and gives it back."""
    engine = HFEngine(small_policy(), max_batch=1)

    async def main() -> None:
        async def episode(name: str) -> None:
            await engine.generate(Request(name, PROMPT, Sampling(max_tokens=5), 0))
            engine.release(name)

        await asyncio.wait_for(
            asyncio.gather(episode("a"), engine.hold("x", PROMPT), episode("b"), engine.hold("y", PROMPT[:9]), episode("c")), 60
        )
        assert sorted(engine._held) == ["x", "y"]
        assert not engine._slots

    asyncio.run(main())


def test_what_is_held_goes_on_from_what_was_held_and_takes_its_place() -> None:
    engine = HFEngine(small_policy())

    async def main() -> None:
        for count in (10, 25, 25, 36):
            await engine.hold("x", PROMPT[:count])
        assert engine.stats.take()["computed"] == 35
        assert [len(one.ids) for one in engine._held.values()] == [35]
        await engine.hold("x", [])
        await engine.hold("x", [3] * 600)  # more than can be read: it would help nobody
        assert engine.stats.take()["computed"] == 0

    asyncio.run(main())
