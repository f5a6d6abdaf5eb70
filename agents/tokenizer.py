"""A word-level tokenizer made for one environment's language: few, meaningful tokens for a very small model.

A `name number` pair ("cabinet 1") and an environment's stock phrases are single tokens; articles and punctuation are dropped.
This shortens an ALFWorld demonstration to about a third, and is what lets a model of half a million weights learn the task.
It is an ordinary `PreTrainedTokenizerFast`: saved and loaded like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, BOS, END, ACT, UNK = "<pad>", "<bos>", "<end>", "<act>", "<unk>"
SPECIAL = (PAD, BOS, END, ACT, UNK)
_WORD = r"[a-z_]+ \d+|[a-z_]+(?:'[a-z]+)?|\d+|[^\s\w]"
_DROPPED = r"\b(?:a|an|the)\b|[.,]"


def normalize(text: str) -> str:
    """The form in which texts are split: lower case, no articles, commas or full stops."""
    return " ".join(re.sub(_DROPPED, " ", text.lower()).split())


def split(text: str, phrases: Iterable[str] = ()) -> list[str]:
    """The tokens of a text, as strings (the reference for what the tokenizer does)."""
    return re.findall(_pattern(phrases), normalize(text))


def _pattern(phrases: Iterable[str]) -> str:
    longest_first = sorted({normalize(p) for p in phrases}, key=lambda p: (-len(p), p))
    return "|".join([*(rf"{re.escape(p)}(?!\w)" for p in longest_first), _WORD])


def build(corpus: Iterable[str], phrases: Iterable[str] = (), words: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Tokenizer over all tokens of `corpus`, the stock `phrases` and the further known `words`, in a fixed order."""
    phrases = list(phrases)
    known = {normalize(p) for p in phrases} | {normalize(w) for w in words}
    for text in dict.fromkeys(corpus):
        known.update(split(text, phrases))
    known -= {"", *SPECIAL}
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *sorted(known)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(_DROPPED), " "),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_pattern(phrases)), behavior="removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=END, unk_token=UNK, additional_special_tokens=[ACT]
    )
