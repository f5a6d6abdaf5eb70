"""Real chat templates (those of trl's package, where it is installed) with byte-level tokenizers that know their tokens."""

from __future__ import annotations

import importlib.util
import re
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TAG = re.compile(
    r"<\|[^|<>\s'\"{}]+\|>|<\uff5c[^\uff5c<>\s]+\uff5c>|<\|[a-z_]+>|<[a-z_]+\|>"
    r"|</?(?:start_of_turn|end_of_turn|end_of_utterance|think|s|sop)>|\[/?INST\]|\[gMASK\]"
)
EOS = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "deepseek": "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "gptoss": "<|return|>",
    "llama3": "<|end_of_text|>",
    "phi3": "<|endoftext|>",
    "glm4moe": "<|endoftext|>",
}
"""End tokens of families whose tokenizer names another one than the template writes; else a token that nobody writes."""
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def templates() -> dict[str, str]:
    """Templates by the names of their files, those that trl patches for training too; {} where trl is not installed."""
    spec = importlib.util.find_spec("trl")
    folders = [Path(place) / "chat_templates" for place in (spec.submodule_search_locations or [] if spec else [])]
    files = sorted(file for folder in folders for file in folder.glob("*.jinja"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


@lru_cache(maxsize=256)
def tokenizer_for(
    template: str | None, eos: str = "<eos>", special: tuple[str, ...] = (), bos: str | None = "<bos>"
) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and some words to whom every tag of the template is a token of its own."""
    tags = sorted({*TAG.findall(template or ""), *special, eos, "<pad>", *([bos] if bos else [])})
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = "<action>go to cabinet 1</action> <think>I must look</think> take egg 1 from fridge 1\n\n"
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=tags, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([text] * 20, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, bos_token=bos, pad_token="<pad>")
    fast.chat_template = template
    return fast


def family(name: str, template: str) -> PreTrainedTokenizerFast:
    """The tokenizer for one of `templates`."""
    return tokenizer_for(template, next((eos for prefix, eos in EOS.items() if name.startswith(prefix)), "<eos>"))
