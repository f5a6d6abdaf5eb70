"""Small real models for tests: random weights, real architectures."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from agents.models.policy import Policy
from agents.models.tokenizer import build

WORDS = [f"thing {i}" for i in range(60)]


def small_policy(seed: int = 0, hidden: int = 32, max_length: int = 512) -> Policy:
    """A Llama of two layers over a word-level vocabulary."""
    torch.manual_seed(seed)
    tokenizer = build(["go take put look in on and you see"], words=WORDS)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # larger weights: distributions far from uniform make mistakes visible
        for p in model.parameters():
            p.mul_(3.0)
    return Policy(model, tokenizer)


def full_logprobs(policy: Policy, ids: list[int]) -> torch.Tensor:
    """Log-probability of each token of `ids` after those before it, by one plain forward pass; the first is 0."""
    with torch.no_grad():
        logits = policy.causal(input_ids=torch.tensor([ids])).logits[0].float()
    logp = torch.log_softmax(logits, -1)
    chosen = logp[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
    return torch.cat([torch.zeros(1), chosen])
