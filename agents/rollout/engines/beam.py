"""Answers that are searched instead of sampled: beam search by a model that has learned which answers are better.

    q(y_j) = log pi_better(y_j) - log pi_base(y_j)      the advantage of token j, in units of the price of leaving pi_base

The score of an answer is the sum over its tokens of log pi_base + q = log pi_better: its value less what leaving pi_base costs
(From r to Q*, arXiv 2404.12358: likelihood search of a DPO policy is value-guided search); or that of q alone. The policy that
acts proposes the tokens of free answers and decides between equal scores; the score does not know it.

Prompts are read once by each model and kept; the tokens of all beams are read as branches behind them, all sessions together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from agents.config.sections import EngineConfig
from agents.models.memory import Slots
from agents.models.policy import Policy, PolicyError
from agents.models.temperature import tempered
from agents.models.voice import Voice
from agents.rollout.engines.answer import Answer
from agents.rollout.engines.base import Completion, EngineStats, Request, Weights
from agents.rollout.engines.branches import Branches, first_that_fit, fitting, lay_out
from agents.rollout.engines.slots import shared


@dataclass(frozen=True, slots=True)
class Ratio:
    """What q is the log-ratio of: both at one temperature, and among the allowed tokens where answers are constrained."""

    better: Voice
    base: Voice
    temperature: float = 1.0
    score: Literal["likelihood", "q"] = "likelihood"
    """What an answer is kept by."""


@dataclass(slots=True)
class Beam:
    """An answer, or its beginning."""

    answer: Answer
    score: float = 0.0
    """Sum over the tokens."""
    logprobs: list[float] = field(default_factory=list)
    """Of each token under the policy that acts."""
    reason: str = ""
    """Why it has ended; "" if it has not."""

    @property
    def rank(self) -> tuple[float, float]:
        """Best last: by score, then by the policy's likelihood."""
        return self.score, sum(self.logprobs)

    def extended(self, token: int, score: float, logprob: float) -> Beam:
        """With one more token, and those that follow it without a choice, which add nothing."""
        made = Beam(self.answer.fork(), self.score + score, [*self.logprobs, logprob])
        made.reason = made.answer.take(token)
        for forced in made.answer.forced() if not made.reason else ():
            made.logprobs.append(0.0)
            if reason := made.answer.take(forced):
                made.reason = reason
                break
        return made


@dataclass(slots=True)
class Search:
    """One request."""

    request: Request
    place: int
    stats: EngineStats
    live: list[Beam]
    done: list[Beam] = field(default_factory=list)

    def step(self, beams: int, choices: Sequence[Sequence[tuple[int, float, float]]]) -> None:
        """Extend each live beam by its choices (token, score, log-probability), and keep the best. An answer that has ended
        keeps its place among the `beams`: with one, the search is greedy."""
        extended = [beam.extended(*choice) for beam, each in zip(self.live, choices, strict=True) for choice in each]
        kept = sorted(extended, key=lambda beam: beam.rank, reverse=True)[: beams - len(self.done)]
        self.done += [beam for beam in kept if beam.reason]
        self.live = [beam for beam in kept if not beam.reason]

    def found(self, version: int) -> Completion:
        best = max(self.done, key=lambda beam: beam.rank)
        ids = best.answer.ids[len(self.request.written) :]
        return Completion(ids, best.logprobs, best.reason, [version] * len(ids))


class Reader:
    """Holds what a voice has read of each session."""

    def __init__(self, voice: Voice, capacity: int) -> None:
        if voice.policy.kept != "slots":
            raise PolicyError(
                f"evaluation.beams cannot be used with this model ({voice.policy.causal.config.model_type}), which is read "
                "through its own cache, where beams cannot stand beside each other; allowed with it: null"
            )
        self._voice, self._memory = voice, Slots(capacity)
        self._read: dict[int, list[int]] = {}

    def forget(self, place: int) -> None:
        self._read.pop(place, None)

    @torch.inference_mode()
    def logits(self, searches: Sequence[Search]) -> tuple[list[Tensor], int]:
        """Of each search [live beams, V], what comes next, in float32; and how many tokens were read for it."""
        found: list[list[Tensor]] = [[] for _ in searches]
        tokens = 0
        at = {search.place: number for number, search in enumerate(searches)}
        # What is behind the last token of a branch is asked for: it stands for whatever that is.
        left = {search.place: [[*beam.answer.ids, 0] for beam in search.live] for search in searches}
        while left:
            rows = fitting(
                [self._row(searches[at[place]], beams) for place, beams in left.items()], self._voice.policy.vocabulary
            )
            asked = lay_out(rows)
            with self._voice.within():
                logits = self._memory.read_grid(self._voice.policy, asked.grid)
            last = iter(asked.predictor[torch.tensor([len(one) for row in rows for one in row.candidates]).cumsum(0) - 1])
            for row in rows:
                self._read[row.slot] = list(searches[at[row.slot]].request.ids)
                tokens += row.width
                found[at[row.slot]].append(logits[torch.stack([next(last) for _ in row.candidates]).to(logits.device)])
                left[row.slot] = left[row.slot][len(row.candidates) :]
            left = {place: beams for place, beams in left.items() if beams}
        return [torch.cat(parts) for parts in found], tokens

    def _row(self, search: Search, beams: Sequence[Sequence[int]]) -> Branches:
        """Beams behind what is new of a prompt; its last token is always read: what comes after it is asked for."""
        ids = list(search.request.ids)
        kept = min(shared(self._read.get(search.place, []), ids), len(ids) - 1)
        return Branches(search.place, kept, ids[kept:], first_that_fit(beams))


class BeamEngine:
    """Engine that gives the best of the answers that it has searched, always the same for the same prompt and weights."""

    takes_adapter = False

    def __init__(self, acting: Policy, ratio: Ratio, beams: int, capacity: int = 128) -> None:
        """capacity: sessions that may be alive at once. Raises PolicyError for a model that is read through its own cache."""
        self.stats = EngineStats()
        self.weights_version = 0
        self._beams, self.ratio = beams, ratio
        self._limit = acting.max_length
        self._tokenizer = acting.tokenizer
        voices = [Voice(acting), ratio.better, ratio.base if ratio.score == "q" else ratio.better]
        own = [voice for number, voice in enumerate(voices) if voice not in voices[:number]]
        readers = [Reader(voice, capacity) for voice in own]
        self._readers = readers
        self._roles = [own.index(voice) for voice in voices]
        self._places: dict[str, int] = {}
        self._free = list(range(capacity))
        self._apart: dict[str, EngineStats] = {}
        self._searches: list[tuple[Search, asyncio.Future[Completion]]] = []
        self._driver: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, policy: Policy, config: EngineConfig) -> BeamEngine:
        """Raises ValueError: a policy alone does not say which answers are better."""
        raise ValueError("a search needs a model of which answers are better: make a BeamEngine with a Ratio")

    # -- engine interface -----------------------------------------------------------------------------------------------

    async def generate(self, request: Request) -> Completion:
        if len(request.ids) + len(request.written) >= self._limit:
            return Completion([], [], "context", [])
        first = Beam(Answer.of(request, self._limit, self._tokenizer))
        if request.session not in self._places:
            self._places[request.session] = self._free.pop()
        stats = self._apart.get(request.session, self.stats)
        search = Search(request, self._places[request.session], stats, [first])
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Completion] = loop.create_future()
        self._searches.append((search, future))
        if self._driver is None or self._driver.done():
            self._driver = loop.create_task(self._drive())
        return await future

    async def score(self, session: str, ids: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[list[float]]:
        raise ValueError("a search scores no candidates; sample with another engine for engine.constrained=scored")

    async def hold(self, session: str, ids: Sequence[int]) -> None:
        """Every session reads its own prompt."""

    def count_apart(self, session: str, stats: EngineStats) -> None:
        self._apart[session] = stats

    async def rest(self) -> None:
        """Nothing is held that others could use."""

    def release(self, session: str) -> None:
        self._apart.pop(session, None)
        place = self._places.pop(session, None)
        if place is not None:
            self._searches = [(search, future) for search, future in self._searches if search.place != place]
            for reader in self._readers:
                reader.forget(place)
            self._free.append(place)

    async def update_weights(self, weights: Weights) -> None:
        raise ValueError("what a search goes by belongs to the weights it was made with; make another BeamEngine for new ones")

    def close(self) -> None:
        self._searches.clear()
        self._places.clear()
        self._readers.clear()

    # -- the search -----------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        while self._searches:
            # Episodes that got their answer take their environment step and come back with the next request.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            under_way = list(self._searches)
            try:
                self._advance([search for search, _ in under_way])
            except Exception as error:
                self._searches = []
                for _, future in under_way:
                    if not future.done():
                        future.set_exception(error)
                return
            for search, future in under_way:
                if not search.live and not future.done():
                    done = search.found(self.weights_version)
                    search.stats.sampled_tokens += len(done.ids)
                    future.set_result(done)
            self._searches = [(search, future) for search, future in self._searches if not future.done()]

    def _advance(self, searches: Sequence[Search]) -> None:
        """One choice more for every beam of every search."""
        if not searches:
            return
        read = [reader.logits(searches) for reader in self._readers]
        self.stats.forwards += len(read)
        acting, better, base = (read[role][0] for role in self._roles)
        for search, *logits in zip(searches, acting, better, base, strict=True):
            if not search.live[0].logprobs:
                search.stats.prefill_tokens += len(search.request.ids)
            choices = [self._choices(search, number, *(one[number] for one in logits)) for number in range(len(search.live))]
            search.step(self._beams, choices)
        self.stats.computed_tokens += sum(tokens for _, tokens in read)

    def _choices(
        self, search: Search, number: int, acting: Tensor, better: Tensor, base: Tensor
    ) -> list[tuple[int, float, float]]:
        """What may follow a live beam, of logits [V]: tokens, their scores, and their log-probabilities under the policy."""
        node, among = search.live[number].answer.node, self.ratio.temperature
        if node is not None:
            tokens = torch.tensor(sorted(node), device=acting.device)
            acting, better, base = acting[tokens], better.to(acting.device)[tokens], base.to(acting.device)[tokens]
            chosen = torch.arange(len(tokens), device=acting.device)
        else:
            tokens = chosen = acting.topk(min(self._beams, len(acting))).indices
        score = torch.log_softmax(better / among, -1)
        if self.ratio.score == "q":
            score = score - torch.log_softmax(base / among, -1)
        logp = torch.log_softmax(tempered(acting[None], search.request.sampling.temperature or 1.0)[0], -1)
        return list(zip(tokens.tolist(), score[chosen].tolist(), logp[chosen].tolist(), strict=True))
