"""A gate in front of an engine: weights change between requests, never while one is under way (rollout.weights=between)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from agents.config import engines
from agents.config.sections import EngineConfig
from agents.models.policy import Policy
from agents.rollout.engines.base import Completion, Engine, EngineStats, Request, Weights


class Gate:
    """The engine behind it, of which new requests wait until those under way have ended and the new weights are there."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.takes_adapter = engine, engine.takes_adapter
        self.stats, self.weights_version = engine.stats, engine.weights_version
        self._under_way = 0
        self._open, self._idle = asyncio.Event(), asyncio.Event()
        self._open.set()
        self._idle.set()

    @classmethod
    def open(cls, policy: Policy, config: EngineConfig) -> Gate:
        """In front of the engine that the configuration names."""
        return cls(engines.get(config.name).open(policy, config))

    async def generate(self, request: Request) -> Completion:
        async with self._passage():
            return await self.engine.generate(request)

    async def score(self, session: str, ids: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[list[float]]:
        async with self._passage():
            return await self.engine.score(session, ids, candidates)

    async def hold(self, session: str, ids: Sequence[int]) -> None:
        async with self._passage():
            await self.engine.hold(session, ids)

    def count_apart(self, session: str, stats: EngineStats) -> None:
        self.engine.count_apart(session, stats)

    async def rest(self) -> None:
        await self.engine.rest()

    def release(self, session: str) -> None:
        self.engine.release(session)

    async def update_weights(self, weights: Weights) -> None:
        self._open.clear()
        try:
            await self._idle.wait()
            await self.engine.update_weights(weights)
            self.weights_version = self.engine.weights_version
        finally:
            self._open.set()

    def close(self) -> None:
        self.engine.close()

    @asynccontextmanager
    async def _passage(self) -> AsyncIterator[None]:
        while not self._open.is_set():
            await self._open.wait()
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
