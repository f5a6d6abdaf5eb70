"""Trajectories as rows for the trainer, every token computed once where the context allows it.

Invariant: joining a row's tokens along prefix and branch gives exactly the ids that the model read and sampled; the loss stands
on sampled tokens only. A growing conversation is one row. Rebuilt prompts (context=window) that begin alike share that prefix:
one row holds the prefix once and each remainder as a branch that sees the prefix and itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from envs.trajectory import Trajectory

MIN_SHARED = 32
"""Prefixes shorter than this are not worth a branched row."""


@dataclass(slots=True)
class Row:
    """One line of a micro-batch."""

    ids: list[int]
    positions: list[int] | None
    """Position of each token, or None for 0, 1, 2, ..."""
    segments: list[int] | None
    """0 for the shared prefix, 1.. for the branches; None for a row without branches."""
    targets: list[int]
    """Places in `ids` of the sampled tokens."""
    tokens: list[int]
    """For each target, its number in the batch's flat order (trajectory by trajectory, step by step)."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True)
class MicroBatch:
    """Rows padded on the right; [B] rows, [L] longest, [M] sampled tokens."""

    ids: Tensor
    """[B, L]"""
    positions: Tensor | None
    """[B, L], or None where every row counts from 0."""
    mask: Tensor | None
    """[B, 1, L, L] bool, or None where plain causal attention is right."""
    before: Tensor
    """[M] flat places in [B * L] whose output predicts the sampled token."""
    targets: Tensor
    """[M] sampled ids."""
    tokens: Tensor
    """[M] numbers of the sampled tokens in the batch's flat order."""
    real_tokens: int


def rows(trajectories: Sequence[Trajectory], first_token: Sequence[int], longest_row: int) -> list[Row]:
    """Rows of some trajectories; `first_token[i]` is the flat number of trajectory i's first sampled token.

    `longest_row` bounds branched rows in tokens (attention in a row is quadratic); 0: none, in the order of the steps.
    """
    packed: list[Row] = []
    windows: list[Row] = []
    for trajectory, first in zip(trajectories, first_token, strict=True):
        if trajectory.context == "full":
            if trajectory.steps:
                packed.append(_conversation(trajectory, first))
        else:
            windows.extend(_windows(trajectory, first))
    packed.extend(_branched(windows, longest_row) if longest_row else windows)
    return packed


def _conversation(trajectory: Trajectory, first: int) -> Row:
    ids: list[int] = []
    targets: list[int] = []
    for step in trajectory.steps:
        ids.extend(step.prompt_ids)
        targets.extend(range(len(ids), len(ids) + len(step.response_ids)))
        ids.extend(step.response_ids)
    return Row(ids, None, None, targets, list(range(first, first + len(targets))))


def _windows(trajectory: Trajectory, first: int) -> Iterator[Row]:
    for step in trajectory.steps:
        start, n = len(step.prompt_ids), len(step.response_ids)
        yield Row(
            [*step.prompt_ids, *step.response_ids], None, None, list(range(start, start + n)), list(range(first, first + n))
        )
        first += n


def _branched(windows: Iterable[Row], longest_row: int) -> Iterator[Row]:
    """Join rows that begin alike. Sorted order puts the longest common prefixes side by side."""
    group: list[Row] = []
    prefix = 0
    total = 0
    for row in sorted(windows, key=lambda r: r.ids):
        if group:
            shared = min(_common(group[0].ids, row.ids), prefix, row.targets[0] - 1)
            # Taking the row in may shorten the prefix of the whole group: only while that still saves tokens.
            joined = total + len(row) - shared + (prefix - shared) * (len(group) - 1)
            if shared >= MIN_SHARED and 2 * shared >= prefix and joined <= longest_row:
                total, prefix = joined, shared
                group.append(row)
                continue
            yield _join(group, prefix)
        group, prefix, total = [row], row.targets[0] - 1, len(row)
    if group:
        yield _join(group, prefix)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    n = min(len(left), len(right))
    if left[:n] == right[:n]:
        return n
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if left[:middle] == right[:middle] else (low, middle)
    return low


def _join(group: Sequence[Row], prefix: int) -> Row:
    if len(group) == 1:
        return group[0]
    ids = list(group[0].ids[:prefix])
    positions = list(range(prefix))
    segments = [0] * prefix
    targets: list[int] = []
    tokens: list[int] = []
    for number, row in enumerate(group, start=1):
        shift = len(ids) - prefix
        ids.extend(row.ids[prefix:])
        positions.extend(range(prefix, len(row)))
        segments.extend([number] * (len(row) - prefix))
        targets.extend(place + shift for place in row.targets)
        tokens.extend(row.tokens)
    return Row(ids, positions, segments, targets, tokens)


def micro_batches(rows: Sequence[Row], token_budget: int) -> Iterator[list[Row]]:
    """Rows sorted by length, so that little is padded, in batches of at most `token_budget` tokens with padding."""
    batch: list[Row] = []
    for row in sorted(rows, key=len, reverse=True):
        if batch and (len(batch) + 1) * len(batch[0]) > token_budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def collate(rows: Sequence[Row], pad: int, device: torch.device) -> MicroBatch:
    """Pad rows on the right and number what is to be predicted."""
    length = max(len(row) for row in rows)
    ids = np.full((len(rows), length), pad, dtype=np.int64)
    places = np.concatenate([np.asarray(row.targets, dtype=np.int64) + i * length for i, row in enumerate(rows)])
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row.ids
    positions = mask = None
    if any(row.segments for row in rows):
        at = np.tile(np.arange(length), (len(rows), 1))
        segments = np.zeros((len(rows), length), dtype=np.int64)
        for i, row in enumerate(rows):
            if row.segments and row.positions:
                at[i, : len(row)] = row.positions
                segments[i, : len(row)] = row.segments
        causal = np.tril(np.ones((length, length), dtype=bool))
        seen = causal & ((segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None]))
        positions, mask = torch.from_numpy(at).to(device), torch.from_numpy(seen[:, None]).to(device)
    return MicroBatch(
        ids=torch.from_numpy(ids).to(device),
        positions=positions,
        mask=mask,
        before=torch.from_numpy(places - 1).to(device),
        targets=torch.from_numpy(ids.ravel()[places]).to(device),
        tokens=torch.from_numpy(np.concatenate([np.asarray(row.tokens, dtype=np.int64) for row in rows])),
        real_tokens=sum(len(row) for row in rows),
    )


def rebuild_tokens(trajectories: Iterable[Trajectory]) -> int:
    """Tokens that a layout with one whole prompt a step would compute for the same conversations."""
    total = 0
    for trajectory in trajectories:
        context = 0
        for step in trajectory.steps:
            read = len(step.prompt_ids) + len(step.response_ids)
            context = context + read if trajectory.context == "full" else read
            total += context
    return total
