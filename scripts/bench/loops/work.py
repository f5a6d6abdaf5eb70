"""The work that all sides do: a scripted environment's texts, and a small model with a tokenizer made from them."""

from __future__ import annotations

from pathlib import Path

GROUPS, GROUP_SIZE, ANSWER = 2, 8, 16
EPISODES = GROUPS * GROUP_SIZE
BUDGET = 4096
"""Tokens of a micro-batch: more make an update slower on a processor, on both sides."""
VOCABULARY = 512
START, END = "<|im_start|>", "<|endoftext|>"
TEMPLATE = (
    "{% for m in messages %}" + START + "{{ 'user' if m.role == 'tool' else m.role }}\n"
    "{% for call in m.tool_calls or [] %}{{ call.function.name }}{{ call.function.arguments }}{% endfor %}"
    "{{ m.content }}{% endfor %}{% if add_generation_prompt %}" + START + "assistant\n{% endif %}"
)
"""A turn ends where the next begins, so that an answer of fixed length needs no token that ends it."""

PLACES = [
    "cabinet",
    "drawer",
    "countertop",
    "shelf",
    "fridge",
    "microwave",
    "sinkbasin",
    "stoveburner",
    "garbagecan",
    "toaster",
]
THINGS = ["mug", "plate", "apple", "tomato", "knife", "spoon", "egg", "bowl", "bread", "potato", "cup", "lettuce"]


def opening(task: int) -> str:
    """What an episode begins with, about as long as ALFWorld's."""
    seen = ", ".join(f"a {place} {1 + (n + task) % 4}" for n, place in enumerate(PLACES * 2))
    wanted, where = THINGS[task % len(THINGS)], PLACES[task % len(PLACES)]
    return (
        f"You are in the middle of a room. Looking quickly around you, you see {seen}.\n"
        f"Your task is to: put a clean {wanted} in {where}.\nGive exactly one action."
    )


def observation(task: int, turn: int) -> str:
    """What the environment answers at a turn, whatever was done."""
    place, one, two = PLACES[(task + turn) % 10], THINGS[(3 * task + turn) % 12], THINGS[(task + 5 * turn) % 12]
    return f"You arrive at {place} {1 + turn % 6}. On the {place} {1 + turn % 6}, you see a {one} {1 + turn % 3} and a {two} 2."


def model_folder(target: Path) -> None:
    """A Qwen3-shaped model with random weights, and a tokenizer made from the environment's texts."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    texts = [f"{START}{role}\n" for role in ("user", "assistant")]
    texts += [text for task in range(4) for text in (opening(task), *(observation(task, turn) for turn in range(60)))]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCABULARY - 2, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token=END, additional_special_tokens=[START])
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(shape).save_pretrained(target)
    tokenizer.save_pretrained(target)


def lengths(model: Path, turns: int) -> list[int]:
    """[EPISODES] how many tokens an episode has, read and sampled."""
    from transformers import AutoTokenizer

    tokenizer, found = AutoTokenizer.from_pretrained(model), []
    for task in range(GROUPS):
        said = [{"role": "user", "content": opening(task)}]
        for turn in range(1, turns):
            said += [{"role": "assistant", "content": ""}, {"role": "tool", "content": observation(task, turn)}]
        read = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=True).input_ids
        found += GROUP_SIZE * [len(read) + turns * ANSWER]
    return found


def longest(model: Path, turns: int) -> int:
    """Room for an episode, in tokens."""
    return max(lengths(model, turns)) + 2 * ANSWER
