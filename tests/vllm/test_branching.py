"""Continuations with vLLM are those of engine=hf, and what they share is computed once there, too."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch

from agents.models.answers import Stop
from agents.models.policy import Policy
from agents.models.tokenizer import build
from agents.rollout.branching import Branch, continued
from agents.rollout.choice import Scoring
from agents.rollout.constraint import Trie
from agents.rollout.engines.base import Completion, Engine, Request, Sampling, Weights
from agents.rollout.engines.hf import HFEngine
from agents.rollout.engines.vllm import VLLMEngine
from agents.rollout.engines.vllm_core import BLOCK
from agents.rollout.engines.vllm_process import Child
from envs.pool import Pool
from envs.trajectory import Trajectory
from tests.agents.models.models_for_tests import full_logprobs, small_policy
from tests.agents.rollout.test_sampler import episodes, sampler
from tests.envs.toys import Corridor, CorridorConfig

PROMPT = [1, *range(5, 60)]
TRIE = Trie([(7, 8), (7, 9), (7, 9, 10, 11, 12), (7, 9, 10, 11, 13), (12,), (13, 14, 15)], end=2)


def policy_now() -> Policy:
    policy = small_policy(2, hidden=128, max_length=1024)
    policy.tokenizer = build(
        ["left right look around you are in a corridor exit cell wall"], words=[f"thing {i}" for i in range(60 - 12)]
    )
    return policy


@pytest.fixture(scope="module", params=["here", "process"])
def engine(request: pytest.FixtureRequest, opened: Callable[..., VLLMEngine]) -> VLLMEngine:
    return opened(policy_now(), where=request.param, max_batch=16)


@pytest.mark.parametrize("way", ["none", "admissible", "scored"])
@pytest.mark.parametrize("context", ["full", "window"])
def test_greedy_continuations_are_those_of_engine_hf_token_for_token(engine: VLLMEngine, context: str, way: str) -> None:
    hf = HFEngine(policy_now())
    hf_only, theirs = asyncio.run(_continued(hf, hf, context, way))
    vllm_only, mine = asyncio.run(_continued(hf, engine, context, way))
    for one, other in zip(mine, theirs, strict=True):
        assert one.parent is not None
        step = one.parent[1]
        assert [s.response_ids for s in one.steps] == [s.response_ids for s in other.steps]
        assert [s.action for s in one.steps] == [s.action for s in other.steps]
        assert [s.rollout_logprobs for s in one.steps[:step]] == [s.rollout_logprobs for s in other.steps[:step]]
        for left, right in zip(one.steps[step:], other.steps[step:], strict=True):
            assert left.rollout_logprobs == pytest.approx(right.rollout_logprobs, abs=1e-4)
    assert vllm_only["sampled"] == hf_only["sampled"]
    assert vllm_only["computed"] > 0
    assert {name: n for name, n in engine.stats.take().items() if n and name != "forwards"} == {}


async def _continued(hf: HFEngine, engine: Engine, context: str, way: str) -> tuple[dict[str, int], list[Trajectory]]:
    """What greedy continuations of episodes that hf sampled took, and they themselves."""
    with Pool(partial(Corridor, CorridorConfig(max_steps=6)), mode="inline") as pool:
        made = sampler(hf, pool, context=context, constrained=way == "admissible")
        scoring = Scoring(made.player.dialogue.tries) if way == "scored" else None
        made = replace(made, player=replace(made.player, scoring=scoring))
        parents = await made.play(episodes(3), 1.0)
        branches = [
            Branch(one, step, 5 + number, token)
            for one in parents
            for step in range(len(one.steps))
            for token in (range(0, len(one.steps[step].response_ids), 2) if way != "scored" else [0])
            for number in range(2)
        ]
        if isinstance(engine, VLLMEngine):
            await engine._ready()
            engine.stats.take()
        made = replace(made, player=replace(made.player, engine=engine))
        children = await continued(made, branches, 0.0)
        return made.branched.take(), children


def test_what_continuations_share_is_computed_once(engine: VLLMEngine) -> None:
    async def main() -> None:
        await engine._ready()
        with Pool(partial(Corridor, CorridorConfig(max_steps=8)), mode="inline") as pool:
            made = sampler(HFEngine(policy_now()), pool)
            made = replace(made, player=replace(made.player, engine=engine))
            [parent] = await made.play([episodes(3)[2]], 1.0)
            step = len(parent.steps) - 1
            read = sum(len(one.prompt_ids) + len(one.response_ids) for one in parent.steps) - len(parent.steps[-1].response_ids)
            assert read > 2 * BLOCK
            await continued(made, [Branch(parent, step, seed) for seed in range(8)], 1.0)
            counts = made.branched.take()
            # Whole blocks are shared: what is left of the last one is read by each.
            assert counts["prefill"] + counts["reused"] == 8 * read
            assert counts["prefill"] <= read + 8 * BLOCK
            assert counts["steps"] == 8

    asyncio.run(main())


@pytest.mark.parametrize(
    ("sampling", "trie"),
    [
        (Sampling(0.0, max_tokens=12), None),
        (Sampling(0.0, max_tokens=30, stop_ids=(31, 12, 44)), None),
        (Sampling(0.0, max_tokens=30, stop=Stop(("thing 3", "look"))), None),
        (Sampling(0.0, max_tokens=30, stop=Stop(("thing",), (("look", "thing 4"),), thinking=True), stop_ids=(9, 17)), None),
        (Sampling(0.0), TRIE),
    ],
    ids=["free", "stop ids", "stop strings", "thoughts", "constrained"],
)
def test_a_greedy_response_goes_on_from_any_token_as_if_it_had_been_sampled_in_one_go(
    engine: VLLMEngine, sampling: Sampling, trie: Trie | None
) -> None:
    async def main() -> None:
        whole = await engine.generate(Request("whole", PROMPT, sampling, 0, trie))
        asked = [Request(f"{n}", PROMPT, sampling, 0, trie, whole.ids[:n]) for n in range(len(whole.ids))]
        for n, done in enumerate(await asyncio.gather(*map(engine.generate, asked))):
            assert [*whole.ids[:n], *done.ids] == whole.ids
            assert done.stop_reason == whole.stop_reason
            assert done.logprobs == pytest.approx(whole.logprobs[n:], abs=1e-4)
        with pytest.raises(ValueError, match="ends it"):
            await engine.generate(Request("over", PROMPT, sampling, 0, trie, whole.ids))

    asyncio.run(main())


def test_a_response_that_was_begun_elsewhere_survives_the_death_of_vllm(opened: Callable[..., VLLMEngine]) -> None:
    policy = policy_now()
    engine = opened(policy, max_batch=4, timeout_s=10.0)
    written = [8, 9, 10, 11]

    async def main() -> Completion:
        await engine.update_weights(Weights(1, policy.named_tensors()))
        under_way = asyncio.ensure_future(engine.generate(Request("x", PROMPT, Sampling(max_tokens=700), 0, None, written)))
        while engine.stats.forwards < 40:
            await asyncio.sleep(0)
        assert isinstance(engine._runner, Child)
        os.kill(engine._runner.pid, signal.SIGKILL)
        return await under_way

    done = asyncio.run(main())
    assert engine.stats.take()["restarts"] == 1
    assert (len(done.ids), done.stop_reason) == (696, "length")
    ids = [*PROMPT, *written]
    expected = full_logprobs(policy, [*ids, *done.ids])[len(ids) :]
    torch.testing.assert_close(torch.tensor(done.logprobs), expected, atol=1e-4, rtol=0)
