"""Sampling with transformers in this process: continuous batching over all live episodes, each with its KV cache kept.

What is new in a prompt is prefilled, what was computed in earlier turns is kept; a finished episode's slot is free at once.
Prefills wait a little so that they run together, but never more than `patience` decoding steps: a long answer of one episode
does not hold the others back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
from agents.rollout.engines.slots import Held, Holding, Scoring, Slot, shared

_Asked = Request | Scoring | Holding


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
        self._slots: list[Slot] = []
        self._index: dict[str, int] = {}
        self._waiting: list[tuple[_Asked, asyncio.Future[Any]]] = []
        self._held: dict[str, Held] = {}
        self._apart: dict[str, EngineStats] = {}
        self._memory = memory_of(policy, max_batch, lean)
        self._driver: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        """Somebody has asked, or gone: what waits for a slot may get one."""

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
        found: list[list[float]] = await self._ask(Scoring(session, list(ids), candidates))
        return found

    async def hold(self, session: str, ids: Sequence[int]) -> None:
        """All but the last one, which every session reads itself: it needs what comes after it."""
        if 1 < len(ids) < self.policy.max_length:
            await self._ask(Holding(session, list(ids[:-1])))

    def count_apart(self, session: str, stats: EngineStats) -> None:
        self._apart[session] = stats

    async def _ask(self, job: _Asked) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((job, future))
        if self._driver is None or self._driver.done():
            self._news = asyncio.Event()  # of this loop
            self._driver = loop.create_task(self._drive())
            self._driver.add_done_callback(self._driver_ended)
        self._news.set()
        try:
            return await future
        finally:
            self._news.set()

    def release(self, session: str) -> None:
        self._held.pop(session, None)
        self._apart.pop(session, None)
        self._vacate(session)
        self._news.set()

    def _vacate(self, session: str) -> None:
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
        self._held.clear()
        for place, slot in enumerate(self._slots):
            self._memory.forget(place)
            slot.pending, slot.computed = [*slot.computed, *slot.pending], []
            if slot.scoring:  # all candidates of a choice are scored by the same weights
                slot.scoring.found.clear()

    def close(self) -> None:
        self._slots.clear()
        self._index.clear()
        self._held.clear()
        self._memory.clear()

    # -- the batch ------------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        while self._waiting or any(slot.request or slot.scoring for slot in self._slots):
            self._admit()
            self._hold([i for i, slot in enumerate(self._slots) if slot.holding])
            self._score([i for i, slot in enumerate(self._slots) if slot.scoring])
            active = [(i, slot) for i, slot in enumerate(self._slots) if slot.request]
            fresh = [i for i, slot in active if not slot.logprobs]
            going = [i for i, slot in active if slot.logprobs]
            if fresh and (len(fresh) >= len(going) or max(self._slots[i].waited for i in fresh) >= self._patience):
                self._advance(fresh)
            elif going:
                for i in fresh:
                    self._slots[i].waited += 1
                self._advance(going)
            elif self._waiting:  # for a slot, and all are kept by episodes whose environments are at work
                self._news.clear()
                await self._news.wait()
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
            ids = [*request.ids, *request.written] if isinstance(request, Request) else list(request.ids)
            if request.session not in self._index:
                if len(self._slots) >= self._max_batch:
                    remaining.append((request, future))
                    continue
                self._sit(request.session, ids)
            slot = self._slots[self._index[request.session]]
            if slot.request or slot.scoring or slot.holding:
                future.set_exception(RuntimeError(f"session {request.session} already has a request under way"))
                continue
            if isinstance(request, Request):
                if len(ids) >= self.policy.max_length:
                    future.set_result(Completion([], [], "context", []))
                    continue
                try:
                    slot.answer = Answer.of(request, self.policy.max_length, self.policy.tokenizer)
                except ValueError as error:
                    future.set_exception(error)
                    continue
                slot.request, slot.waited = request, 0
                slot.logprobs, slot.versions = [], []
            elif isinstance(request, Scoring):
                slot.scoring = request
            else:
                slot.holding = request
            # The last id is always read: what comes after it is asked for. Of what is only held nothing is asked.
            wanted = min(shared(slot.computed, ids), len(ids) - (slot.holding is None))
            kept = self._memory.keep(self._index[request.session], len(slot.computed), wanted)
            slot.stats.reused_tokens += kept if slot.holding is None else 0
            slot.computed, slot.pending = ids[:kept], ids[kept:]
            slot.future = future
        self._waiting = remaining

    def _sit(self, session: str, ids: Sequence[int]) -> None:
        """Give a session a slot. It begins with what is held of its `ids`."""
        place = len(self._slots)
        slot = Slot(session, self._apart.get(session, self.stats))
        self._index[session] = place
        self._slots.append(slot)
        held = max(self._held.values(), key=lambda one: shared(one.ids, ids), default=None)
        if held is not None and (wanted := shared(held.ids, ids)):
            slot.computed = held.ids[: self._memory.load(place, held.saved, len(held.ids), wanted)]

    @torch.inference_mode()
    def _hold(self, rows: Sequence[int]) -> None:
        """Read what is to be held in these slots, keep a copy of it, and give the slots back."""
        if not rows:
            return
        slots = [self._slots[i] for i in rows]
        parts = [Part(i, len(slot.computed), slot.pending) for i, slot in zip(rows, slots) if slot.pending]
        if parts:
            self._memory.read(self.policy, parts)
            self.stats.forwards += 1
        for i, slot in zip(rows, slots):
            slot.stats.prefill_tokens += len(slot.pending)
            slot.stats.computed_tokens += len(slot.pending)
            ids = [*slot.computed, *slot.pending]
            self._held[slot.session] = Held(ids, self._memory.save(i, len(ids)))
        for slot in slots:
            self._vacate(slot.session)
            assert slot.future is not None
            if not slot.future.done():
                slot.future.set_result(None)

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
            slot.stats.prefill_tokens += 0 if job.found else len(row.pending)
            slot.stats.computed_tokens += row.width
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
        for slot, (request, answer), token, logprob in zip(slots, under_way, tokens, logprobs, strict=True):
            slot.stats.prefill_tokens += 0 if slot.logprobs else len(slot.pending)
            slot.stats.computed_tokens += len(slot.pending)
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
                    sampled = answer.ids[len(request.written) :]
                    slot.future.set_result(Completion(sampled, slot.logprobs, reason, slot.versions))
                slot.request = slot.future = slot.answer = None

    def _append(self, slot: Slot, answer: Answer, token: int, logprob: float) -> str:
        """Take a token into the response; returns why the response ends with it, if it does."""
        slot.pending.append(token)
        slot.logprobs.append(logprob)
        slot.versions.append(self.weights_version)
        slot.stats.sampled_tokens += 1
        return answer.take(token)
