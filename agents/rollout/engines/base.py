"""What a sampling engine is: ids in, ids and log-probabilities out, new weights when told.

A request carries the whole sequence so far; an engine may keep what it computed for a session and prefill only what is new. It
knows nothing of who trains: weights come as named tensors with a version, and every response says which version sampled it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from agents.config.sections import EngineConfig
from agents.models.answers import Stop
from agents.models.policy import Policy
from agents.models.temperature import Temperature
from agents.rollout.constraint import Trie


@dataclass(slots=True)
class Sampling:
    """How tokens are drawn. temperature 0 is greedy; log-probabilities are those of the tempered (and constrained) softmax."""

    temperature: Temperature = 1.0
    top_p: float = 1.0
    max_tokens: int = 64
    """Longest free response; one of a request's `trie` is never cut off."""
    stop: Stop = field(default_factory=Stop)
    """Strings that end a response where they are said, not thought; the tokens that complete one are kept."""
    stop_ids: tuple[int, ...] = ()
    """Token ids that end a response, or the thoughts in it that they close; the id itself is kept, it was sampled."""


@dataclass(slots=True)
class Request:
    session: str
    """Requests of one session continue each other: the engine may reuse what it keeps for it."""
    ids: Sequence[int]
    """Everything the model is to read: prompt, earlier responses, new observation."""
    sampling: Sampling
    seed: int
    """Token t of the response is a function of the distribution, this seed and t alone."""
    trie: Trie | None = None
    """If given, only these responses are possible; probabilities are renormalized over the allowed tokens."""
    written: Sequence[int] = ()
    """What there is of the response already: it goes on as if it were sampled in one go. Raises ValueError if it has ended."""


@dataclass(slots=True)
class Completion:
    ids: list[int]
    """What was sampled; not what was written before."""
    logprobs: list[float]
    stop_reason: str
    """stop (a stop id or string, or the end of an allowed response), length (max_tokens) or context (model's limit)."""
    versions: list[int]
    """[tokens] version of the weights that sampled each: of one alone, unless weights changed while it was sampled."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A version of the policy's weights, as engines take them."""

    version: int
    tensors: Mapping[str, Tensor]
    """By the names of the model's parameters; of an adapter by peft's names."""
    adapter: bool = False
    """Whether `tensors` are those of a LoRA adapter, to be put on the base that the engine was opened with."""


_sessions = count()


def new_session() -> str:
    """A name for a session that no other session of this process has."""
    return f"session-{next(_sessions)}"


@dataclass(slots=True)
class EngineStats:
    """Tokens since the last `take()`. Passes and restarts are those of the whole engine."""

    prefill_tokens: int = 0
    """Tokens of prompts that were computed, the end of the response before them included."""
    sampled_tokens: int = 0
    """Tokens of responses, those that constrained sampling forced included."""
    computed_tokens: int = 0
    """Tokens that went through the model."""
    reused_tokens: int = 0
    """Prompt tokens that were kept from earlier turns, or from a session that began alike: a rebuild-every-step layout would
    compute them again."""
    forwards: int = 0
    restarts: int = 0
    """Times that the engine was started anew after a fault."""

    def take(self) -> dict[str, int]:
        counts = {
            "prefill": self.prefill_tokens,
            "sampled": self.sampled_tokens,
            "computed": self.computed_tokens,
            "reused": self.reused_tokens,
            "forwards": self.forwards,
            "restarts": self.restarts,
        }
        self.prefill_tokens = self.sampled_tokens = self.computed_tokens = self.reused_tokens = 0
        self.forwards = self.restarts = 0
        return counts


class EngineError(RuntimeError):
    """One request got no answer, and why. Its episode alone is played again; any other error of an engine ends the run."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"engine: {detail}")


class EngineFailedError(RuntimeError):
    """An engine can answer no more, and why: ends the run."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"engine: {detail}")


class Engine(Protocol):
    """Sampling engine. `generate` and `score` may be awaited by any number of sessions at once; the engine batches them."""

    stats: EngineStats
    weights_version: int
    takes_adapter: bool
    """Whether a LoRA adapter is taken alone; else it comes merged into the model's weights."""

    @classmethod
    def open(cls, policy: Policy, config: EngineConfig) -> Self:
        """An engine that begins with the weights of `policy`, and has its tokenizer and architecture."""

    async def generate(self, request: Request) -> Completion: ...

    async def score(self, session: str, ids: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability of each token of each candidate after `ids`, at temperature 1; `ids` are computed once for all.

        Calls of one session may continue each other and requests to `generate`; end it with `release`. [] if `ids` and the
        longest candidate are more than the model can read. Raises ValueError for no `ids` or no candidates.
        """

    async def hold(self, session: str, ids: Sequence[int]) -> None:
        """Read `ids`, so that sessions that begin with them need not; until `release(session)`, or new weights.

        Called again, it goes on from what is held: the new `ids` take the place of the former ones. The session is for this
        alone. What an engine shares by itself it need not hold. Raises EngineError.
        """

    def count_apart(self, session: str, stats: EngineStats) -> None:
        """Count the tokens of a session in `stats`, and not in the engine's own, until it is released."""

    async def rest(self) -> None:
        """Nothing will be asked while the policy is updated: memory may be given back until then."""

    def release(self, session: str) -> None:
        """Forget a session: its episode is over."""

    async def update_weights(self, weights: Weights) -> None:
        """Sample from these weights from the next token on; everything kept from older weights is dropped.

        Requests under way go on: what they have read and sampled is read again by the new weights. An engine that samples
        elsewhere, or may be started anew, reads `weights.tensors` again then: they stay as they are until the next call.
        """

    def close(self) -> None: ...


def uniforms(seeds: NDArray[np.uint64], counters: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Counter-based uniforms in [0, 1): a hash (splitmix64's finalizer) of seed and counter, independent of batch and order."""
    with np.errstate(over="ignore"):
        x = seeds + (counters + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
