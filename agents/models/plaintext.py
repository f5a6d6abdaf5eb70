"""Text as a tokenizer takes it: what spells a control token stays text, and text that goes on from other text gets no blank.

Observations and actions are such text, for models that chat and for base models; what a template writes itself is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

_MARK = "\x01"
"""A character that stands alone in every vocabulary."""


def spelled(tokens: Iterable[str]) -> re.Pattern[str]:
    """Finds texts that a tokenizer would take for one of `tokens`, the longest first; nothing if there are none."""
    longest_first = sorted((token for token in tokens if token.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def pieces(text: str, control: re.Pattern[str]) -> list[str]:
    """The text, at least one piece, cut inside every control token: encoded apart, the pieces stay text."""
    places = [0, *(found.start() + 1 for found in control.finditer(text)), len(text)]
    return [text[a:b] for a, b in pairwise(places)]


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of text that may hold control tokens. Half of a surrogate pair, which is no character, is read as `?`."""
    readable = text.encode("utf-8", "replace").decode("utf-8")
    found: list[int] = tokenizer(readable, add_special_tokens=False).input_ids
    return found


def inside(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of text that goes on from other text: a tokenizer that sets a blank before a text (Llama 2's) sets none here."""
    mark, alone = encode(tokenizer, _MARK), encode(tokenizer, text)
    if encode(tokenizer, f"{_MARK}x")[len(mark) :] == encode(tokenizer, "x"):
        return alone
    marked = encode(tokenizer, _MARK + text)
    rest = marked[len(mark) :] if marked[: len(mark)] == mark else alone
    # A vocabulary of words takes the mark and the word behind it for one.
    return rest if tokenizer.decode(rest).strip() == tokenizer.decode(alone).strip() else alone
