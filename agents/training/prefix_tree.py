"""Texts that begin alike as a prefix tree: each distinct token stands in it once, and what that is worth is counted.

Texts in the order of their ids stand beside those that they share most with, so the tree needs no nodes: each text continues
the one before it, after the first `shared` tokens. Tokens are put down in that order, which is the tree's preorder. What a
token sees is then said by one number (agents.models.blocks).

Nothing is set here. Whether a tree is worth its trouble is counted: tokens that go through the layers, pairs of query and key
that attention compares, and keys that are copied for it (`Work`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algorithms.batch import Ints

Text = NDArray[np.int32]
"""[L] ids."""

RATE = 8
"""A pair of query and key costs 1 / (RATE hidden) of a token's way through the rest of a model. By arithmetic it would be 6 (a
layer has 12 hidden^2 weights); norms, rotations and the head make a token dearer."""
COPY = 8
"""What it costs to copy key and value of a token for a block, forward and back, in pairs. Both were measured with four layers
of width 256 and two of width 128, on one core, with texts of 180 to 2,200 tokens."""
CAUSAL = {"cpu": 0.5}
"""What causal attention over a row costs for each of its length squared, in pairs of attention with a mask: measured likewise
on a processor, where half of the pairs are skipped ..."""
SKIPPING = 0.25
"""... and on other devices, whose kernels are twice as fast without a mask: an assumption, not measured."""
HELD = 8
"""Key and value that were copied for a block take this part of the memory that a token's activations take."""
FEWEST, MOST = 64, 8
"""A block has at least FEWEST tokens, and at least the longest text's length / MOST: no key is copied more often than that for
the same text."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a forward and backward pass does, counted."""

    tokens: float = 0
    """That go through all layers, padding included."""
    pairs: float = 0
    """Of query and key, hidden ones included."""
    copies: float = 0
    """Tokens whose keys and values are copied for a block."""

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.pairs + other.pairs, self.copies + other.copies)

    def cost(self, hidden: int) -> float:
        """In tokens on their way through the layers; hidden: the model's width."""
        return self.tokens + (self.pairs + COPY * self.copies) / (RATE * hidden)

    @property
    def held(self) -> float:
        """Memory until the backward pass, in tokens. A token's own key and value are among its activations."""
        return self.tokens + max(0.0, self.copies - self.tokens) / HELD

    @classmethod
    def padded(cls, texts: int, longest: int, device: str) -> Work:
        """Of texts side by side, padded to the longest, whose attention is causal. device: its type."""
        return cls(texts * longest, texts * longest**2 * CAUSAL.get(device, SKIPPING))

    @classmethod
    def in_blocks(cls, tokens: float, seen: float, block: int) -> Work:
        """Of a tree whose tokens see `seen` tokens together: each is compared with those, and with the block that it is in."""
        return cls(tokens, seen + tokens * block, seen / block + tokens)

    @classmethod
    def over_all(cls, tokens: float) -> Work:
        """Of a tree in which each token is compared with each."""
        return cls(tokens, tokens**2)


def block_size(longest: int) -> int:
    """Tokens of a block, if the longest text has `longest`."""
    return max(FEWEST, -(-longest // MOST // 32) * 32)


def padded(texts: Sequence[Text], fill: int = 0) -> Text:
    """[B, L] ids of at least one text, padded on the right."""
    ids = np.full((len(texts), max(map(len, texts))), fill, dtype=np.int32)
    for line, text in enumerate(texts):
        ids[line, : len(text)] = text
    return ids


def ordered(texts: Sequence[Text]) -> tuple[Ints, Ints, Text]:
    """The order [B] of the texts' ids; for each text in this order how many of its first tokens [B] those of the one before it
    are; and their ids [B, L], with -1 behind the last."""
    keys = [text.tobytes() for text in texts]  # whatever their order says of numbers, what begins alike stands together
    order = np.array(sorted(range(len(texts)), key=keys.__getitem__))
    ids = padded([texts[number] for number in order], fill=-1)
    differ = np.ones((len(ids), ids.shape[1] + 1), dtype=bool)
    np.not_equal(ids[1:], ids[:-1], out=differ[1:, :-1])
    shared = np.minimum(differ.argmax(1), [len(texts[number]) for number in order])
    shared[0] = 0
    return order, shared, ids


@dataclass(frozen=True, slots=True)
class Tree:
    """[N] distinct tokens of B texts, in preorder."""

    ids: Ints
    """[N]"""
    positions: Ints
    """[N] place of a token in its texts."""
    until: Ints
    """[N] where the part of the line that continues a token ends."""
    places: NDArray[np.int32]
    """[B, L] where the tokens of each text stand."""

    @classmethod
    def of(cls, texts: Sequence[Text]) -> Tree:
        """The tree of at least one text."""
        order, common, ids = ordered(texts)
        shared = common.astype(np.int32)[:, None]
        position = np.arange(ids.shape[1], dtype=np.int32)
        new = (position >= shared) & (ids >= 0)
        starts = np.cumsum([0, *new.sum(1)], dtype=np.int32)
        # A text's tokens are its own or else those of the text before it, all of which have lower places.
        own = np.where(new, starts[:-1, None] + position - shared, np.int32(0))
        places = np.empty_like(own)
        places[order] = np.maximum.accumulate(own)
        # What continues a token ends where the next text begins that has left before it.
        leaves = np.where(position >= shared[1:], starts[1:-1, None], starts[-1])
        until = np.full_like(own, starts[-1])
        until[:-1] = np.minimum.accumulate(leaves[::-1])[::-1]
        at = np.broadcast_to(position, new.shape)
        return cls(ids[new].astype(np.int64), at[new].astype(np.int64), until[new].astype(np.int64), places)
