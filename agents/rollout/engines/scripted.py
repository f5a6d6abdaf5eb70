"""An engine without a model, for tests: the answers are given by a function of the request.

A script writes whole responses: of one that is to begin with what was `written` that beginning is not given again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agents.config.sections import EngineConfig
from agents.models.policy import Policy
from agents.rollout.engines.base import Completion, EngineStats, Request, Weights


def first_allowed(request: Request) -> Sequence[int]:
    """The first allowed response, or nothing where responses are free."""
    ids = list(request.written)
    node = request.trie.root if request.trie else {}
    for token in ids:
        node = node[token]
    while node:
        token = next(iter(node))
        ids.append(token)
        node = node[token]
    return ids


class ScriptedEngine:
    """Answers every request with `script(request)` at log-probability 0; to it all candidates are alike."""

    takes_adapter = False

    def __init__(self, script: Callable[[Request], Sequence[int]] = first_allowed) -> None:
        self.script = script
        self.stats = EngineStats()
        self.weights_version = 0
        self.released: list[str] = []
        self._apart: dict[str, EngineStats] = {}

    @classmethod
    def open(cls, policy: Policy, config: EngineConfig) -> ScriptedEngine:
        """An engine that takes the first admissible action, whatever the policy."""
        return cls()

    async def generate(self, request: Request) -> Completion:
        ids = list(self.script(request))[len(request.written) :]
        self._apart.get(request.session, self.stats).sampled_tokens += len(ids)
        return Completion(ids, [0.0] * len(ids), "stop", [self.weights_version] * len(ids))

    async def score(self, session: str, ids: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[0.0] * len(candidate) for candidate in candidates]

    async def hold(self, session: str, ids: Sequence[int]) -> None:
        pass

    def count_apart(self, session: str, stats: EngineStats) -> None:
        self._apart[session] = stats

    async def rest(self) -> None:
        pass

    def release(self, session: str) -> None:
        self.released.append(session)
        self._apart.pop(session, None)

    async def update_weights(self, weights: Weights) -> None:
        self.weights_version = weights.version

    def close(self) -> None:
        pass
