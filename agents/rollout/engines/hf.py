"""Sampling with transformers in this process: continuous batching over all live episodes, each with its KV cache kept.

What is new in a prompt is prefilled, what was computed in earlier turns is kept; a finished episode's slot is free at once.
Prefills wait a little so that they run together, but never more than `patience` decoding steps: a long answer of one episode
does not hold the others back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from agents.config.sections import EngineConfig
from agents.models.memory import OwnCaches, Part
from agents.models.policy import Policy, PolicyError
from agents.models.probe import memory_of
from agents.rollout.engines.answer import Answer
from agents.rollout.engines.base import Completion, EngineStats, Request, Weights
from agents.rollout.engines.branches import Branches, first_that_fit, fitting, lay_out
from agents.rollout.engines.draw import draw


@dataclass(slots=True)
class _Scoring:
    """Candidates to be scored after `ids`."""

    session: str
    ids: Sequence[int]
    candidates: Sequence[Sequence[int]]
    found: list[list[float]] = field(default_factory=list)
    """Of the first candidates; the others are still to be scored."""


@dataclass(slots=True)
class _Slot:
    """A session's place in the batch."""

    session: str
    computed: list[int] = field(default_factory=list)
    """Ids whose keys and values are in the cache."""
    pending: list[int] = field(default_factory=list)
    """Ids still to be computed; the next token follows the last one."""
    request: Request | None = None
    scoring: _Scoring | None = None
    """At most one of the two is under way."""
    future: asyncio.Future[Any] | None = None
    answer: Answer | None = None
    """Of the request under way."""
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    waited: int = 0


class HFEngine:
    """Engine over a `Policy` of its own in this process. Weights on its device are taken by reference, which costs no copy."""

    takes_adapter = True

    def __init__(self, policy: Policy, max_batch: int = 128, patience: int = 8, lean: bool = True) -> None:
        """lean: read without transformers' modules where that gives the model's numbers."""
        self.policy = policy
        self.weights_version = 0
        self.stats = EngineStats()
        self._max_batch = max_batch
        self._patience = patience
        self._slots: list[_Slot] = []
        self._index: dict[str, int] = {}
        self._waiting: list[tuple[Request | _Scoring, asyncio.Future[Any]]] = []
        self._memory = memory_of(policy, max_batch, lean)
        self._driver: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, policy: Policy, config: EngineConfig) -> HFEngine:
        """An engine that begins with the weights of `policy`, and shares them until it is given others."""
        return cls(policy.twin(), max_batch=config.max_batch)

    # -- engine interface -----------------------------------------------------------------------------------------------

    async def generate(self, request: Request) -> Completion:
        done: Completion = await self._ask(request)
        return done

    async def score(self, session: str, ids: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[list[float]]:
        if not ids or not candidates:
            raise ValueError("nothing to score: give at least one id to read and one candidate")
        if isinstance(self._memory, OwnCaches):
            raise PolicyError(
                f"engine.constrained=scored cannot be used with this model ({self.policy.causal.config.model_type}), which is "
                "sampled through its own cache: allowed with it: none, admissible"
            )
        if len(ids) + max(map(len, candidates)) > self.policy.max_length:
            return []
        found: list[list[float]] = await self._ask(_Scoring(session, list(ids), candidates))
        return found

    async def _ask(self, job: Request | _Scoring) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((job, future))
        if self._driver is None or self._driver.done():
            self._driver = loop.create_task(self._drive())
            self._driver.add_done_callback(self._driver_ended)
        return await future

    def release(self, session: str) -> None:
        place = self._index.pop(session, None)
        if place is None:
            return
        last = len(self._slots) - 1
        self._memory.forget(place)
        if place != last:
            self._memory.move(last, place)
            self._slots[place] = self._slots[last]
            self._index[self._slots[place].session] = place
        self._slots.pop()

    async def rest(self) -> None:
        """What is kept for live episodes stays: they go on after the update."""

    async def update_weights(self, weights: Weights) -> None:
        self.policy.take(weights.tensors, weights.adapter)
        self._memory.renew()
        self.weights_version = weights.version
        for place, slot in enumerate(self._slots):
            self._memory.forget(place)
            slot.pending, slot.computed = [*slot.computed, *slot.pending], []
            if slot.scoring:  # all candidates of a choice are scored by the same weights
                slot.scoring.found.clear()

    def close(self) -> None:
        self._slots.clear()
        self._index.clear()
        self._memory.clear()

    # -- the batch ------------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        while self._waiting or any(slot.request or slot.scoring for slot in self._slots):
            self._admit()
            self._score([i for i, slot in enumerate(self._slots) if slot.scoring])
            active = [(i, slot.answer) for i, slot in enumerate(self._slots) if slot.request and slot.answer]
            fresh = [i for i, answer in active if not answer.ids]
            going = [i for i, answer in active if answer.ids]
            if fresh and (len(fresh) >= len(going) or max(self._slots[i].waited for i in fresh) >= self._patience):
                self._advance(fresh)
            elif going:
                for i in fresh:
                    self._slots[i].waited += 1
                self._advance(going)
            # Episodes that got their response take their environment step and come back with the next request.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def _driver_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        futures = [slot.future for slot in self._slots if slot.future] + [future for _, future in self._waiting]
        self._waiting.clear()
        self.close()
        for future in futures:
            if future and not future.done():
                if isinstance(error, Exception):
                    future.set_exception(error)
                else:  # an interruption, which has gone through the event loop and must not do so again for each of them
                    future.cancel()

    def _admit(self) -> None:
        remaining = []
        for request, future in self._waiting:
            if future.done():  # whoever asked has gone, and has released the session or will
                continue
            if request.session not in self._index:
                if len(self._slots) >= self._max_batch:
                    remaining.append((request, future))
                    continue
                self._index[request.session] = len(self._slots)
                self._slots.append(_Slot(request.session))
            slot = self._slots[self._index[request.session]]
            if slot.request or slot.scoring:
                future.set_exception(RuntimeError(f"session {request.session} already has a request under way"))
                continue
            ids = list(request.ids)
            if isinstance(request, Request) and len(ids) >= self.policy.max_length:
                future.set_result(Completion([], [], "context", []))
                continue
            wanted = min(_shared(slot.computed, ids), len(ids) - 1)
            kept = self._memory.keep(self._index[request.session], len(slot.computed), wanted)
            self.stats.reused_tokens += kept
            slot.computed, slot.pending = ids[:kept], ids[kept:]
            slot.future = future
            if isinstance(request, _Scoring):
                slot.scoring = request
                continue
            slot.request, slot.waited = request, 0
            slot.logprobs, slot.versions = [], []
            limit, tokenizer = self.policy.max_length, self.policy.tokenizer
            slot.answer = Answer(request.sampling, request.trie, len(ids), limit, tokenizer)
        self._waiting = remaining

    @torch.inference_mode()
    def _score(self, rows: list[int]) -> None:
        """All candidates of these slots, in as few passes as memory allows; rows of like width together."""
        vocabulary = self.policy.vocabulary
        while rows:
            self._score_together(fitting([self._branches(i) for i in rows], vocabulary))
            rows = [i for i in rows if self._slots[i].scoring]

    def _branches(self, place: int) -> Branches:
        slot = self._slots[place]
        assert slot.scoring is not None
        left = slot.scoring.candidates[len(slot.scoring.found) :]
        return Branches(place, len(slot.computed), slot.pending, first_that_fit(left))

    def _score_together(self, rows: Sequence[Branches]) -> None:
        """One pass."""
        assert not isinstance(self._memory, OwnCaches)
        p = lay_out(rows)
        logits = self._memory.read_grid(self.policy, p.grid)
        predictor, targets = p.predictor.to(logits.device), p.targets.to(logits.device)
        logprobs = iter((logits[predictor, targets] - logits.logsumexp(-1)[predictor]).tolist())
        self.stats.forwards += 1
        for row in rows:
            slot = self._slots[row.slot]
            job = slot.scoring
            assert job is not None
            self.stats.prefill_tokens += 0 if job.found else len(row.pending)
            self.stats.computed_tokens += row.width
            job.found += [[next(logprobs) for _ in candidate] for candidate in row.candidates]
            # The branches are forgotten: the last id of the prefix is read again where candidates are left.
            slot.computed, slot.pending = list(job.ids[:-1]), list(job.ids[-1:])
            if len(job.found) == len(job.candidates):
                slot.computed, slot.pending, slot.scoring = list(job.ids), [], None
                assert slot.future is not None
                if not slot.future.done():
                    slot.future.set_result(job.found)
                slot.future = None

    @torch.inference_mode()
    def _advance(self, rows: Sequence[int]) -> None:
        """One forward pass over the pending ids of these slots, and one sampled token each."""
        slots = [self._slots[i] for i in rows]
        logits = self._memory.read(self.policy, [Part(i, len(slot.computed), slot.pending) for i, slot in zip(rows, slots)])
        under_way = [(slot.request, slot.answer) for slot in slots if slot.request and slot.answer]
        tokens, logprobs = draw(
            logits,
            [answer.node for _, answer in under_way],
            [request.sampling for request, _ in under_way],
            [request.seed for request, _ in under_way],
            [len(answer.ids) for _, answer in under_way],
        )
        self.stats.forwards += 1
        self.stats.prefill_tokens += sum(len(slot.pending) for slot, (_, answer) in zip(slots, under_way) if not answer.ids)
        self.stats.computed_tokens += sum(len(slot.pending) for slot in slots)
        for slot, (_, answer), token, logprob in zip(slots, under_way, tokens, logprobs, strict=True):
            slot.computed.extend(slot.pending)
            slot.pending = []
            reason = self._append(slot, answer, token, logprob)
            # Where only one token is allowed there is nothing to ask the model: it is computed together with the next choice.
            for forced in answer.forced() if not reason else ():
                if reason := self._append(slot, answer, forced, 0.0):
                    break
            if reason:
                assert slot.future is not None
                if not slot.future.done():
                    slot.future.set_result(Completion(answer.ids, slot.logprobs, reason, slot.versions))
                slot.request = slot.future = slot.answer = None

    def _append(self, slot: _Slot, answer: Answer, token: int, logprob: float) -> str:
        """Take a token into the response; returns why the response ends with it, if it does."""
        slot.pending.append(token)
        slot.logprobs.append(logprob)
        slot.versions.append(self.weights_version)
        self.stats.sampled_tokens += 1
        return answer.take(token)


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common prefix."""
    n = min(len(left), len(right))
    if left[:n] == right[:n]:
        return n
    return next(i for i in range(n) if left[i] != right[i])
