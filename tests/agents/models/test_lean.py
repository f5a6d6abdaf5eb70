"""The lean pass: which models take it, that its numbers are the model's own, and that it follows the weights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.config.sections import EngineConfig, LoraConfig, ModelConfig
from agents.models.lean_slots import LeanSlots
from agents.models.lora import with_new_adapter
from agents.models.memory import Slots
from agents.models.policy import Policy
from agents.models.probe import memory_of
from agents.models.sources import load_policy
from agents.rollout.engines.base import Completion, Request, Sampling
from agents.rollout.engines.hf import HFEngine
from agents.training.weights import WeightStore
from envs.alfworld.prompt import ALFWorldPrompt
from tests.agents.models.families import folder
from tests.agents.models.models_for_tests import full_logprobs, small_policy

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "one head of keys": ("llama", {"num_key_value_heads": 1}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "long rotation": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "mistral without a window": ("mistral", {"sliding_window": None}),
}
OTHERS: dict[str, dict[str, Any]] = {
    "glm4": {},  # norms behind its parts
    "smollm3": {"num_hidden_layers": 4},  # layers without rotation: its modules look like these
    "granite": {"residual_multiplier": 0.5},  # factors that no module shows
    "olmo2": {},
    "cohere": {},
    "gpt2": {},
    "mixtral": {},
}


def load(path: Path, dtype: Any = "float32") -> Policy:
    return load_policy(ModelConfig(str(path), dtype=dtype, max_length=1024), ALFWorldPrompt(), (), "cpu", 0)


def talk(engine: HFEngine, sessions: int = 5, turns: int = 3) -> list[tuple[list[int], Completion]]:
    """Conversations of unlike lengths side by side: (prompt, answer) of each turn."""

    async def one(number: int) -> list[tuple[list[int], Completion]]:
        generator, ids, said = torch.Generator().manual_seed(number), [], []
        for turn in range(turns):
            ids += torch.randint(3, 60, (3 + 5 * number,), generator=generator).tolist()
            name = f"{id(engine)}-{number}"
            done = await engine.generate(Request(name, list(ids), Sampling(max_tokens=3 + number), seed=turn))
            said.append((list(ids), done))
            ids += done.ids
        engine.release(name)
        return said

    async def all_of_them() -> list[list[tuple[list[int], Completion]]]:
        return await asyncio.gather(*map(one, range(sessions)))

    return [turn for said in asyncio.run(all_of_them()) for turn in said]


def assert_samples_from(engine: HFEngine, policy: Policy, tolerance: float = 2e-5) -> None:
    for ids, done in talk(engine):
        expected = full_logprobs(policy, [*ids, *done.ids])[len(ids) :]
        torch.testing.assert_close(torch.tensor(done.logprobs), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_models_of_the_shape_are_sampled_by_it_with_their_own_numbers(shape: str, tmp_path: Path) -> None:
    kind, settings = SHAPES[shape]
    policy = load(folder(tmp_path, kind, scale=1.5, **settings))
    engine = HFEngine(policy)
    assert isinstance(engine._memory, LeanSlots)
    assert_samples_from(engine, policy)


@pytest.mark.parametrize("kind", OTHERS)
def test_models_of_other_shapes_are_read_through_their_modules(kind: str, tmp_path: Path) -> None:
    policy = load(folder(tmp_path, kind, scale=1.5, **OTHERS[kind]))
    engine = HFEngine(policy)
    assert not isinstance(engine._memory, LeanSlots)
    assert_samples_from(engine, policy, 1e-3)


def test_a_model_whose_modules_compute_something_else_is_read_through_them(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = small_policy()
    assert isinstance(memory_of(policy, 4), LeanSlots)
    assert isinstance(memory_of(policy, 4, lean=False), Slots)
    layer = policy.causal.model.layers[1].mlp
    forward: Callable[[torch.Tensor], torch.Tensor] = layer.forward
    monkeypatch.setattr(layer, "forward", lambda x: 1.01 * forward(x))
    assert isinstance(memory_of(policy, 4), Slots)
    monkeypatch.undo()
    policy.causal.extra = torch.nn.Parameter(torch.zeros(1))
    assert isinstance(memory_of(policy, 4), Slots)


def test_in_bfloat16_its_numbers_are_as_near_as_those_of_the_modules(tmp_path: Path) -> None:
    policy = load(folder(tmp_path, "qwen3", scale=1.5), "bfloat16")

    def mismatch(engine: HFEngine) -> float:
        gaps = [
            (torch.tensor(done.logprobs) - full_logprobs(policy, [*ids, *done.ids])[len(ids) :]).abs().mean()
            for ids, done in talk(engine)
        ]
        return float(torch.stack(gaps).mean())

    lean, usual = HFEngine(policy), HFEngine(policy, lean=False)
    assert isinstance(lean._memory, LeanSlots)
    assert mismatch(lean) < 2 * mismatch(usual) + 1e-3


def lora_policy() -> Policy:
    plain = small_policy()
    return Policy(with_new_adapter(plain.model, LoraConfig(enabled=True, r=4), base="", seed=0), plain.tokenizer)


def shift(policy: Policy, name: str = "", by: float = 0.1) -> None:
    """A step of a learner: weights change in place."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for path, p in policy.trainable():
            if name in path:
                p.add_(by * torch.randn(p.shape, generator=generator))


@pytest.mark.parametrize(
    "name", ["embed_tokens", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "layernorm", "model.norm"]
)
def test_each_weight_is_followed_when_it_is_published(name: str) -> None:
    policy = small_policy()  # its embeddings are the output head, too
    engine = HFEngine.open(policy, EngineConfig())
    store = WeightStore(policy, [engine])
    before = talk(engine)
    for version in (1, 2):
        shift(policy, name)
        asyncio.run(store.publish(version))
        assert_samples_from(engine, policy)
    assert [done.logprobs for _, done in talk(engine)] != [done.logprobs for _, done in before]
    assert isinstance(engine._memory, LeanSlots)


@pytest.mark.parametrize("takes_adapter", [True, False])
def test_an_adapter_counts_alone_or_merged(takes_adapter: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HFEngine, "takes_adapter", takes_adapter)
    policy = lora_policy()
    shift(policy)
    engine = HFEngine.open(policy, EngineConfig())
    assert isinstance(engine._memory, LeanSlots)
    store = WeightStore(policy, [engine])
    assert_samples_from(engine, policy)
    for version in (1, 2):
        shift(policy)
        asyncio.run(store.publish(version))
        assert_samples_from(engine, policy)


def test_what_a_slot_held_before_is_seen_by_nobody() -> None:
    """Slots are used again, buffers grow, and an engine that was closed begins anew."""
    policy = small_policy()
    engine = HFEngine(policy)
    for _ in range(2):
        assert_samples_from(engine, policy)
    long = [5 + i % 50 for i in range(300)]
    done = asyncio.run(engine.generate(Request("long", long, Sampling(max_tokens=4), seed=0)))
    expected = full_logprobs(policy, [*long, *done.ids])[len(long) :]
    torch.testing.assert_close(torch.tensor(done.logprobs), expected, atol=1e-4, rtol=1e-4)
    engine.close()
    assert_samples_from(engine, policy)


@pytest.mark.parametrize(("name", "bound"), [("LARGEST_MASK", 64), ("WORTH_A_PASS", 4)])
def test_parts_that_are_too_many_or_unlike_take_several_passes(name: str, bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = small_policy()
    monkeypatch.setattr(f"agents.models.lean_slots.{name}", bound)
    assert_samples_from(HFEngine(policy), policy)
