"""An engine without a model, for tests: the answers are given by a function of the request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agents.models.policy import Policy
from agents.rollout.engines.base import Completion, EngineStats, Request


def first_allowed(request: Request) -> Sequence[int]:
    """The first allowed response, or nothing where responses are free."""
    ids: list[int] = []
    node = request.trie.root if request.trie else {}
    while node:
        token = next(iter(node))
        ids.append(token)
        node = node[token]
    return ids


class ScriptedEngine:
    """Answers every request with `script(request)` at log-probability 0; to it all candidates are alike."""

    def __init__(self, script: Callable[[Request], Sequence[int]] = first_allowed) -> None:
        self.script = script
        self.stats = EngineStats()
        self.policy_version = 0
        self.released: list[str] = []

    async def generate(self, request: Request) -> Completion:
        ids = list(self.script(request))
        self.stats.sampled_tokens += len(ids)
        return Completion(ids, [0.0] * len(ids), "stop", self.policy_version)

    async def score(self, session: str, ids: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[0.0] * len(candidate) for candidate in candidates]

    def release(self, session: str) -> None:
        self.released.append(session)

    def update_weights(self, policy: Policy, version: int) -> None:
        self.policy_version = version

    def close(self) -> None:
        pass
