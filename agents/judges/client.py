"""Who answers a question in words, and how that can fail. What is asked, how often, and what it means is left to others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["timeout", "rate_limit", "connection", "refused", "server", "context", "other"]
"""refused: the server will not answer this, now or later (no such model, no valid key); server: it failed itself; context: the
question is longer than the model can read; other: what came back is no answer at all."""
HOPELESS: frozenset[Kind] = frozenset({"refused", "context"})
"""Kinds that asking again does not mend."""


class ClientError(RuntimeError):
    """A question got no answer. `wait`: seconds to wait before the next attempt, if the server said so."""

    def __init__(self, kind: Kind, detail: str, wait: float | None = None) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: Kind = kind
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered."""

    text: str
    prompt_tokens: int
    """0 where it is not known, and so is `answer_tokens`."""
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Draw:
    """Which of a question's sampled answers is asked for."""

    number: int
    """Equal numbers are to give equal answers, as far as the model can."""
    temperature: float


class Client(Protocol):
    """A model that answers one question at a time; any number may be under way."""

    identity: str | None
    """Everything besides the question that the answer depends on; None: it changes, so that no answer may be kept."""

    async def ask(self, prompt: str, draw: Draw | None = None) -> Reply:
        """The answer to `prompt`: the likeliest one (temperature 0), or one that is sampled. Raises ClientError."""

    async def close(self) -> None: ...
