"""Forward passes over rows: micro-batches by token budget, and what a model says of the sampled tokens in them.

Whoever puts rows through a model does it here: policy, reference, critic, reward models. How rows are cut into micro-batches
never changes a result, up to the order of float sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agents.models.policy import Policy, token_logprobs
from agents.rollout.choice import ActionChoices
from agents.training.experience import Experience
from agents.training.packing import Row


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
    """[M] numbers of the sampled tokens in the batch's flat order, on the CPU."""
    real_tokens: int
    choices: ActionChoices | None = None
    """If given, `before` and `targets` are those of all candidates' tokens [K]."""
    allowed: Tensor | None = None
    """[M, V] bool: what could be sampled at each place; None: anything."""


def passes(
    experience: Experience, rows: Sequence[Row], model: Policy, tokens_per_microbatch: int, forced: bool = False
) -> Iterator[MicroBatch]:
    """Micro-batches of `rows` on the model's device, each of at most `tokens_per_microbatch` tokens with padding.

    Tokens that constrained sampling forced (probability 1, no gradient) are left out unless `forced`, and so is a micro-batch
    that holds no others.
    """
    for group in micro_batches(rows, tokens_per_microbatch):
        batch = collate(group, pad=0, device=model.device)
        if experience.allowed is not None and not forced:
            _leave_choices(batch, *experience.allowed, model.vocabulary)
        if len(batch.tokens):
            yield batch


def logprobs(model: Policy, batch: MicroBatch, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability [M] of what was sampled, and the entropy [M] of the choice."""
    logits = model.forward(batch.ids, batch.positions, batch.mask, batch.before)
    if batch.choices is None:
        return token_logprobs(logits, batch.targets, batch.allowed, temperature)
    candidates = logits.gather(-1, batch.targets[:, None])[:, 0] - logits.logsumexp(-1)
    return batch.choices.decide(candidates, temperature)


def sum_pi_squared(model: Policy, batch: MicroBatch, temperature: float) -> Tensor:
    """[M] sum of the squared probabilities of all tokens: the probability that two draws at this place are equal."""
    logits = model.forward(batch.ids, batch.positions, batch.mask, batch.before) / temperature
    if batch.allowed is not None:
        logits = logits.masked_fill(~batch.allowed, -torch.inf)
    return torch.softmax(logits, -1).square().sum(-1)


@torch.no_grad()
def per_token(
    experience: Experience, batches: Iterable[MicroBatch], of: Callable[[MicroBatch], Tensor], otherwise: float
) -> Tensor:
    """[T] float64 on the CPU: what `of` gives [M] for each batch; `otherwise` where a token is in none."""
    found = torch.full((experience.sampled,), otherwise, dtype=torch.float64)
    for batch in batches:
        found[batch.tokens] = of(batch).double().cpu()
    return found


def micro_batches(rows: Sequence[Row], tokens_per_microbatch: int) -> Iterator[list[Row]]:
    """Rows sorted by length, so that little is padded, in batches of at most `tokens_per_microbatch` tokens with padding."""
    batch: list[Row] = []
    for row in sorted(rows, key=len, reverse=True):
        if batch and (len(batch) + 1) * len(batch[0]) > tokens_per_microbatch:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def collate(rows: Sequence[Row], pad: int, device: torch.device) -> MicroBatch:
    """Pad rows on the right and number what is to be predicted."""
    length = max(len(row) for row in rows)
    ids = np.full((len(rows), length), pad, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row.ids
    chosen = [choice for row in rows for choice in row.choices or []]
    if chosen:
        before = np.array([b + i * length for i, row in enumerate(rows) for c in row.choices or [] for b in c.before], np.int64)
        targets = np.array([token for choice in chosen for token in choice.targets], dtype=np.int64)
    else:
        places = np.concatenate([np.asarray(row.targets, dtype=np.int64) + i * length for i, row in enumerate(rows)])
        before, targets = places - 1, ids.ravel()[places]
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
        before=torch.from_numpy(before).to(device),
        targets=torch.from_numpy(targets).to(device),
        tokens=torch.from_numpy(np.concatenate([np.asarray(row.tokens, dtype=np.int64) for row in rows])),
        real_tokens=sum(len(row) for row in rows),
        choices=ActionChoices.of(chosen, device) if chosen else None,
    )


def _leave_choices(batch: MicroBatch, ids: np.ndarray, offsets: np.ndarray, vocabulary: int) -> None:
    """Take forced tokens out of `batch` and note what was allowed at the others. ids, offsets: as of `Experience.allowed`."""
    numbers = batch.tokens.numpy()
    counts = offsets[numbers + 1] - offsets[numbers]
    free = counts != 1
    keep = torch.from_numpy(np.flatnonzero(free))
    batch.before, batch.targets, batch.tokens = (x[keep.to(x.device)] for x in (batch.before, batch.targets, batch.tokens))
    numbers, counts = numbers[free], counts[free]
    mask = np.zeros((len(numbers), vocabulary), dtype=bool)
    line = np.repeat(np.arange(len(numbers)), counts)
    within = np.arange(len(line)) - np.repeat(np.cumsum(counts) - counts, counts)
    mask[line, ids[np.repeat(offsets[numbers], counts) + within]] = True
    mask[counts == 0] = True
    batch.allowed = torch.from_numpy(mask).to(batch.ids.device)
