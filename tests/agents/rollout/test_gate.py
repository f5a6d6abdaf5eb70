"""Weights that change between requests: those under way end with the old version, later ones begin with the new one."""

from __future__ import annotations

import asyncio

import pytest

from agents.config.sections import EngineConfig
from agents.rollout.engines.base import Completion, Request, Sampling, Weights
from agents.rollout.engines.hf import HFEngine
from agents.rollout.engines.scripted import ScriptedEngine
from agents.rollout.gate import Gate
from tests.agents.models.models_for_tests import small_policy


def request(session: str) -> Request:
    return Request(session, [1, 5, 6], Sampling(max_tokens=12), seed=0)


def test_a_response_is_of_one_version_and_what_comes_meanwhile_waits_for_the_next() -> None:
    newer = small_policy(1)

    async def main() -> list[Completion]:
        gate = Gate.open(small_policy(0), EngineConfig())
        assert isinstance(gate.engine, HFEngine)
        going = asyncio.create_task(gate.generate(request("a")))
        for _ in range(6):
            await asyncio.sleep(0)
        publishing = asyncio.create_task(gate.update_weights(Weights(7, newer.named_tensors())))
        await asyncio.sleep(0)
        later = asyncio.create_task(gate.generate(request("b")))
        done = await asyncio.gather(going, later)
        await publishing
        assert gate.weights_version == 7
        return done

    before, after = asyncio.run(main())
    assert set(before.versions) == {0}
    assert set(after.versions) == {7}
    assert before.logprobs == asyncio.run(HFEngine(small_policy(0)).generate(request("x"))).logprobs
    assert after.logprobs == asyncio.run(HFEngine(newer).generate(request("x"))).logprobs


def test_scores_pass_the_gate_too() -> None:
    async def main() -> None:
        gate = Gate(ScriptedEngine())
        gate._open.clear()
        scoring = asyncio.create_task(gate.score("a", [1], [[2, 3]]))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not scoring.done()
        gate._open.set()
        assert await scoring == [[0.0, 0.0]]

    asyncio.run(main())


def test_a_request_that_is_given_up_and_weights_that_are_refused_leave_the_gate_open() -> None:
    class Refusing(ScriptedEngine):
        async def generate(self, request: Request) -> Completion:
            await asyncio.Event().wait()
            return await super().generate(request)

        async def update_weights(self, weights: Weights) -> None:
            raise ValueError("weights of another model")

    async def main() -> None:
        gate = Gate(Refusing())
        going = asyncio.create_task(gate.generate(request("a")))
        await asyncio.sleep(0)
        publishing = asyncio.create_task(gate.update_weights(Weights(1, {})))
        await asyncio.sleep(0)
        going.cancel()
        with pytest.raises(ValueError, match="another model"):
            await publishing
        assert gate.weights_version == 0
        assert await gate.score("a", [1], [[2]]) == [[0.0]]

    asyncio.run(main())
