"""TEMPO (arXiv 2509.18314): GRPO, and at each token where episodes of a task part, what parting there was worth.

The ordinary episodes of a task are a tree of prefixes, and the mean return of those that share a prefix is its value. A prefix
is all that an episode has read and sampled before a place. Two episodes share it if they sampled the same tokens, step by
step, in the same states (state keys of the environment). Texts need no comparison: what an episode reads follows from the
state and from what it sampled before. Where an environment gives no state keys, equal tokens have to do, which is right if it
is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from algorithms.base import Advantages, Batch, Bools, Floats, Ints, Need, Scored
from algorithms.grpo import GRPO
from algorithms.stats import ROUNDING, compared_steps, deviations, normalize


@dataclass
class TEMPO(GRPO):
    """A(i,j) = (R_i - mean + V(prefix with token j) - V(prefix before it)) / F, F as in GRPO.

    V(prefix) = mean return of the task's episodes that share it. It changes only where episodes part: every other token has
    GRPO's advantage.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"token_ids"})

    @property
    def credits_tokens(self) -> bool:
        return True

    def credit(self, batch: Scored) -> Advantages:
        """One value a token [T]. Raises ValueError without batch.token_ids."""
        if batch.token_ids is None:
            raise ValueError("TEMPO needs batch.token_ids, the sampled tokens")
        score, counted = batch.scores(), compared_steps(batch, self.episode_stats)
        token, change = branches(batch, batch.token_ids, score[batch.position == 0])
        step = np.repeat(np.arange(len(score)), batch.tokens)[token]
        # Compared with the same mean and F as the episodes, in which the branches do not count.
        values, group = np.append(score, score[step] + change), np.append(batch.group, batch.group[step])
        counted = np.append(counted, np.zeros(len(token), dtype=bool))
        scaled = normalize(values, group, counted, self.normalize, self.epsilon, self.singleton_group)
        episode, branch = np.repeat(scaled[: len(score)], batch.tokens), np.zeros(int(batch.tokens.sum()))
        branch[token] = scaled[len(score) :] - episode[token]
        return Advantages(episode + branch, level="token", parts={"episode": episode, "branch": branch})


def branches(batch: Batch, token_ids: Ints, score: Floats) -> tuple[Ints, Floats]:
    """Numbers of the tokens at which an episode leaves others of its task, and V behind each less V before it: [B], [B].

    token_ids: [T]; score: [N] return of each episode.
    """
    texts = np.split(_words(batch, token_ids), np.cumsum(np.bincount(batch.episode, batch.tokens, len(score)).astype(int))[:-1])
    first = np.cumsum([0, *map(len, texts)])  # [N + 1]
    group = batch.group[batch.position == 0]
    lead = deviations(score, group, np.ones(len(score), dtype=bool))  # equal returns part from nothing
    found: list[tuple[Ints, Floats]] = [(np.zeros(0, dtype=np.int64), np.zeros(0))]
    by_group = np.argsort(group, kind="stable")
    for members in np.split(by_group, np.flatnonzero(np.diff(group[by_group])) + 1):
        if len(members) > 1:
            member, place, change = _partings([texts[m] for m in members], lead[members])
            found.append((first[members[member]] + place, change))
    token, change = (np.concatenate(one) for one in zip(*found, strict=True))
    return token, change


def _words(batch: Batch, token_ids: Ints) -> Ints:
    """[T] equal where the token is, and at the first token of a step also the state in which it was sampled."""
    words, vocabulary = token_ids.astype(np.int64), int(token_ids.max(initial=0)) + 1
    says = batch.tokens > 0
    words[(np.cumsum(batch.tokens) - batch.tokens)[says]] += vocabulary * (batch.state[says] + 2)  # without a key: 1
    return words


def _partings(texts: Sequence[Ints], score: Floats) -> tuple[Ints, Ints, Floats]:
    """For a task's n episodes, each time that one leaves others: its number, the place of the token, and what V changes by."""
    n = len(texts)
    # In the order of their bytes, those that share most stand side by side.
    bytes_of = [text.tobytes() for text in texts]
    order = np.array(sorted(range(n), key=bytes_of.__getitem__), dtype=np.int64)
    beside = [_shared(texts[a], texts[b]) for a, b in pairwise(order)]
    later = np.triu(np.ones((n, n), dtype=bool), 1)
    endless = np.iinfo(np.int64).max
    shared = np.minimum.accumulate(np.where(later, np.array([0, *beside]), endless), axis=1)
    shared = np.minimum(shared, shared.T)  # [n, n] tokens that two have in common, from the beginning
    np.fill_diagonal(shared, [len(texts[one]) for one in order])
    # For each, the others by how long they stay together; V of those that stay beyond a parting, of those that come to it, ...
    closest = np.argsort(-shared, axis=1, kind="stable")
    together = np.take_along_axis(shared, closest, axis=1)
    value = np.cumsum(score[order][closest], axis=1) / np.arange(1, n + 1)
    ends = np.ones((n, n), dtype=bool)
    ends[:, :-1] = together[:, :-1] > together[:, 1:]
    one, stays = np.nonzero(ends)
    change = value[one, stays][:-1] - value[one, stays][1:]
    parts: Bools = (one[:-1] == one[1:]) & (np.abs(change) > ROUNDING * np.abs(score).max())
    one, stays = one[:-1][parts], stays[:-1][parts]
    return order[one], together[one, stays + 1], change[parts]


def _shared(a: Ints, b: Ints) -> int:
    """How many tokens two texts have in common, from the beginning."""
    n = min(len(a), len(b))
    differ = a[:n] != b[:n]
    place = int(differ.argmax()) if n else 0
    return place if n and differ[place] else n
