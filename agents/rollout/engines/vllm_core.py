"""vLLM itself, in whichever process it runs: takes jobs, makes its steps, loads weights. It knows no event loop and no episode.

A response ends by this project's own rules (agents.rollout.engines.answer), right after the token that ends it: vLLM is told to
drop the request. vLLM starts with dummy weights; those of the policy come the one way that all later ones come.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.models.answers import Decoder
from agents.rollout.constraint import Trie
from agents.rollout.engines.answer import Answer
from agents.rollout.engines.base import Sampling

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this very process
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the one whose sampler the logits processor is written for
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the learner uses the same cores
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""What vLLM reads from the environment as it is imported; a user's own values win."""
CPU_TOKENS = 2048
"""Tokens that a step on a processor computes at most, but for one longer prompt."""
BLOCK = 32
"""Tokens of a block of the KV cache, the unit in which prefixes are kept; the smallest that vLLM's CPU build takes."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What vLLM is started with: plain data, which goes to another process."""

    folder: str
    """Holds the model's config.json."""
    architecture: str
    """The model's class."""
    tokenizer: Decoder
    dtype: str
    on_gpu: bool
    max_length: int
    """Most tokens that the model can read."""
    max_batch: int
    kv_bytes: int | None
    """Size of the KV cache; None: what `gpu_memory` leaves."""
    gpu_memory: float
    eager: bool
    sleeps: bool


@dataclass(slots=True)
class Job:
    """A response to be sampled, or (`wanted`) the log-probabilities of some tokens at one place."""

    number: int
    ids: list[int]
    """What is to be read before the response."""
    sampling: Sampling
    seed: int
    trie: Trie | None = None
    written: list[int] = field(default_factory=list)
    """What there is of the response already."""
    wanted: Sequence[int] = ()
    """At temperature 1, free of any trie."""


@dataclass(slots=True)
class Progress:
    """What a step brought for a job."""

    number: int
    ids: list[int]
    """New tokens of the response; or those that were wanted."""
    logprobs: list[float]
    reason: str = ""
    """Why the response has ended, as in `Completion.stop_reason`; "": it goes on."""
    read: int = 0
    """Tokens of the prompt, said once."""
    reused: int = 0
    """Of these: found in the cache of prefixes."""
    computed: int = 0
    """Tokens that went through the model for it."""
    refused: str = ""
    """Why there will be no response."""


@dataclass(slots=True)
class _Live:
    """A job under way."""

    job: Job
    answer: Answer
    counted: bool = False
    """Whether it was said how much of the prompt was read."""


class Loaded(NamedTuple):
    """What arrived of a version of the weights."""

    version: int
    sums: dict[str, int]
    """`checksum` of each tensor that vLLM took in, by name."""


class Core:
    """Holds vLLM's engine, its weights and the responses under way. `spec`'s model has no weights until `load`."""

    def __init__(self, spec: Spec) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from vllm import EngineArgs, ModelRegistry
        from vllm.v1.engine.llm_engine import LLMEngine

        if spec.architecture not in ModelRegistry.get_supported_archs():
            raise ValueError(f"vLLM has no {spec.architecture}; use engine=hf for this model")
        self._spec = spec
        self._live: dict[int, _Live] = {}
        self._fresh: list[Progress] = []
        self._asleep = False
        self.version = -1
        arguments = EngineArgs(
            model=spec.folder,
            load_format="dummy",
            skip_tokenizer_init=True,
            generation_config="vllm",
            dtype=spec.dtype,
            max_model_len=spec.max_length,
            max_num_seqs=spec.max_batch,
            enable_prefix_caching=True,
            block_size=BLOCK,
            kv_cache_memory_bytes=spec.kv_bytes,
            gpu_memory_utilization=spec.gpu_memory,
            enforce_eager=spec.eager,
            enable_sleep_mode=spec.sleeps and spec.on_gpu,
            # The CPU build cannot take back what a seed gave for a part of a prompt: there each prompt is read at once.
            enable_chunked_prefill=None if spec.on_gpu else False,
            max_num_batched_tokens=None if spec.on_gpu else max(CPU_TOKENS, spec.max_length, spec.max_batch),
            async_scheduling=False,  # what a response ends with is known before the next step
            logprobs_mode="processed_logprobs",
            logits_processors=["agents.rollout.engines.vllm_choices:Choices"],
            disable_log_stats=True,
            seed=0,
        )
        set_num_threads = torch.set_num_threads
        try:
            with torch.random.fork_rng(), self._quick():
                self._engine = LLMEngine.from_engine_args(arguments)
        finally:
            torch.set_num_threads = set_num_threads  # which vLLM's CPU build switches off for the whole process

    @property
    def busy(self) -> bool:
        """Whether there is anything to step for."""
        return bool(self._live or self._fresh)

    def submit(self, job: Job) -> None:
        """Begin with a job, or go on with it."""
        from vllm.exceptions import VLLMValidationError

        self._wake()
        limit = self._spec.max_length
        answer = Answer(job.sampling, job.trie, len(job.ids), limit, self._spec.tokenizer)
        for token in job.written:
            answer.take(token)
        if not job.wanted and self._force(job, answer):
            return
        self._live[job.number] = _Live(job, answer)
        try:
            self._add(job, answer)
        except VLLMValidationError as error:
            del self._live[job.number]
            self._fresh.append(Progress(job.number, [], [], refused=str(error)))

    def _add(self, job: Job, answer: Answer) -> None:
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        from agents.rollout.engines.vllm_choices import CHOICES

        common: dict[str, Any] = {
            "detokenize": False,
            "ignore_eos": True,
            "skip_clone": True,
            "output_kind": RequestOutputKind.DELTA,
        }
        if job.wanted:
            params = SamplingParams(temperature=1.0, max_tokens=1, logprob_token_ids=list(job.wanted), **common)
        else:
            params = SamplingParams(
                temperature=job.sampling.temperature,
                top_p=job.sampling.top_p,
                max_tokens=answer.longest(),
                logprobs=0,
                seed=(job.seed + len(answer.ids) * 0x9E3779B97F4A7C15) % (1 << 63),
                extra_args=None if answer.node is None else {CHOICES: answer.node},
                **common,
            )
        self._engine.add_request(str(job.number), tokens_input([*job.ids, *answer.ids]), params)

    def drop(self, numbers: Iterable[int]) -> None:
        """Forget these jobs."""
        gone = [number for number in numbers if self._live.pop(number, None)]
        self._engine.abort_request([str(number) for number in gone])

    def step(self) -> list[Progress]:
        """One pass of vLLM over its batch, and what it brought."""
        found, self._fresh = self._fresh, []
        with self._quick():
            outputs = self._engine.step() if self._live else []
        ended: list[int] = []
        for output in outputs:
            number = int(output.request_id)
            if number not in self._live:
                continue
            progress = self._progress(number, output)
            if progress.reason:
                ended.append(number)
            elif output.finished:
                raise RuntimeError(f"vLLM ended a response ({output.outputs[0].finish_reason}) that was to go on")
            found.append(progress)
        self.drop(ended)
        return found

    def _progress(self, number: int, output: Any) -> Progress:
        live = self._live[number]
        job, answer = live.job, live.answer
        [new] = output.outputs
        progress = Progress(number, [], [])
        if not live.counted:
            progress.read, progress.reused, live.counted = len(output.prompt_token_ids), output.num_cached_tokens or 0, True
        progress.computed = progress.read - progress.reused or len(new.token_ids)
        if job.wanted:
            [at_place] = new.logprobs
            progress.ids, progress.reason = list(job.wanted), "stop"
            progress.logprobs = [at_place[token].logprob for token in job.wanted]
            return progress
        for token, at_place in zip(new.token_ids, new.logprobs, strict=True):
            progress.ids.append(token)
            progress.logprobs.append(at_place[token].logprob)
            progress.reason = answer.take(token)
            if progress.reason:
                return progress
        # What follows without a choice up to the end need not be asked for. In the middle the mask forces it.
        forced = answer.forced()
        if forced and _leads_to_end(answer, forced):
            self._take(progress, answer, forced)
        return progress

    def _force(self, job: Job, answer: Answer) -> bool:
        """Write what a response begins with for want of a choice; returns whether that is all of it."""
        progress = Progress(job.number, [], [])
        self._take(progress, answer, answer.forced())
        if progress.ids:
            self._fresh.append(progress)
        return bool(progress.reason)

    def _take(self, progress: Progress, answer: Answer, forced: Sequence[int]) -> None:
        for token in forced:
            progress.ids.append(token)
            progress.logprobs.append(0.0)
            progress.reason = answer.take(token)
            if progress.reason:
                return

    def load(self, version: int, named: Iterable[tuple[str, Tensor]]) -> Loaded:
        """Sample with these weights from the next step on. Requests under way go on, and are read again by them."""
        self._wake()  # before, not after: vLLM wakes with the weights that it fell asleep with
        sums: dict[str, int] = {}
        with self._quick():
            self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": _counted(named, sums)})
            self._engine.reset_prefix_cache(reset_running_requests=True)
        self.version = version
        return Loaded(version, sums)

    def rest(self) -> None:
        """Give the memory of weights and keys back until something is asked."""
        if self._spec.sleeps and not self._asleep and not self._live:
            self._engine.sleep(1)
            self._asleep = True

    def _wake(self) -> None:
        if self._asleep:
            self._engine.wake_up()
            self._asleep = False

    def close(self) -> None:
        self._live.clear()
        self._engine.engine_core.shutdown()

    def _quick(self) -> Any:
        """Where vLLM is to run as it stands, a few of its functions would still be compiled, which takes 20 seconds."""
        return torch.compiler.set_stance("force_eager") if self._spec.eager else nullcontext()


def _leads_to_end(answer: Answer, forced: Sequence[int]) -> bool:
    node = answer.node
    for token in forced:
        assert node is not None
        node = node[token]
    return not node


def _counted(named: Iterable[tuple[str, Tensor]], sums: dict[str, int]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in named:
        sums[name] = checksum(tensor)
        yield name, tensor


def checksum(tensor: Tensor) -> int:
    """Sum of a tensor's bits as whole numbers: equal on every device and for every order."""
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return int(tensor.detach().contiguous().view(whole).sum(dtype=torch.int64))


def wrong_arrival(found: Loaded, version: int, sums: Mapping[str, int]) -> str:
    """What is wrong with how a version of the weights arrived; "" if it did."""
    if found.version != version:
        return f"it has version {found.version}"
    missing = [name for name in sums if name not in found.sums]
    changed = [name for name, total in sums.items() if found.sums.get(name, total) != total]
    if missing or changed:
        first = (missing + changed)[0]
        return f"of {len(sums)} tensors {len(missing)} are missing and {len(changed)} are others (the first: {first})"
    return ""
