"""Forward passes over rows: micro-batches by token budget, and what a model says of the sampled tokens in them.

Whoever puts rows through a model does it here: policy, reference, critic, reward models. A micro-batch holds its rows side by
side, or their prefix tree, in which each distinct token stands once; whichever is counted to be less work. How rows are cut
into micro-batches never changes a result, up to the order of float sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agents.models import ranks
from agents.models.blocks import Blocks, sees
from agents.models.policy import Policy, token_logprobs
from agents.models.temperature import Temperature, constant, tempered
from agents.rollout.choice import ActionChoices
from agents.training.experience import Experience
from agents.training.packing import Row
from agents.training.prefix_tree import Tree, Work, block_size, ordered, padded
from algorithms.base import Ints


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """[B, L]: a row for each text, padded on the right, or one row that is their prefix tree; [M] sampled tokens.

    Places that are equal are computed once: [D] distinct ones. (Texts that begin alike often go on alike.)
    """

    ids: Tensor
    """[B, L]"""
    positions: Tensor | None
    """[B, L], or None where every row counts from 0."""
    mask: Tensor | Blocks | None
    """[B, 1, L, L] bool, or blocks of the one row, or None where plain causal attention is right."""
    before: Tensor
    """[D] flat places in [B * L] whose output predicts sampled tokens."""
    which: Tensor
    """[M] number in `before` of the place that predicts the sampled token."""
    targets: Tensor
    """[M] sampled ids."""
    tokens: Tensor
    """[M] numbers of the sampled tokens in the batch's flat order, on the CPU."""
    real_tokens: int
    """Without padding."""
    choices: ActionChoices | None = None
    """If given, `which` and `targets` are those of all candidates' tokens [K]."""
    allowed: Tensor | None = None
    """[D, V] bool: what could be sampled at each place; None: anything."""


def passes(
    experience: Experience, rows: Sequence[Row], model: Policy, tokens_per_microbatch: int, forced: bool = False
) -> Iterator[MicroBatch]:
    """Micro-batches of `rows` on the model's device, each of at most `tokens_per_microbatch` tokens with padding.

    Tokens that constrained sampling forced (probability 1, no gradient) are left out unless `forced`, and so is a micro-batch
    that holds no others.

    Of several ranks each gets its share, and all get equally many, since they gather weights together: some without rows.
    """
    groups, tree = micro_batches(rows, tokens_per_microbatch, model)
    for group in ranks.dealt(groups, [sum(map(len, group)) for group in groups]):
        batch = _empty(model) if group is None else collate(group, model, tree, None if forced else experience.allowed)
        if len(batch.tokens) or ranks.size() > 1:
            yield batch


def logprobs(model: Policy, batch: MicroBatch, temperature: Temperature) -> tuple[Tensor, Tensor]:
    """Log-probability [M] of what was sampled, and the entropy [M] of the choice."""
    logits = model.forward(batch.ids, batch.positions, batch.mask, batch.before)
    if batch.choices is None:
        return token_logprobs(logits, batch.targets, batch.allowed, temperature, batch.which)
    candidates = logits[batch.which, batch.targets] - logits.logsumexp(-1)[batch.which]
    return batch.choices.decide(candidates, constant(temperature))


def distributions(model: Policy, batch: MicroBatch, temperature: Temperature) -> Tensor:
    """[D, V] log-probabilities of all tokens at the batch's distinct places; -inf of those that could not be sampled."""
    logits = tempered(model.forward(batch.ids, batch.positions, batch.mask, batch.before), temperature, batch.allowed)
    return torch.log_softmax(logits, -1)


def sum_pi_squared(model: Policy, batch: MicroBatch, temperature: Temperature) -> Tensor:
    """[M] sum of the squared probabilities of all tokens: the probability that two draws at this place are equal."""
    logits = tempered(model.forward(batch.ids, batch.positions, batch.mask, batch.before), temperature, batch.allowed)
    return torch.softmax(logits, -1).square().sum(-1)[batch.which]


@torch.no_grad()
def per_token(
    experience: Experience, batches: Iterable[MicroBatch], of: Callable[[MicroBatch], Tensor], otherwise: float
) -> Tensor:
    """[T] float64 on the CPU: what `of` gives [M] for each batch; `otherwise` where a token is in none."""
    found = torch.full((experience.sampled,), otherwise, dtype=torch.float64)
    mine = torch.zeros(experience.sampled, dtype=torch.bool)
    for batch in batches:
        found[batch.tokens] = of(batch).double().cpu()
        mine[batch.tokens] = True
    return joined(found, mine)


def joined(found: Tensor, mine: Tensor) -> Tensor:
    """`found` [P, ...] with what each rank has in its places `mine` [P] (bool), where no other rank has anything."""
    if ranks.size() == 1:
        return found
    theirs = ranks.added_up(mine.double()) > 0
    total = ranks.added_up(torch.where(mine.view(-1, *[1] * (found.dim() - 1)), found, torch.zeros_like(found)))
    return torch.where(theirs.view(-1, *[1] * (found.dim() - 1)), total, found)


def micro_batches(rows: Sequence[Row], tokens_per_microbatch: int, model: Policy) -> tuple[list[list[Row]], bool]:
    """Rows in micro-batches that hold at most `tokens_per_microbatch` tokens (one row may be longer), and whether each is a
    prefix tree: where the model can share tokens, and all its work is counted to be less than that of rows side by side."""
    rows = [row for row in rows if row.tokens]
    if not rows:
        return [], False
    groups, work = _side_by_side(rows, tokens_per_microbatch, model.device.type)
    if model.sharing is not None:
        trees, shared = _trees(rows, tokens_per_microbatch, blocks=model.sharing == "blocks")
        if shared.cost(model.width) < work.cost(model.width):
            return trees, True
    return groups, False


def _side_by_side(rows: Sequence[Row], budget: int, device: str) -> tuple[list[list[Row]], Work]:
    """Rows sorted by length, so that little is padded, in batches of at most `budget` tokens with padding; and their work."""
    groups: list[list[Row]] = []
    texts, longest, total = 0, 0, Work()
    for row in sorted(rows, key=_longest, reverse=True):
        more = max(1, len(row.behind))
        if not groups or (texts + more) * longest > budget:
            total += Work.padded(texts, longest, device)
            texts, longest = 0, _longest(row)
            groups.append([])
        groups[-1].append(row)
        texts += more
    return groups, total + Work.padded(texts, longest, device)


def _trees(rows: Sequence[Row], budget: int, blocks: bool) -> tuple[list[list[Row]], Work]:
    """Rows in the order of their ids, so that those which share most are together, in trees that hold at most `budget` tokens;
    and their work.

    Without blocks, attention is over all tokens of a tree, which then has no more pairs than `budget` tokens in rows would."""
    longest = max(map(_longest, rows))
    block, most = block_size(longest), budget * longest
    groups: list[list[Row]] = []
    tokens, pairs, work, total = 0, 0.0, Work(), Work()
    order, sharing, _ = ordered([row.trunk for row in rows])
    for number, shared in zip(order.tolist(), sharing.tolist()):
        row = rows[number]
        trunk, behind = len(row.trunk), row.behind
        row_tokens, row_pairs = trunk + sum(behind), trunk**2 / 2 + sum(n * (trunk + n / 2) for n in behind)
        tokens, pairs = tokens + row_tokens - shared, pairs + row_pairs - shared**2 / 2
        joined = Work.in_blocks(tokens, pairs, block) if blocks else Work.over_all(tokens)
        if not groups or joined.held > budget or not (blocks or joined.pairs <= most):
            total += work
            tokens, pairs = row_tokens, row_pairs
            joined = Work.in_blocks(tokens, pairs, block) if blocks else Work.over_all(tokens)
            groups.append([])
        groups[-1].append(row)
        work = joined
    return groups, total + work


def _longest(row: Row) -> int:
    return len(row.trunk) + max(row.behind, default=0)


def collate(
    rows: Sequence[Row], model: Policy, tree: bool = False, allowed: tuple[Ints, Ints, Ints] | None = None
) -> MicroBatch:
    """A micro-batch of at least one row, side by side or as a prefix tree.

    allowed: as of `Experience`; forced tokens are then left out."""
    device = model.device
    texts = [text for row in rows for text in row.texts]
    positions: Tensor | None = None
    mask: Tensor | Blocks | None = None
    if tree:
        joined = Tree.of(texts)
        ids, places, real = joined.ids[None], joined.places, len(joined.ids)
        positions = torch.from_numpy(joined.positions[None]).to(device)
        if model.sharing == "blocks":
            mask = Blocks.of(joined.until, block_size(places.shape[1]), device, model.dtype)
        else:
            mask = torch.from_numpy(sees(joined.until)[None, None]).to(device)
    else:
        ids, real = padded(texts).astype(np.int64), sum(map(len, texts))
        places = np.arange(ids.size, dtype=np.int32).reshape(ids.shape)
    predicted = [pair for row in rows for pair in row.predicted]
    of = np.repeat(np.arange(len(texts)), [len(before) for before, _ in predicted])
    at = places[of, np.concatenate([before for before, _ in predicted])]
    targets = np.concatenate([ids for _, ids in predicted])
    numbers = np.concatenate([np.asarray(row.tokens, dtype=np.int64) for row in rows])
    possible: Tensor | None = None
    if allowed is None:
        before, which = np.unique(at, return_inverse=True)
    else:
        # Places with different choices behind them are different ones.
        some, offsets, sets = allowed
        free = np.diff(offsets)[sets[numbers]] != 1
        at, targets, numbers = at[free], targets[free], numbers[free]
        pairs, which = np.unique(at * len(offsets) + sets[numbers], return_inverse=True)
        before, chosen = np.divmod(pairs, len(offsets))
        possible = _possible(some, offsets, chosen, model.vocabulary).to(device)
    choices = [row.choice for row in rows if row.choice is not None]
    return MicroBatch(
        ids=torch.from_numpy(ids).to(device),
        positions=positions,
        mask=mask,
        before=torch.from_numpy(before).to(device),
        which=torch.from_numpy(which).to(device),
        targets=torch.from_numpy(targets).to(device),
        tokens=torch.from_numpy(numbers),
        real_tokens=real,
        choices=ActionChoices.of(choices, device) if choices else None,
        allowed=possible,
    )


def _empty(model: Policy) -> MicroBatch:
    """A micro-batch that nothing is read from."""
    nothing, one = torch.zeros(0, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long)
    there = nothing.to(model.device)
    return MicroBatch(one.to(model.device), None, None, there, there, there, nothing, 0)


def _possible(ids: Ints, offsets: Ints, sets: Ints, vocabulary: int) -> Tensor:
    """[D, V] bool: the ids in each of `sets` [D]; in an empty one, all."""
    counts = offsets[sets + 1] - offsets[sets]
    line = np.repeat(np.arange(len(sets)), counts)
    within = np.arange(len(line)) - np.repeat(np.cumsum(counts) - counts, counts)
    possible = np.zeros((len(sets), vocabulary), dtype=bool)
    possible[line, ids[offsets[sets][line] + within]] = True
    possible[counts == 0] = True
    return torch.from_numpy(possible)
