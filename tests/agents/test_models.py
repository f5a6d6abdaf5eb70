"""Models made here: the same seed gives the same weights, adapters included."""

from __future__ import annotations

import torch

from agents.config import LoraConfig, ModelConfig
from agents.models import load_policy
from agents.policy import Policy
from envs.alfworld.prompt import ALFWorldPrompt


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


def test_an_adapters_alpha_may_be_a_fraction() -> None:
    layer = adapted(alpha=0.5).causal.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == 0.5 / 4
