"""What engine=hf holds of each session: its slot, what it is asked, and what was read ahead for sessions that begin alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.rollout.engines.answer import Answer
from agents.rollout.engines.base import EngineStats, Request


@dataclass(slots=True)
class Scoring:
    """Candidates to be scored after `ids`."""

    session: str
    ids: Sequence[int]
    candidates: Sequence[Sequence[int]]
    found: list[list[float]] = field(default_factory=list)
    """Of the first candidates; the others are still to be scored."""


@dataclass(slots=True)
class Holding:
    """Ids to be read for sessions that begin with them."""

    session: str
    ids: Sequence[int]


@dataclass(slots=True)
class Held:
    """What was read of them."""

    ids: list[int]
    saved: Any
    """As the memory saves it."""


@dataclass(slots=True)
class Slot:
    """A session's place in the batch."""

    session: str
    stats: EngineStats
    """Where its tokens are counted."""
    computed: list[int] = field(default_factory=list)
    """Ids whose keys and values are in the cache."""
    pending: list[int] = field(default_factory=list)
    """Ids still to be computed; the next token follows the last one."""
    request: Request | None = None
    scoring: Scoring | None = None
    holding: Holding | None = None
    """At most one of the three is under way."""
    future: asyncio.Future[Any] | None = None
    answer: Answer | None = None
    """Of the request under way."""
    logprobs: list[float] = field(default_factory=list)
    """Of what it has sampled so far."""
    versions: list[int] = field(default_factory=list)
    waited: int = 0


def shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common prefix."""
    n = min(len(left), len(right))
    if left[:n] == right[:n]:
        return n
    return next(i for i in range(n) if left[i] != right[i])
