"""Folders with small models of real families (random weights, a tokenizer of bytes, a template), and runs that train them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

from envs import registry
from tests.agents.judges.chat_model import TEMPLATE
from tests.envs import toys

registry.register("hallway", "tests/Hallway-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)

SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
WINDOW = 48
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
SPARSE = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT = {
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
    "num_key_value_heads": 4,
}
GROUPED = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1, **SPARSE}
LONG_AND_SHORT = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW, "head_dim": 8}

FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"], "head_dim": 8, **LINEAR},
    "llama": {},
    "gemma2": {"query_pre_attn_scalar": 8, **LONG_AND_SHORT},
    "gemma3_text": {"query_pre_attn_scalar": 8, **LONG_AND_SHORT},
    "phi3": {"sliding_window": WINDOW},
    "mistral": {"sliding_window": WINDOW, "head_dim": 8},
    "glm4": {"head_dim": 8},
    "glm4_moe": {"head_dim": 8, **GROUPED},
    "smollm3": {},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, **LONG_AND_SHORT},
}
"""The families that most people bring, with the settings that make a small one; windows are shorter than a conversation."""

OTHERS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt_neox": {},
    "mixtral": {"num_local_experts": 4, "router_jitter_noise": 0.1, "sliding_window": None},
    "bloom": {},
    "deepseek_v2": {"norm_topk_prob": False, **LATENT, **GROUPED},
    "deepseek_v3": {**LATENT, **GROUPED},
    "minicpm3": LATENT,
    "glm4_moe_lite": {**LATENT, **GROUPED},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "qwen3_next": {
        "layer_types": ["linear_attention", "full_attention"],
        "head_dim": 8,
        "num_experts": 4,
        "shared_expert_intermediate_size": 16,
        **LINEAR,
        **SPARSE,
    },
    "granitemoehybrid": {
        "layer_types": ["linear_attention", "full_attention"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 16,
        "mamba_n_heads": 4,
        "mamba_d_state": 8,
        "mamba_expand": 2,
        "mamba_d_head": 16,
    },
    "falcon_h1": {
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_n_groups": 1,
        "head_dim": 8,
    },
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_state": 8, "mamba_d_head": 16},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 2,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_d_state": 8,
        "use_mamba_kernels": False,
    },
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"],
        "mamba_d_state": 8,
        "mamba_headdim": 16,
        "mamba_ngroups": 1,
        "n_mamba_heads": 4,
        "num_mem_blocks": 1,
        "num_key_value_heads": 4,
        "attention_head_dim": 16,
    },
    "llama4_text": {
        "attention_chunk_size": WINDOW,
        "num_local_experts": 2,
        "intermediate_size_mlp": 48,
        "head_dim": 8,
        "layer_types": ["chunked_attention", "full_attention"],
    },
    "cohere2": {**LONG_AND_SHORT},
}
"""Further kinds of layers: states instead of keys, latent attention, chunks, positions without rotation."""


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and the special tokens of the template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({byte: number for number, byte in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|pad|>", additional_special_tokens=["<|im_start|>"]
    )
    fast.chat_template = TEMPLATE
    return fast


def folder(path: Path, kind: str, scale: float = 3.0, **settings: Any) -> Path:
    """A model of this kind as `save_pretrained` leaves it; larger weights than usual make mistakes visible."""
    fast = tokenizer()
    special = {"vocab_size": len(fast), "pad_token_id": fast.pad_token_id, "eos_token_id": fast.eos_token_id, "bos_token_id": 0}
    torch.manual_seed(0)
    known = FAMILIES.get(kind, OTHERS.get(kind, {}))
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**SIZE, **special, **known, **settings}))
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() >= 2:
                p.mul_(scale)
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return path


def training(model: Path, out: Path) -> list[str]:
    """An iteration of a real run: two episodes of three steps, and an update that also pushes where returns are equal."""
    return [
        *("env=hallway", "env.max_steps=3", "model=hub", f"model.name={model}", "model.max_length=1024", "engine.max_tokens=6"),
        "model.dtype=float32",
        *("rollout.groups=1", "rollout.group_size=2", "loss.entropy=0.01", "optim.lr=1e-3", "iterations=1", "threads=1"),
        *("evaluation.before=false", "evaluation.after=false", f"out={out}"),
    ]


def updates(run: Path) -> list[dict[str, float]]:
    """Metrics of a run's iterations."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "update/mismatch_max" in row]
