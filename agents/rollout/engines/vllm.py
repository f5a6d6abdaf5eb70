"""Sampling with vLLM, in this process or in one of its own: continuous batching, prefixes kept by what they say.

This side holds every response under way. A process that dies or hangs is started anew, gets the newest weights, and each
response goes on from the tokens that it had. A token is a function of its seed and place only up to rounding: the order in
which vLLM adds depends on what else is in its batch.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch

from agents.config.sections import EngineConfig
from agents.models import architecture
from agents.models.policy import Policy, PolicyError
from agents.rollout.engines.answer import Answer
from agents.rollout.engines.base import Completion, EngineError, EngineFailedError, EngineStats, Request, Sampling, Weights
from agents.rollout.engines.vllm_core import BLOCK, Job, Loaded, Progress, Spec, checksum, wrong_arrival
from agents.rollout.engines.vllm_here import Here
from agents.rollout.engines.vllm_process import Child, Ended

log = logging.getLogger("stepcredit.vllm")

MOST_WANTED = 128
"""Tokens whose log-probabilities vLLM gives at one place."""
START_S = 900.0
"""For vLLM to be ready to take weights; it may compile a large model first."""
PROBED = 8
"""Places, and tokens at each, at which new weights are compared with the policy's own."""
CPU_KV_BYTES = 4 << 30
"""Most that a processor's memory gives to keys and values where nothing else is said."""


class _BrokenError(Exception):
    """This vLLM is of no more use, and why; another one may be."""


@dataclass(slots=True)
class _Asked:
    """A job under way, and what there is of its response."""

    job: Job
    future: asyncio.Future[str]
    """Why the response ended."""
    stats: EngineStats
    """Where its tokens are counted."""
    counts: bool = True
    """Whether what it reads is counted as read: of several that begin alike only one does."""
    probes: bool = False
    """Whether it ends with the vLLM that it was asked of."""
    began: list[int] = field(default_factory=list)
    """What there was of the response when it was asked for."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)


class VLLMEngine:
    """Engine over vLLM. Holds the newest weights by reference, and all responses under way."""

    takes_adapter = False

    def __init__(self, policy: Policy, config: EngineConfig) -> None:
        self.stats = EngineStats()
        self.weights_version = 0
        self._settings = config.vllm
        self._policy = policy.twin()  # shares the weights until it is given others
        self._aliases = policy.aliases()
        self._newest = Weights(0, policy.named_tensors())
        self._loaded: Weights | None = None
        """What vLLM samples with; None: nothing yet."""
        self._folder = tempfile.TemporaryDirectory(prefix="stepcredit-vllm-")
        self._spec = _spec(policy, config, Path(self._folder.name))
        self._numbers = count()
        self._live: dict[int, _Asked] = {}
        self._apart: dict[str, EngineStats] = {}
        self._arriving: asyncio.Future[Loaded] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._readying: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._broken = ""
        """Why the vLLM that there is cannot be used."""
        self._in_a_row = 0
        """Times that vLLM was started anew without an answer in between."""
        self._failure: Exception | None = None
        """What ended this engine."""
        self._runner = self._started()

    @classmethod
    def open(cls, policy: Policy, config: EngineConfig) -> VLLMEngine:
        """An engine that begins with the weights of `policy`, and whose vLLM has started. Raises PolicyError for a model or a
        machine that it cannot run with."""
        engine = cls(policy, config)
        log.warning("engine=vllm: equal seeds give equal samples up to rounding alone, which depends on what is in the batch")
        return engine

    # -- engine interface -----------------------------------------------------------------------------------------------

    async def generate(self, request: Request) -> Completion:
        if len(request.ids) + len(request.written) >= self._spec.max_length:
            return Completion([], [], "context", [])
        Answer.of(request, self._spec.max_length, self._spec.tokenizer)
        await self._ready()
        job = Job(next(self._numbers), list(request.ids), request.sampling, request.seed, request.trie, list(request.written))
        stats = self._stats(request.session)
        asked = self._submit(job, stats)
        reason = await self._answered([asked])
        stats.sampled_tokens += len(asked.ids)
        return Completion(asked.ids, asked.logprobs, reason, asked.versions)

    async def score(self, session: str, ids: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[list[float]]:
        if not ids or not candidates:
            raise ValueError("nothing to score: give at least one id to read and one candidate")
        if len(ids) + max(map(len, candidates)) > self._spec.max_length:
            return []
        places = _places(candidates)
        while True:
            await self._ready()
            stats = self._stats(session)
            asked = [(path, self._want([*ids, *path], part, not path, stats=stats)) for path, part in places]
            await self._answered([one for _, one in asked])
            if len({version for _, one in asked for version in one.versions}) <= 1:
                break  # all candidates of a choice are scored by the same weights
        found = {(*path, token): logprob for path, one in asked for token, logprob in zip(one.ids, one.logprobs, strict=True)}
        return [[found[tuple(candidate[: i + 1])] for i in range(len(candidate))] for candidate in candidates]

    async def rest(self) -> None:
        if self._settings.sleep and not self._live and not self._broken:
            self._runner.rest()

    async def hold(self, session: str, ids: Sequence[int]) -> None:
        """vLLM shares prefixes by itself, of requests that come together too."""

    def count_apart(self, session: str, stats: EngineStats) -> None:
        self._apart[session] = stats

    def release(self, session: str) -> None:
        """Nothing is held for a session: vLLM keeps prefixes by what they say, and forgets the oldest."""
        self._apart.pop(session, None)

    async def update_weights(self, weights: Weights) -> None:
        self._newest = weights
        await self._ready()

    def close(self) -> None:
        self._failure = self._failure or EngineFailedError("it is closed")
        self._runner.close()
        self._folder.cleanup()

    # -- what is asked --------------------------------------------------------------------------------------------------

    def _stats(self, session: str) -> EngineStats:
        return self._apart.get(session, self.stats)

    def _want(
        self, ids: list[int], wanted: Sequence[int], counts: bool, probes: bool = False, stats: EngineStats | None = None
    ) -> _Asked:
        job = Job(next(self._numbers), ids, Sampling(), 0, wanted=wanted)
        return self._submit(job, stats or self.stats, counts, probes)

    def _submit(self, job: Job, stats: EngineStats, counts: bool = True, probes: bool = False) -> _Asked:
        asked = _Asked(job, asyncio.get_running_loop().create_future(), stats, counts, probes, began=job.written)
        self._live[job.number] = asked
        self._runner.submit(job)
        self._watch()
        return asked

    async def _answered(self, several: Sequence[_Asked]) -> str:
        """When all are; returns why the last one ended."""
        reason = ""
        try:
            for asked in several:
                reason = await asked.future
        finally:
            left = [asked.job.number for asked in several if self._live.pop(asked.job.number, None)]
            if left and not self._broken:
                self._runner.drop(left)
            for asked in several:  # what became of the others nobody asks
                if not asked.future.cancel() and not asked.future.cancelled():
                    asked.future.exception()
        return reason

    def _hear(self, runner: Child, message: Any) -> None:
        """From a thread of `runner`."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits for an answer
                self._loop.call_soon_threadsafe(self._take, runner, message)

    def _take(self, runner: Child | Here, message: Any) -> None:
        """What vLLM says."""
        if runner is not self._runner:
            return
        if isinstance(message, Ended):
            self._break(message.why, message.error)
        elif isinstance(message, Loaded):
            if self._arriving is not None and not self._arriving.done():
                self._arriving.set_result(message)
        else:
            version, several = message
            self.stats.forwards += 1
            for progress in several:
                if progress.number in self._live:
                    self._add(version, progress)

    def _add(self, version: int, progress: Progress) -> None:
        asked = self._live[progress.number]
        asked.ids += progress.ids
        asked.logprobs += progress.logprobs
        asked.versions += [version] * len(progress.ids)
        asked.stats.computed_tokens += progress.computed
        if asked.counts:
            asked.stats.prefill_tokens += progress.read - progress.reused
            asked.stats.reused_tokens += progress.reused
        if not (progress.reason or progress.refused):
            return
        del self._live[progress.number]
        if not asked.probes:
            self._in_a_row = 0
        if not asked.future.done():
            if progress.refused:
                asked.future.set_exception(EngineError(progress.refused))
            else:
                asked.future.set_result(progress.reason)

    # -- vLLM, its weights and its faults -------------------------------------------------------------------------------

    def _started(self) -> Child | Here:
        """vLLM, ready to be given weights."""
        try:
            if self._settings.where == "here":
                return Here(self._spec, self._take)
            child = Child(self._spec, self._settings.gpu, self._hear)
            if why := child.wait(START_S):
                child.close()
                raise _BrokenError(why)
            return child
        except Exception as error:  # whatever vLLM has against a model or a machine
            self._folder.cleanup()
            said = str(error) if isinstance(error, _BrokenError) else f"{type(error).__name__}: {error}"
            raise PolicyError(f"engine=vllm: vLLM did not start with this model: {said}") from error

    async def _ready(self) -> None:
        """When vLLM runs with the newest weights. Raises what ended this engine."""
        self._loop = asyncio.get_running_loop()
        if not self._runner.alive:
            self._break("its process has ended")
        while self._failure is None and (self._broken or self._loaded is not self._newest):
            await asyncio.shield(self._begin())
        if self._failure is not None:
            raise self._failure

    def _begin(self) -> asyncio.Task[None]:
        """The task that makes vLLM ready, begun where there is none."""
        if self._readying is None or self._readying.done():
            self._readying = asyncio.get_running_loop().create_task(self._make_ready())
        return self._readying

    async def _make_ready(self) -> None:
        try:
            while self._broken or self._loaded is not self._newest:
                try:
                    if self._broken:
                        await self._restart()
                    await self._load()
                except _BrokenError as error:
                    self._break(str(error))
        except Exception as error:
            self._fail(error)

    async def _restart(self) -> None:
        """vLLM in another process, still without weights."""
        s = self._settings
        self._in_a_row += 1
        if self._in_a_row > s.restarts:
            raise EngineFailedError(
                f"{self._broken}; it was started anew {s.restarts} times without an answer in between (engine.vllm.restarts)"
            )
        self.stats.restarts += 1
        log.warning("engine=vllm: %s; it is started anew (%d of %d in a row)", self._broken, self._in_a_row, s.restarts)
        self._runner.close()
        self._broken, self._loaded = "", None
        self._runner = child = Child(self._spec, s.gpu, self._hear)
        if why := await asyncio.to_thread(child.wait, START_S):
            raise _BrokenError(why)

    async def _load(self) -> None:
        """Give vLLM the newest weights, and to one that has just started what is under way.

        Raises EngineFailedError for weights that did not arrive, _BrokenError.
        """
        weights, anew = self._newest, self._loaded is None
        sums = {name: checksum(tensor) for name, tensor in weights.tensors.items()}
        sums |= {name: sums[of] for name, of in self._aliases.items()}
        self._arriving = asyncio.get_running_loop().create_future()
        self._policy.take(weights.tensors)
        self._runner.load(weights.version, weights.tensors, self._aliases)
        self._watch()
        try:
            found = await self._arriving
        finally:
            self._arriving = None
        if wrong := wrong_arrival(found, weights.version, sums):
            raise EngineFailedError(f"version {weights.version} of the weights did not arrive: {wrong}. Training ends here")
        if anew:
            await self._compare(weights)
            for asked in self._live.values():
                asked.job.written = [*asked.began, *asked.ids]
                self._runner.submit(asked.job)
        self._loaded, self.weights_version = weights, weights.version

    async def _compare(self, weights: Weights) -> None:
        """Whether vLLM computes with these weights what the policy does. Raises EngineFailedError.

        Before it had none that mean anything: whatever it does not take in (a tied output head, say) shows here.
        """
        vocabulary = self._policy.vocabulary
        ids = [(7 + 31 * i) % vocabulary for i in range(min(4 * PROBED, self._spec.max_length - 1))]
        wanted = [(3 + 101 * i) % vocabulary for i in range(PROBED)]
        places = torch.arange(len(ids) - PROBED, len(ids), device=self._policy.device)
        with torch.inference_mode():
            row = torch.tensor([ids], device=self._policy.device)
            expected = self._policy.forward(row, None, None, places).log_softmax(-1)[:, wanted]
        asked = [self._want(ids[: place + 1], wanted, counts=False, probes=True) for place in places.tolist()]
        await self._answered(asked)
        far = float((torch.tensor([one.logprobs for one in asked]) - expected.cpu()).abs().mean())
        if not far < (0.01 if self._policy.dtype == torch.float32 else 0.3):
            raise EngineFailedError(
                f"with version {weights.version} of the weights its log-probabilities differ from the model's own by {far:.2g} "
                "on average: vLLM does not take in all weights of this model, or computes it otherwise. Use engine=hf"
            )

    def _break(self, why: str, error: Exception | None = None) -> None:
        """The vLLM that there is is of no more use."""
        if self._broken or self._failure:
            return
        if self._settings.where == "here":  # it is part of this process
            self._fail(error or EngineFailedError(why))
            return
        self._broken = why
        broken = _BrokenError(why)
        probes = [asked.future for asked in self._live.values() if asked.probes]
        for future in (*probes, self._arriving):
            if future is not None and not future.done():
                future.set_exception(broken)
        if self._live:
            self._begin()

    def _fail(self, error: Exception) -> None:
        """This engine ends with `error`, and everything that is under way."""
        self._failure = error
        for future in [*(asked.future for asked in self._live.values()), self._arriving]:
            if future is not None and not future.done():
                future.set_exception(error)

    def _watch(self) -> None:
        """See to it that vLLM answers in time."""
        if isinstance(self._runner, Child) and (self._watching is None or self._watching.done()):
            self._watching = asyncio.get_running_loop().create_task(self._watch_over(self._runner))

    async def _watch_over(self, child: Child) -> None:
        """Counts what it slept, not what a clock says: while this loop was at work (an update, an environment) vLLM may have
        answered and have nothing more to do."""
        limit, silent, heard_at = self._settings.timeout_s, 0.0, child.heard_at
        pause = min(1.0, limit / 4)
        while child is self._runner and not self._broken and (self._live or self._arriving):
            await asyncio.sleep(pause)
            silent = silent + pause if child.heard_at == heard_at else 0.0
            heard_at = child.heard_at
            if silent > limit and child is self._runner:
                self._break(f"it gave no sign of life for {limit:g} s (engine.vllm.timeout_s)")


def _places(candidates: Sequence[Sequence[int]]) -> list[tuple[tuple[int, ...], list[int]]]:
    """Each beginning of a candidate, and the tokens that follow it in any of them: as many as can be asked for at once."""
    following: dict[tuple[int, ...], dict[int, None]] = {}
    for candidate in candidates:
        for i, token in enumerate(candidate):
            following.setdefault(tuple(candidate[:i]), {})[token] = None
    return [
        (path, list(tokens)[i : i + MOST_WANTED])
        for path, tokens in following.items()
        for i in range(0, len(tokens), MOST_WANTED)
    ]


def _spec(policy: Policy, config: EngineConfig, folder: Path) -> Spec:
    """What vLLM is started with; its model's config.json is written to `folder`."""
    settings, on_gpu = config.vllm, policy.device.type == "cuda"
    model = copy.deepcopy(policy.causal.config)
    model.architectures = [type(policy.causal).__name__]
    model.save_pretrained(folder)
    shape = architecture.text(model)
    wide = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
    token = 2 * shape.num_hidden_layers * heads * wide * policy.dtype.itemsize
    least = token * (-(-policy.max_length // BLOCK) + 1) * BLOCK  # a block more than one episode has
    kv_bytes = None if on_gpu else max(least, min(CPU_KV_BYTES, least * config.max_batch))
    if settings.kv_gib is not None:
        kv_bytes = int(settings.kv_gib * 2**30)
        if kv_bytes < least:
            raise PolicyError(
                f"engine.vllm.kv_gib is {settings.kv_gib:g}; one episode of model.max_length={policy.max_length} tokens alone "
                f"needs {least / 2**30:.3g}"
            )
    return Spec(
        folder=str(folder),
        architecture=model.architectures[0],
        tokenizer=policy.tokenizer,
        dtype=str(policy.dtype).removeprefix("torch."),
        on_gpu=on_gpu,
        max_length=policy.max_length,
        max_batch=config.max_batch,
        kv_bytes=kv_bytes,
        gpu_memory=settings.gpu_memory,
        eager=not on_gpu if settings.eager is None else settings.eager,
        sleeps=settings.sleep,
    )
