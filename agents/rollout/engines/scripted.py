"""An engine without a model, for tests: the answers are given by a function of the request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agents.config.sections import EngineConfig
from agents.models.policy import Policy
from agents.rollout.engines.base import Completion, EngineStats, Request, Weights


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

    takes_adapter = False

    def __init__(self, script: Callable[[Request], Sequence[int]] = first_allowed) -> None:
        self.script = script
        self.stats = EngineStats()
        self.weights_version = 0
        self.released: list[str] = []

    @classmethod
    def open(cls, policy: Policy, config: EngineConfig) -> ScriptedEngine:
        """An engine that takes the first admissible action, whatever the policy."""
        return cls()

    async def generate(self, request: Request) -> Completion:
        ids = list(self.script(request))
        self.stats.sampled_tokens += len(ids)
        return Completion(ids, [0.0] * len(ids), "stop", [self.weights_version] * len(ids))

    async def score(self, session: str, ids: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[0.0] * len(candidate) for candidate in candidates]

    async def rest(self) -> None:
        pass

    def release(self, session: str) -> None:
        self.released.append(session)

    async def update_weights(self, weights: Weights) -> None:
        self.weights_version = weights.version

    def close(self) -> None:
        pass
