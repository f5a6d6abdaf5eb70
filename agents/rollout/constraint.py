"""Constrained sampling: a trie of the allowed responses, used alike when sampling and when computing log-probabilities.

Restricting a policy to the admissible actions changes its distribution; the update must see the same one. Both sides ask here
which tokens are allowed after a prefix, so log-probabilities are renormalized over the same set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

Node = dict[int, "Node"]


class Trie:
    """Allowed responses as token sequences, each ended by `end`. A node without children is a finished response."""

    def __init__(self, responses: Sequence[Sequence[int]], end: int) -> None:
        if not responses:
            raise ValueError("constrained sampling needs at least one allowed response")
        self.root: Node = {}
        for ids in responses:
            node = self.root
            for token in (*ids, end):
                node = node.setdefault(token, {})

    def allowed(self, ids: Sequence[int]) -> list[list[int]]:
        """For each token of a response, the tokens that were allowed at its place. Raises ValueError for a foreign response."""
        node, found = self.root, []
        for place, token in enumerate(ids):
            found.append(list(node))
            if token not in node:
                raise ValueError(f"token {token} at place {place} of the response is not an allowed one")
            node = node[token]
        return found


class Responses(NamedTuple):
    """The different responses that say the actions of a list."""

    ids: list[list[int]]
    """Each with the token that ends it."""
    words: list[int]
    """Words that each is written in."""


class ActionTries:
    """Tries of admissible-action lists, cached: the same few lists come up again and again.

    `wording` says in which words each action of a list is written, by default its own. Of actions that a tokenizer cannot tell
    apart (unknown words) the first is meant.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        end: int,
        wording: Callable[[Sequence[str]], Sequence[str]] = lambda actions: actions,
    ) -> None:
        self._encode = lru_cache(maxsize=65536)(lambda words: tuple(encode(words)))
        self._wording = wording
        self._end = end
        self._build = lru_cache(maxsize=8192)(self._make)

    def _make(self, actions: tuple[str, ...]) -> tuple[Trie, dict[tuple[int, ...], str], Responses]:
        spelled: dict[tuple[int, ...], str] = {}
        written: dict[tuple[int, ...], int] = {}
        for words, action in zip(self._wording(actions), actions, strict=True):
            ids = self._encode(words)
            spelled.setdefault(ids, action)
            written.setdefault(ids, len(words.split()))
        responses = Responses([[*ids, self._end] for ids in spelled], list(written.values()))
        return Trie(list(spelled), self._end), spelled, responses

    def words(self, action: str, actions: Sequence[str]) -> str:
        """How `action`, one of `actions` or another, is written."""
        written = dict(zip(actions, self._wording(actions), strict=True))
        return written[action] if action in written else self._wording([action])[0]

    def spell(self, action: str, actions: Sequence[str]) -> list[int]:
        """The response that says it, without the token that ends a response."""
        return list(self._encode(self.words(action, actions)))

    def trie(self, actions: Sequence[str]) -> Trie:
        return self._build(tuple(actions))[0]

    def responses(self, actions: Sequence[str]) -> Responses:
        """What the trie allows, one by one."""
        return self._build(tuple(actions))[2]

    def action(self, actions: Sequence[str], response_ids: Sequence[int]) -> str | None:
        """The action that a finished response spells, or None if it was cut off."""
        ids = tuple(response_ids[:-1]) if response_ids and response_ids[-1] == self._end else tuple(response_ids)
        return self._build(tuple(actions))[1].get(ids)
