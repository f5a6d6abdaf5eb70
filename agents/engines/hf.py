"""Sampling with transformers in this process: continuous batching over all live episodes, each with its KV cache kept.

What is new in a prompt is prefilled, what was computed in earlier turns is kept; a finished episode's slot is free at once.
Prefills wait a little so that they run together, but never more than `patience` decoding steps: a long answer of one episode
does not hold the others back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache

from agents.constraint import Node
from agents.engines.base import Completion, EngineStats, Request
from agents.policy import Policy


class SlotCache(Cache):
    """Keys and values of all slots, one buffer a layer; a forward pass sees the rows it works on.

    Set `rows`, `places` (flat indices of the real tokens of the pass), `slots`, `positions` and `length` before each pass.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def set_pass(self, rows: Tensor | int, places: Tensor, slots: Tensor, positions: Tensor, length: int) -> None:
        """`rows`: slots that take part, or an int n for the first n (a view, no copy); length: keys needed."""
        self._rows, self._places, self._slots, self._positions, self.length = rows, places, slots, positions, length

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object) -> tuple:
        if layer_idx == len(self._keys):
            shape = (self.capacity, key_states.shape[1], 128, key_states.shape[3])
            self._keys.append(key_states.new_zeros(shape))
            self._values.append(value_states.new_zeros(shape))
        self._grow(layer_idx)
        seen = []
        for buffers, new in ((self._keys, key_states), (self._values, value_states)):
            buffer = buffers[layer_idx]
            flat = new.transpose(1, 2).reshape(-1, new.shape[1], new.shape[3])
            if len(self._places) != flat.shape[0]:
                flat = flat[self._places]
            buffer[self._slots, :, self._positions] = flat
            # Cut to length before rows are gathered: a buffer is as long as the longest episode ever was.
            needed = buffer[:, :, : self.length]
            seen.append(needed[: self._rows] if isinstance(self._rows, int) else needed.index_select(0, self._rows))
        return seen[0], seen[1]

    def _grow(self, layer: int) -> None:
        for buffers in (self._keys, self._values):
            old = buffers[layer]
            if old.shape[2] < self.length:
                bigger = old.new_zeros((*old.shape[:2], max(self.length, 2 * old.shape[2]), old.shape[3]))
                bigger[:, :, : old.shape[2]] = old
                buffers[layer] = bigger

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    @torch.inference_mode()
    def move(self, source: int, target: int) -> None:
        """Copy a slot, so that live slots stay the first ones."""
        for buffer in (*self._keys, *self._values):
            buffer[target] = buffer[source]


@dataclass(slots=True)
class _Slot:
    """A session's place in the batch."""

    session: str
    computed: list[int] = field(default_factory=list)
    """Ids whose keys and values are in the cache."""
    pending: list[int] = field(default_factory=list)
    """Ids still to be computed; the next token follows the last one."""
    request: Request | None = None
    future: asyncio.Future[Completion] | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    node: Node | None = None
    waited: int = 0


class HFEngine:
    """Engine over a `Policy` in this process; learner and engine share the weights, so an update costs nothing."""

    def __init__(self, policy: Policy, max_batch: int = 128, patience: int = 8) -> None:
        self.policy = policy
        self.policy_version = 0
        self.stats = EngineStats()
        self._max_batch = max_batch
        self._patience = patience
        self._slots: list[_Slot] = []
        self._index: dict[str, int] = {}
        self._waiting: list[tuple[Request, asyncio.Future[Completion]]] = []
        self._cache = SlotCache(max_batch)
        self._driver: asyncio.Task[None] | None = None

    # -- engine interface -----------------------------------------------------------------------------------------------

    async def generate(self, request: Request) -> Completion:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Completion] = loop.create_future()
        self._waiting.append((request, future))
        if self._driver is None or self._driver.done():
            self._driver = loop.create_task(self._drive())
            self._driver.add_done_callback(self._driver_ended)
        return await future

    def release(self, session: str) -> None:
        place = self._index.pop(session, None)
        if place is None:
            return
        last = len(self._slots) - 1
        if place != last:
            self._cache.move(last, place)
            self._slots[place] = self._slots[last]
            self._index[self._slots[place].session] = place
        self._slots.pop()

    def update_weights(self, policy: Policy, version: int) -> None:
        self.policy, self.policy_version = policy, version
        if any(slot.request for slot in self._slots):
            raise RuntimeError("weights must not change while responses are being sampled")
        self._slots.clear()
        self._index.clear()

    def close(self) -> None:
        self._slots.clear()
        self._index.clear()
        self._cache = SlotCache(self._max_batch)

    # -- the batch ------------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        while self._waiting or any(slot.request for slot in self._slots):
            self._admit()
            active = [i for i, slot in enumerate(self._slots) if slot.request]
            fresh = [i for i in active if not self._slots[i].ids]
            going = [i for i in active if self._slots[i].ids]
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
                future.set_exception(error)

    def _admit(self) -> None:
        remaining = []
        for request, future in self._waiting:
            if request.session not in self._index:
                if len(self._slots) >= self._max_batch:
                    remaining.append((request, future))
                    continue
                self._index[request.session] = len(self._slots)
                self._slots.append(_Slot(request.session))
            slot = self._slots[self._index[request.session]]
            if slot.request is not None:
                future.set_exception(RuntimeError(f"session {request.session} already has a request under way"))
                continue
            ids = list(request.ids)
            kept = _shared(slot.computed, ids)
            kept = min(kept, len(ids) - 1)
            if len(ids) >= self.policy.max_length:
                future.set_result(Completion([], [], "context", self.policy_version))
                continue
            self.stats.reused_tokens += kept
            slot.computed, slot.pending = ids[:kept], ids[kept:]
            slot.request, slot.future, slot.waited = request, future, 0
            slot.ids, slot.logprobs = [], []
            slot.node = request.trie.root if request.trie else None
        self._waiting = remaining

    @torch.inference_mode()
    def _advance(self, rows: Sequence[int]) -> None:
        """One forward pass over the pending ids of these slots, and one sampled token each."""
        slots = [self._slots[i] for i in rows]
        device = self.policy.device
        width = max(len(slot.pending) for slot in slots)
        ids = np.zeros((len(slots), width), dtype=np.int64)
        positions = np.zeros((len(slots), width), dtype=np.int64)
        real = np.zeros((len(slots), width), dtype=bool)
        for row, slot in enumerate(slots):
            n, start = len(slot.pending), len(slot.computed)
            ids[row, :n] = slot.pending
            positions[row] = start + np.arange(width)
            real[row, :n] = True
        length = int((positions * real).max()) + 1
        positions_seen = torch.from_numpy(np.minimum(positions, length - 1))
        mask = torch.arange(length)[None, None, :] <= positions_seen[:, :, None]
        places = np.flatnonzero(real.ravel())
        whole = list(rows) == list(range(len(slots)))
        slot_of_token = np.repeat(np.asarray(rows), width)[places]
        self._cache.set_pass(
            len(slots) if whole else torch.tensor(rows, device=device),
            torch.from_numpy(places).to(device),
            torch.from_numpy(slot_of_token).to(device),
            torch.from_numpy(positions.ravel()[places]).to(device),
            length,
        )
        last = torch.tensor([row * width + len(slot.pending) - 1 for row, slot in enumerate(slots)], device=device)
        logits = self.policy.forward(
            torch.from_numpy(ids).to(device), positions_seen.to(device), mask[:, None].to(device), last, self._cache
        )
        tokens, logprobs = self._sample(logits, slots)
        self.stats.forwards += 1
        self.stats.prefill_tokens += sum(len(slot.pending) for slot in slots if not slot.ids)
        self.stats.computed_tokens += sum(len(slot.pending) for slot in slots)
        for slot, token, logprob in zip(slots, tokens, logprobs, strict=True):
            slot.computed.extend(slot.pending)
            slot.pending = []
            reason = self._append(slot, token, logprob)
            # Where only one token is allowed there is nothing to ask the model: it is computed together with the next choice.
            while not reason and slot.node is not None and len(slot.node) == 1:
                reason = self._append(slot, next(iter(slot.node)), 0.0)
            if reason:
                assert slot.future is not None
                if not slot.future.done():
                    slot.future.set_result(Completion(slot.ids, slot.logprobs, reason, self.policy_version))
                slot.request = slot.future = None

    def _sample(self, logits: Tensor, slots: Sequence[_Slot]) -> tuple[list[int], list[float]]:
        if any(slot.node is not None for slot in slots):
            allowed = torch.zeros(logits.shape, dtype=torch.bool)
            free = [row for row, slot in enumerate(slots) if slot.node is None]
            pairs = [(row, token) for row, slot in enumerate(slots) if slot.node is not None for token in slot.node]
            index = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
            allowed[torch.from_numpy(index[:, 0]), torch.from_numpy(index[:, 1])] = True
            if free:
                allowed[free] = True
            logits = logits.masked_fill(~allowed.to(logits.device), -torch.inf)
        requests = [slot.request for slot in slots]
        temperature = torch.tensor([r.sampling.temperature for r in requests if r], device=logits.device)
        greedy = temperature == 0
        logp = torch.log_softmax(logits / torch.where(greedy, 1.0, temperature)[:, None], dim=-1)
        top_p = torch.tensor([r.sampling.top_p for r in requests if r], device=logits.device)
        if bool((top_p < 1).any()):
            logp = _nucleus(logp, top_p)
        draws = _uniform(
            np.array([r.seed for r in requests if r], dtype=np.uint64), np.array([len(s.ids) for s in slots], dtype=np.uint64)
        )
        cumulative = logp.double().exp().cumsum(-1)
        threshold = torch.from_numpy(draws).to(logits.device)[:, None] * cumulative[:, -1:]
        drawn = torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp_max(logits.shape[-1] - 1)
        tokens = torch.where(greedy, logits.argmax(-1), drawn)
        # With u close to 1 the search can end on a token of probability zero: take the likeliest one instead.
        chosen = logp.gather(-1, tokens[:, None])[:, 0]
        lost = torch.isinf(chosen)
        if bool(lost.any()):
            tokens = torch.where(lost, logp.argmax(-1), tokens)
            chosen = logp.gather(-1, tokens[:, None])[:, 0]
        return tokens.tolist(), chosen.tolist()

    def _append(self, slot: _Slot, token: int, logprob: float) -> str | None:
        """Take a token into the response; returns why the response ends with it, if it does."""
        slot.pending.append(token)
        slot.ids.append(token)
        slot.logprobs.append(logprob)
        self.stats.sampled_tokens += 1
        return self._stop_reason(slot, token)

    def _stop_reason(self, slot: _Slot, token: int) -> str | None:
        request = slot.request
        assert request is not None
        if slot.node is not None:  # the trie bounds the length: max_tokens would only cut an allowed response in two
            slot.node = slot.node[token]
            if not slot.node:
                return "stop"
        elif token in request.sampling.stop_ids:
            return "stop"
        elif request.sampling.stop:
            # Only the tail can complete a stop string; decoding it anew is cheap.
            tail = self.policy.tokenizer.decode(slot.ids[-16:])
            if any(stop in tail for stop in request.sampling.stop):
                return "stop"
        if slot.node is None and len(slot.ids) >= request.sampling.max_tokens:
            return "length"
        if len(slot.computed) + len(slot.pending) >= self.policy.max_length:
            return "context"
        return None


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common prefix."""
    n = min(len(left), len(right))
    if left[:n] == right[:n]:
        return n
    return next(i for i in range(n) if left[i] != right[i])


def _nucleus(logp: Tensor, top_p: Tensor) -> Tensor:
    """Keep the smallest set of tokens whose probability reaches top_p [B], renormalised."""
    ordered, order = logp.sort(dim=-1, descending=True)
    mass_before = ordered.exp().cumsum(-1) - ordered.exp()
    keep = torch.zeros_like(logp, dtype=torch.bool).scatter(-1, order, mass_before < top_p[:, None])
    return torch.log_softmax(logp.masked_fill(~keep, -torch.inf), dim=-1)


def _uniform(seeds: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Counter-based uniforms in [0, 1): a hash (splitmix64's finaliser) of seed and counter, independent of batch and order."""
    with np.errstate(over="ignore"):
        x = seeds + (counters + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
