"""Attention over blocks is attention over the whole prefix tree, in all models that say they can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from agents.config.sections import ModelConfig
from agents.models.blocks import Blocks, attention, sees
from agents.models.policy import Policy, hidden_states
from agents.models.sources import load_policy
from agents.training.prefix_tree import Tree
from envs.alfworld.prompt import ALFWorldPrompt
from tests.agents.models.families import FAMILIES, OTHERS, folder
from tests.agents.models.models_for_tests import small_policy

CPU = torch.device("cpu")


class Module(torch.nn.Module):
    """What attention reads of a layer."""

    is_causal = True
    num_key_value_groups = 2


def texts(seed: int, count: int = 6, longest: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    trunk = rng.integers(5, 60, longest)
    kept = rng.integers(0, longest, count)
    return [np.append(trunk[:n], rng.integers(5, 60, rng.integers(1, longest))).astype(np.int32) for n in kept]


@given(seed=st.integers(0, 1000), size=st.integers(1, 70), wide=st.sampled_from([3, 4]))
@settings(max_examples=40, deadline=None)
def test_attention_over_blocks_is_attention_over_all_tokens_with_a_mask(seed: int, size: int, wide: int) -> None:
    until = Tree.of(texts(seed)).until
    torch.manual_seed(seed)
    q, k, v = (
        torch.randn(1, len(until), heads, n).transpose(1, 2).requires_grad_() for heads, n in ((4, 4), (2, 4), (2, wide))
    )
    found = attention(Module(), q, k, v, None, blocks=Blocks.of(until, size, CPU, torch.float32))[0]
    keys, values = (x.repeat_interleave(2, 1) for x in (k, v))
    expected = functional.scaled_dot_product_attention(q, keys, values, torch.from_numpy(sees(until))).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(found)
    one, other = (torch.autograd.grad((x * weight).sum(), (q, k, v)) for x in (found, expected))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_token_that_sees_none_of_the_first_thousand_keys_is_computed_rightly() -> None:
    """Kernels look at keys in parts, and a part may be hidden as a whole."""
    long, short = np.arange(5, 1505, dtype=np.int32), np.arange(5000, 5003, dtype=np.int32)
    until = Tree.of([long, short]).until
    q, k, v = (torch.randn(1, 2, len(until), 8) for _ in range(3))
    module = Module()
    found = attention(module, q, k[:, :1], v[:, :1], None, blocks=Blocks.of(until, 2000, CPU, torch.float32))[0]
    last = functional.scaled_dot_product_attention(
        q[:, :, 1500:], *(x[:, :1, 1500:].repeat(1, 2, 1, 1) for x in (k, v)), is_causal=True
    ).transpose(1, 2)
    start = 0 if until[0] == 3 else 1500  # whichever text comes first
    if start:
        torch.testing.assert_close(found[:, start:], last, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(found).all()


def load(path: Path) -> Policy:
    return load_policy(ModelConfig(str(path), dtype="float32", max_length=1024), ALFWorldPrompt(), (), "cpu", 0)


def gap(policy: Policy) -> float:
    """Largest difference between hidden states in a tree and in its texts one by one, as a share of their size."""
    of = texts(1)
    tree = Tree.of(of)
    mask: Any = torch.from_numpy(sees(tree.until)[None, None])
    if policy.sharing == "blocks":
        mask = Blocks.of(tree.until, 16, CPU, policy.dtype)
    with torch.no_grad():
        line = hidden_states(policy.causal, torch.from_numpy(tree.ids[None]), torch.from_numpy(tree.positions[None]), mask)[0]
        worst = 0.0
        for text, places in zip(of, tree.places, strict=True):
            alone = hidden_states(policy.causal, torch.from_numpy(text[None].astype(np.int64)), None, None)[0]
            worst = max(worst, float((line[places[: len(text)]] - alone).abs().max() / alone.abs().max()))
    return worst


@pytest.mark.parametrize("kind", [*FAMILIES, *OTHERS])
def test_families_that_share_tokens_compute_what_they_compute_without(kind: str, tmp_path: Path) -> None:
    policy = load(folder(tmp_path, kind))
    if kind in ("llama", "qwen2", "qwen3", "smollm3", "glm4", "mixtral"):
        assert policy.sharing == "blocks"
    assert (policy.sharing is None) == (policy.kept != "slots")
    if policy.sharing:
        assert gap(policy) < 1e-3


def test_eager_attention_shares_by_a_mask() -> None:
    model = small_policy().model
    model.set_attn_implementation("eager")
    policy = Policy(model, small_policy().tokenizer)
    assert policy.sharing == "mask"
    assert gap(policy) < 1e-4


def test_a_model_that_hands_nothing_on_to_its_attention_is_found() -> None:
    class Deaf(LlamaForCausalLM):
        def __init__(self, config: LlamaConfig) -> None:
            super().__init__(config)
            for layer in self.model.layers:
                forward = layer.self_attn.forward
                layer.self_attn.forward = lambda *args, blocks=None, forward=forward, **given: forward(*args, **given)

    model = Deaf(small_policy().model.config)
    policy = Policy(model, small_policy().tokenizer)
    assert policy.sharing == "mask"
    assert gap(policy) < 1e-4


def test_an_adapter_and_half_precision_share_by_blocks() -> None:
    made = small_policy()
    adapted = Policy(get_peft_model(made.model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"])), made.tokenizer)
    assert adapted.sharing == "blocks"
    assert gap(adapted) < 1e-4
    half = Policy(small_policy().model.to(torch.bfloat16), made.tokenizer)
    assert half.sharing == "blocks"
    assert gap(half) < 0.05
