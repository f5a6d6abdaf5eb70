"""The model that is made here for one environment's language (model=tiny), and what its weights begin with."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from agents.config.sections import ModelConfig
from agents.models.tokenizer import build, build_exact
from envs.common.seeding import derive
from envs.prompt import Prompt


def made(
    config: ModelConfig, prompt: Prompt, corpus: Iterable[str], seed: int
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """The model and its tokenizer, whose words are those of `corpus` and of the prompt."""
    phrases, words = prompt.lexicon()
    shape = config.tiny
    exact = shape.text == "exact" or (shape.text == "auto" and not (phrases or words))
    tokenizer = (build_exact if exact else build)(corpus, phrases, words)
    architecture = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=config.max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        # The usual 1e4 turns so fast that a name in the task and the same name fifty tokens later look unlike.
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        initializer_range=0.06,  # the usual 0.02 suits wide models; at width 128 it learns half as fast
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "tiny", "weights"))
        model = LlamaForCausalLM(architecture)
        _relate_names(model.get_input_embeddings().weight, tokenizer.get_vocab())
        _attend_to_alike(model)
    return model, tokenizer


@torch.no_grad()
def _relate_names(embeddings: torch.Tensor, vocabulary: dict[str, int]) -> None:
    """Start `egg 2` near `egg`: two parts of the name and one of the number, at the scale of other tokens.

    A task names a kind, observations name things of that kind; as unrelated vectors, each pair would have to be learned.
    """
    numbers: dict[str, torch.Tensor] = {}
    for token, index in sorted(vocabulary.items()):
        name, _, number = token.rpartition(" ")
        if number.isdigit() and name in vocabulary:
            if number not in numbers:
                numbers[number] = torch.randn(embeddings.shape[1]) * embeddings[vocabulary[name]].std()
            embeddings[index] = (2 * embeddings[vocabulary[name]] + numbers[number]) / 5**0.5


@torch.no_grad()
def _attend_to_alike(model: LlamaForCausalLM) -> None:
    """Start with keys equal to queries, so that a token attends to earlier ones like it ("egg 2" to the task's "egg").

    As independent random matrices they have to find that first, which a short warm start often does not; 1.5 makes the first
    choice sharp enough (1 and 2 learn slower). Source: Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention
    Layers", section 3.
    """
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight.mul_(1.5)
        layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
