"""Attention over texts that begin alike, each token computed once: their prefix tree in one line, cut into blocks.

The tokens of the tree stand in preorder, and `until[j]` says where the part of the line ends that continues token j. This one
number a token says who sees whom: token i sees token j if and only if j <= i < until[j]. All layers but attention look at
single tokens, and compute each of them once without knowing of the tree.

Attention cuts the line into blocks of consecutive tokens. Whatever stands before a block and is seen by one of its tokens is
seen by its first one: a stretch of the line that reaches from before the block to some token of it covers the first one, too.
So a block needs the keys of what its first token sees and its own, and no others. These are gathered, a mask says the rest, and
blocks of like width are computed together: about as much attention as plain rows take, whatever the tree looks like.

transformers' `sdpa` is replaced, for all models, by a function that does this if it is given blocks, and sdpa if not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from algorithms.batch import Bools, Ints

LIKE = 0.75
"""Blocks are computed together if the narrowest sees at least this share of what the widest sees: the rest is padding."""
ALIGNED = 16
"""Widths are multiples of this, as the kernels of GPUs ask of masks."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """How a line of [N] tokens attends: G sets of blocks, each of n blocks with Q queries and K keys."""

    queries: Tensor
    """[sum of n * Q] places of the queries, set by set; the last block repeats its last token until it is full."""
    keys: Tensor
    """[sum of n * K] places of keys and values."""
    masks: Sequence[Tensor]
    """[n, 1, Q, K] for each set, added to the scores."""
    own: Tensor
    """[N] where the output for each token stands among the queries."""

    @classmethod
    def of(cls, until: Ints, size: int, device: torch.device, dtype: torch.dtype) -> Blocks:
        """Blocks of `size` tokens. until: [N] as above; dtype: of the model."""
        line = np.arange(len(until))
        starts = line[::size]
        earlier = [np.flatnonzero(until[:start] > start) for start in starts]
        own = np.empty(len(until), dtype=np.int64)
        queries, keys, masks, done = [], [], [], 0
        # A token is seen to the end of its part of the line; padding, at the place -1, by none.
        ends = torch.from_numpy(np.append(until, 0)).to(device, torch.int32)
        for numbers in _alike([len(one) + size for one in earlier]):
            width = -(-(len(earlier[numbers[0]]) + size) // ALIGNED) * ALIGNED
            query = starts[numbers][:, None] + np.arange(size)
            key = np.full((len(numbers), width), -1, dtype=np.int64)
            key[:, :size] = np.where(query < len(until), query, -1)
            for row, number in enumerate(numbers):
                key[row, size : size + len(earlier[number])] = earlier[number]
            real = query < len(until)
            own[query[real]] = done + np.flatnonzero(real)
            done += query.size
            q, k = (torch.from_numpy(np.minimum(x, line[-1])).to(device) for x in (query, key))
            visible = q.int()[:, :, None] < ends[k][:, None]
            visible[:, :, :size].logical_and_(torch.ones(size, size, dtype=torch.bool, device=device).tril_())
            # The lowest number and not -inf: a kernel that looks at a part of the keys first may see no visible one there.
            masks.append(torch.where(visible, 0.0, torch.finfo(dtype).min).to(dtype)[:, None])
            queries.append(q.view(-1))
            keys.append(k.clamp_min(0).view(-1))
        return cls(torch.cat(queries), torch.cat(keys), masks, torch.from_numpy(own).to(device))


def _alike(widths: Sequence[int]) -> list[list[int]]:
    """Numbers of the blocks, widest first, in sets of like width."""
    sets: list[list[int]] = []
    for number in sorted(range(len(widths)), key=lambda n: -widths[n]):
        if sets and widths[number] >= LIKE * widths[sets[-1][0]]:
            sets[-1].append(number)
        else:
            sets.append([number])
    return sets


def sees(until: Ints) -> Bools:
    """[N, N] bool: whether the token of the row sees that of the column."""
    line = np.arange(len(until))
    return (line <= line[:, None]) & (line[:, None] < until)


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    blocks: Blocks | None = None,
    **given: Any,
) -> tuple[Tensor, None]:
    """transformers' sdpa; with `blocks` over one line: query [1, H, N, D], key and value [1, H', N, D] -> [1, N, H, D]."""
    if blocks is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    # By token, so that what belongs to one lies together and is copied in one piece.
    by_token = [x[0].transpose(0, 1) for x in (query, key, value)]
    places = (blocks.queries, blocks.keys, blocks.keys)
    sizes = [[len(mask) * mask.shape[dim] for mask in blocks.masks] for dim in (2, 3, 3)]
    parts = [x.index_select(0, at).split(size) for x, at, size in zip(by_token, places, sizes)]
    heads, groups = key.shape[1], query.shape[1] // key.shape[1]
    found = []
    for mask, *part in zip(blocks.masks, *parts):
        q, k, v = (x.view(len(mask), -1, *x.shape[1:]) for x in part)
        # The queries that share a head of keys stand behind each other there: no key is copied for each of them.
        together = q.unflatten(2, (heads, groups)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        seen = functional.scaled_dot_product_attention(
            together,
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask.repeat(1, 1, groups, 1),
            dropout_p=given.get("dropout", 0.0),
            scale=given.get("scaling"),
        )
        found.append(seen.unflatten(2, (groups, -1)).permute(0, 3, 1, 2, 4).flatten(2, 3).flatten(0, 1))
    return torch.cat(found).index_select(0, blocks.own)[None], None


AttentionInterface.register("sdpa", attention)
