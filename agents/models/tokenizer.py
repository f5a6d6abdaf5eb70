"""Tokenizers made for one environment's language: few, meaningful tokens for a very small model.

`build` reads words: a `name number` pair ("cabinet 1") and an environment's stock phrases are single tokens; articles, commas,
full stops and the case of letters are dropped, and a word that it was not built with is `<unk>`. This shortens an ALFWorld
demonstration to about a third, and is what lets a model of half a million weights learn the task.
`build_exact` keeps every character, at the price of longer texts.
Both are ordinary `PreTrainedTokenizerFast`: saved and loaded like any other.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, BOS, END, ACT, UNK = "<pad>", "<bos>", "<end>", "<act>", "<unk>"
SPECIAL = (PAD, BOS, END, ACT, UNK)
_NAMED: dict[str, Any] = {
    "pad_token": PAD,
    "bos_token": BOS,
    "eos_token": END,
    "unk_token": UNK,
    "additional_special_tokens": [ACT],
}
_WORD = r"[a-z_]+ \d+|[a-z_]+(?:'[a-z]+)?|\d+|[^\s\w]"
_DROPPED = r"\b(?:a|an|the)\b|[.,]"
_PIECE = r" ?[^\W\d]{1,40}| ?\d| ?[^\s\w]|\s{1,40}(?!\S)|\s"
"""What `build_exact` cuts texts into: words, digits, marks, each with the blank before it, and white space."""


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
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_NAMED)


def build_exact(corpus: Iterable[str], phrases: Iterable[str] = (), words: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Tokenizer that keeps every character: what it encodes it decodes to the same text, and no text is unknown to it.

    Words of `corpus` and `words`, with and without a blank before them, and the `phrases` are single tokens; digits and
    punctuation are single tokens always; other words are the longest known pieces, at last their bytes (UTF-8).
    """
    phrases = sorted({p.strip() for p in phrases} - {""}, key=lambda p: (-len(p), p))
    pattern = "|".join([*(rf" ?{re.escape(p)}(?!\w)" for p in phrases), _PIECE])
    cut = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    blank = cut.pre_tokenize_str(" ")[0][0]
    known = {*string.digits, *string.punctuation}
    for text in dict.fromkeys([*corpus, *phrases, *words]):
        known.update(piece.removeprefix(blank) for piece, _ in cut.pre_tokenize_str(text))
    known |= {blank + piece for piece in known}
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *letters, *sorted(known - {"", *SPECIAL, *letters})])}
    tokenizer = Tokenizer(
        models.WordPiece(vocabulary, unk_token=UNK, max_input_chars_per_word=1 << 20, continuing_subword_prefix="")
    )
    tokenizer.normalizer = normalizers.Prepend(" ")  # so that a word that begins a text is the one it is elsewhere
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    # What an observation happens to say is text, also where it looks like a special token.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, split_special_tokens=True, clean_up_tokenization_spaces=False, **_NAMED
    )
