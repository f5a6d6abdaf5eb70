"""Weights on their way from learner to engines: versions, by reference, whole or as an adapter."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from agents.config.sections import EngineConfig, LoraConfig
from agents.models.lora import with_new_adapter
from agents.models.policy import Policy
from agents.rollout.engines.base import Completion, Request, Sampling, Weights
from agents.rollout.engines.hf import HFEngine
from agents.training.weights import WeightsError, WeightStore
from tests.agents.models.models_for_tests import full_logprobs, small_policy


def lora_policy(seed: int = 0) -> Policy:
    plain = small_policy(seed)
    wrapped = with_new_adapter(plain.model, LoraConfig(enabled=True, r=4), base="", seed=seed)
    return Policy(wrapped, plain.tokenizer)


def shift(policy: Policy, by: float = 0.05) -> None:
    """A step of a learner: weights change in place."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for _, p in policy.trainable():
            p.add_(by * torch.randn(p.shape, generator=generator))


def sample(engine: HFEngine) -> Completion:
    return asyncio.run(engine.generate(Request("x", [1, 5, 6], Sampling(max_tokens=8), seed=3)))


def opened(policy: Policy) -> HFEngine:
    return HFEngine.open(policy, EngineConfig())


@pytest.mark.parametrize("make", [small_policy, lora_policy])
def test_an_engine_samples_from_the_version_that_was_published_last(make) -> None:
    policy = make()
    engine = opened(policy)
    store = WeightStore(policy, [engine])
    asyncio.run(store.publish(0))
    before = sample(engine)
    engine.release("x")
    shift(policy)
    asyncio.run(store.publish(1))
    after = sample(engine)
    assert (set(before.versions), set(after.versions)) == ({0}, {1})
    assert before.logprobs != after.logprobs
    assert after.logprobs == sample(HFEngine(policy)).logprobs


def test_in_one_process_weights_are_handed_over_without_a_copy() -> None:
    policy = small_policy()
    engine = opened(policy)
    asyncio.run(WeightStore(policy, [engine]).publish(0))
    mine, theirs = dict(policy.causal.named_parameters()), dict(engine.policy.causal.named_parameters())
    assert all(mine[name].data_ptr() == theirs[name].data_ptr() for name in mine)
    assert not any(p.requires_grad for p in theirs.values())


def test_what_is_done_to_the_trained_model_object_does_not_reach_the_engine() -> None:
    policy = lora_policy()
    shift(policy)
    engine = opened(policy)
    before = sample(engine)
    engine.release("x")
    with policy.reference(), policy.training():
        assert sample(engine).logprobs == before.logprobs


def test_an_engine_that_takes_no_adapter_gets_it_merged(tmp_path: Path) -> None:
    policy = lora_policy()
    shift(policy)

    class Whole(HFEngine):
        takes_adapter = False

    plain = small_policy(0)
    engine = Whole(plain)
    asyncio.run(WeightStore(policy, [engine]).publish(4))
    assert engine.weights_version == 4
    torch.testing.assert_close(torch.tensor(sample(engine).logprobs), torch.tensor(sample(HFEngine(policy)).logprobs))


def test_an_engine_opened_with_an_adapter_and_given_merged_weights_applies_it_once() -> None:
    policy = lora_policy()
    shift(policy)

    class Whole(HFEngine):
        takes_adapter = False

    engine = Whole.open(policy, EngineConfig())
    store = WeightStore(policy, [engine])
    before = sample(engine)
    for version in (1, 2):
        asyncio.run(store.publish(version))
        engine.release("x")
        mine = sample(HFEngine(policy))
        torch.testing.assert_close(torch.tensor(sample(engine).logprobs), torch.tensor(mine.logprobs))
        shift(policy)
    assert mine.logprobs != before.logprobs
    # What learns is as it was.
    assert sum(p.requires_grad for p in policy.model.parameters()) == len(policy.trainable()) > 0


def test_any_number_of_engines_is_served_each_in_its_own_way() -> None:
    policy = lora_policy()

    class Whole(HFEngine):
        takes_adapter = False

    engines = [opened(policy), Whole(small_policy(0)), opened(policy)]
    shift(policy)
    asyncio.run(WeightStore(policy, engines).publish(2))
    assert [engine.weights_version for engine in engines] == [2, 2, 2]
    assert len({tuple(sample(engine).ids) for engine in engines}) == 1


def test_an_adapter_has_the_names_of_its_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    policy = lora_policy()
    policy.model.peft_config["default"].base_model_name_or_path = "base"
    policy.save(tmp_path)
    assert set(policy.adapter_tensors()) == set(load_file(tmp_path / "adapter_model.safetensors"))


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match="these weights are of another model: here is no 'other'"):
        asyncio.run(HFEngine(small_policy()).update_weights(Weights(1, {"other": torch.zeros(1)})))


@pytest.mark.parametrize("wait", [2, 9])
def test_a_response_goes_on_with_weights_that_come_while_it_is_sampled(wait: int) -> None:
    older, newer = small_policy(0), small_policy(1)
    prompt = [1, 5, 6]

    async def main() -> Completion:
        engine = opened(older)
        going = asyncio.create_task(engine.generate(Request("x", prompt, Sampling(max_tokens=12), seed=0)))
        for _ in range(wait):
            await asyncio.sleep(0)
        await engine.update_weights(Weights(7, newer.named_tensors()))
        return await going

    done = asyncio.run(main())
    first = done.versions.index(7)
    assert 0 < first < len(done.ids) == len(done.versions)
    assert set(done.versions[:first]) == {0}
    for policy, part in ((small_policy(0), slice(None, first)), (newer, slice(first, None))):
        expected = full_logprobs(policy, [*prompt, *done.ids])[len(prompt) :]
        torch.testing.assert_close(torch.tensor(done.logprobs)[part], expected[part], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [small_policy, lora_policy])
def test_with_overlap_what_an_engine_samples_from_is_not_changed_by_the_learner(make) -> None:
    policy = make()
    engine = opened(policy)
    store = WeightStore(policy, [engine], copies=True)
    asyncio.run(store.publish(0))
    before = sample(engine)
    engine.release("x")
    shift(policy)
    assert sample(engine).logprobs == before.logprobs
    engine.release("x")
    asyncio.run(store.publish(1))
    assert sample(engine).logprobs == sample(HFEngine(policy)).logprobs != before.logprobs


def test_only_what_the_learner_changes_is_copied() -> None:
    policy = lora_policy()
    engine = opened(policy)
    asyncio.run(WeightStore(policy, [engine], copies=True).publish(0))
    trained = {name for name, _ in policy.trainable()}
    mine, theirs = dict(policy.model.named_parameters()), dict(engine.policy.model.named_parameters())
    assert {name for name in mine if mine[name].data_ptr() != theirs[name].data_ptr()} == trained


class Deaf(HFEngine):
    """Says nothing and keeps its weights."""

    async def update_weights(self, weights: Weights) -> None:
        pass


class Lost(HFEngine):
    async def update_weights(self, weights: Weights) -> None:
        raise ConnectionError("broken pipe")


@pytest.mark.parametrize(
    ("kind", "why"), [(Deaf, "it says that it samples from version 0"), (Lost, "ConnectionError: broken pipe")]
)
def test_weights_that_do_not_arrive_are_never_passed_over(kind: type[HFEngine], why: str) -> None:
    policy = small_policy()
    store = WeightStore(policy, [opened(policy), kind.open(policy, EngineConfig())])
    with pytest.raises(WeightsError, match=f"version 3 of the weights did not reach the engine: {why}"):
        asyncio.run(store.publish(3))
