"""A response as it grows, token by token: where it ends and why, and what constrained sampling leaves no choice about."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from agents.models.answers import Decoder, Listener
from agents.rollout.constraint import Trie
from agents.rollout.engines.base import Request, Sampling


class Answer:
    """Holds the tokens of one response so far, and what of its rules depends on them."""

    def __init__(self, sampling: Sampling, trie: Trie | None, read: int, limit: int, tokenizer: Decoder) -> None:
        """read: tokens that the model has read before it; limit: most that it can read."""
        self.ids: list[int] = []
        self.node = trie.root if trie else None
        """What is allowed next; None where everything is."""
        self._sampling, self._read, self._limit = sampling, read, limit
        self._listener = Listener(sampling.stop, tokenizer) if sampling.stop.listens and not trie else None

    @classmethod
    def of(cls, request: Request, limit: int, tokenizer: Decoder) -> Answer:
        """With what there is of it already. Raises ValueError if that is all of it, or none of the allowed responses."""
        made = cls(request.sampling, request.trie, len(request.ids), limit, tokenizer)
        for token in request.written:
            if made.node is not None and token not in made.node:
                raise ValueError("what is written of a response is not the beginning of an allowed one")
            if reason := made.take(token):
                raise ValueError(f"there is nothing to go on with: what is written of a response ends it ({reason})")
        return made

    def fork(self) -> Answer:
        """The same answer, to go on in another way."""
        made = copy.copy(self)
        made.ids, made._listener = [*self.ids], copy.copy(self._listener)
        return made

    def take(self, token: int) -> str:
        """Add a token; returns why the response ends with it (see `Completion.stop_reason`), "" if it goes on."""
        self.ids.append(token)
        if self.node is not None:  # the trie bounds the length: max_tokens would only cut an allowed response in two
            self.node = self.node[token]
            if not self.node:
                return "stop"
        elif self._listener is not None:
            if self._listener.ends(self.ids, self._sampling.stop_ids):
                return "stop"
        elif token in self._sampling.stop_ids:
            return "stop"
        if self.node is None and len(self.ids) >= self._sampling.max_tokens:
            return "length"
        return "context" if self._read + len(self.ids) >= self._limit else ""

    def forced(self) -> Sequence[int]:
        """The tokens that follow without a choice, up to the next one or to the end."""
        found, node = [], self.node
        while node is not None and len(node) == 1:
            [(token, node)] = node.items()
            found.append(token)
        return found

    def longest(self) -> int:
        """Most tokens that can still come."""
        room = self._limit - self._read - len(self.ids)
        if self.node is None:
            return min(room, self._sampling.max_tokens - len(self.ids))
        depth, level = 0, [self.node]
        while level := [below for node in level for below in node.values()]:
            depth += 1
        return min(room, depth)
