"""What each sampled token adds to the text of its response, for transforms that look at what is said (hicra)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from envs.trajectory import Step


def spelled(steps: Sequence[Step], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """[T] the texts of the tokens of all steps. Those of a response joined are its text, without special tokens."""
    known: dict[tuple[int, ...], list[str]] = {}
    found: list[str] = []
    for step in steps:
        ids = tuple(step.response_ids)
        if ids not in known:
            known[ids] = _pieces(ids, tokenizer)
        found += known[ids]
    return found


def _pieces(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text of all tokens, cut where that of the first n ends: a token that says nothing by itself (a part of a letter) has
    an empty piece."""
    texts = [str(tokenizer.decode(list(ids[:n]), skip_special_tokens=True)) for n in range(len(ids) + 1)]
    ends, whole = [0], texts[-1]
    for text in texts[1:]:
        said = len(text.removesuffix("\ufffd"))  # a letter that is not complete yet
        ends.append(min(max(said, ends[-1]), len(whole)))
    ends[-1] = len(whole)
    return [whole[a:b] for a, b in pairwise(ends)]
