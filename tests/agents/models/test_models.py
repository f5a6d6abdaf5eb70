"""Models: the same seed gives the same weights, and sampling and training read a text alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, PretrainedConfig

from agents.config.sections import LoraConfig, ModelConfig
from agents.models.policy import Policy, PolicyError
from agents.models.sources import load_policy
from agents.rollout.dialogue import Chat
from envs.alfworld.prompt import ALFWorldPrompt
from tests.agents.models.models_for_tests import small_policy


def adapted(alpha: float = 32.0, seed: int = 0) -> Policy:
    config = ModelConfig("tiny", prompt="plain", lora=LoraConfig(enabled=True, r=4, alpha=alpha))
    return load_policy(config, ALFWorldPrompt(), ["go to cabinet 1"], "cpu", seed)


def test_an_adapter_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = adapted()
    torch.manual_seed(2)
    again, other = adapted(), adapted(seed=1)
    pairs = list(zip(one.trainable(), again.trainable(), other.trainable(), strict=True))
    assert all(torch.equal(a, b) for (_, a), (_, b), _ in pairs)
    assert any(not torch.equal(a, c) for (_, a), _, (_, c) in pairs)


def saved(tmp_path: Path, config: PretrainedConfig) -> ModelConfig:
    """A model of this architecture with random weights in a folder, as `model=hub` reads it."""
    Policy(AutoModelForCausalLM.from_config(config), small_policy().tokenizer).save(tmp_path)
    return ModelConfig(str(tmp_path), dtype="float32", max_length=64)


def test_a_model_without_a_chat_template_is_refused_in_words() -> None:
    with pytest.raises(PolicyError, match=r"no chat template.*model.prompt=plain"):
        Chat(small_policy().tokenizer, ALFWorldPrompt())


def test_nothing_is_dropped_out_in_training_that_was_there_in_sampling(tmp_path: Path) -> None:
    shape = GPT2Config(vocab_size=100, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    assert shape.resid_pdrop > 0
    policy = load_policy(saved(tmp_path, shape), ALFWorldPrompt(), [], "cpu", 0)
    ids, places = torch.arange(20)[None], torch.arange(20)
    sampled = policy.forward(ids, None, None, places)
    with policy.training():
        assert torch.equal(policy.forward(ids, None, None, places), sampled)


def test_an_adapters_alpha_may_be_a_fraction() -> None:
    layer = adapted(alpha=0.5).causal.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == 0.5 / 4
