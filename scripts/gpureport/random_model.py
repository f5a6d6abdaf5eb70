"""A model of the recipe's architecture with random weights: as fast as the trained one, and made without a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpureport.setup import Note, Setup

SHAPE = "Qwen/Qwen2.5-1.5B-Instruct"
TOKENIZER = "tokenizer.txt"
"""File that says where the tokenizer comes from."""


def model(setup: Setup, note: Note) -> None:
    """Makes it once, so that no other line's time is spent on that."""
    folder = model_folder(setup)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    note({"shape": SHAPE, "bytes": size, "tokenizer": (setup.work / TOKENIZER).read_text()})


def model_folder(setup: Setup) -> Path:
    """A folder with the recipe's architecture, random weights and a chat tokenizer; made once.

    SmolLM2's tokenizer where its package is there; else one made from the games' texts, which takes fewer tokens for them.
    """
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    from agents.runs.dryrun import KNOWN

    target = setup.work / "recipe-model"
    if (target / "model.safetensors").exists():
        return target
    tokenizer, source = _tokenizer()
    _, hidden, wide, layers, heads, kv_heads, vocabulary, tied = KNOWN[SHAPE]
    if setup.small:
        hidden, wide, layers, heads, kv_heads, vocabulary = 64, 128, 2, 4, 2, len(tokenizer)
    config = Qwen2Config(
        hidden_size=hidden,
        intermediate_size=wide,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with torch.device(setup.device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32 if setup.small else torch.bfloat16)
    partial = target.with_name("recipe-model.partial")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    (setup.work / TOKENIZER).write_text(source)
    partial.rename(target)
    return target


def _tokenizer() -> tuple[Any, str]:
    """And where it comes from."""
    from agents.config.sections import ModelConfig
    from agents.models.policy import PolicyError
    from agents.models.sources import load_pretrained

    try:
        return load_pretrained(ModelConfig("smollm2", dtype="float32"), "cpu").tokenizer, "SmolLM2's"
    except PolicyError:
        return _made_tokenizer(), "made from the games' texts"


def _made_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from agents.config.loading import load
    from agents.rollout.build import make_env

    env = make_env(load(["env=alfworld", "algo=gigpo", "env.size=full", "env.train_games=60"]))
    texts = []
    for task in env.tasks("train"):
        observation, info = env.reset(seed=0, options={"task": task})
        texts.append("\n".join([observation, *info["admissible_actions"]]))
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=4096, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    marks = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "additional_special_tokens": ["<|im_start|>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **marks)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer
