"""vLLM in a process of its own that dies, hangs or gets no weights: the run goes on or ends with a word."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from agents.config.sections import EngineConfig, LoraConfig, VLLMConfig
from agents.models.lora import with_new_adapter
from agents.models.policy import Policy, PolicyError
from agents.rollout.engines import vllm_process
from agents.rollout.engines.base import Completion, EngineFailedError, Request, Sampling, Weights
from agents.rollout.engines.vllm import VLLMEngine
from agents.rollout.engines.vllm_process import Child
from agents.training.weights import WeightStore
from tests import injections
from tests.agents.models.models_for_tests import full_logprobs, small_policy

LONG = 700
"""Tokens of responses that are still under way when something happens to them, however slow this process is."""
PROMPTS = [[1, *(5 + (17 * i + 7 * j) % 60 for j in range(6 + 9 * i))] for i in range(8)]


def policy_now(seed: int, max_length: int = 256) -> Policy:
    return small_policy(seed, hidden=128, max_length=max_length)


@pytest.fixture(scope="module")
def engine(opened: Callable[..., VLLMEngine]) -> VLLMEngine:
    return opened(policy_now(0, max_length=1024), max_batch=16, timeout_s=10.0)


async def responses(engine: VLLMEngine, tokens: int = 150) -> list[Completion]:
    return await asyncio.gather(
        *(engine.generate(Request(str(i), ids, Sampling(max_tokens=tokens), i)) for i, ids in enumerate(PROMPTS))
    )


def assert_logprobs(policy: Policy, answers: list[Completion], tokens: int = 150) -> None:
    for ids, done in zip(PROMPTS, answers, strict=True):
        assert len(done.ids) == len(done.versions) == tokens
        expected = full_logprobs(policy, [*ids, *done.ids])[len(ids) :]
        torch.testing.assert_close(torch.tensor(done.logprobs), expected, atol=1e-4, rtol=0)


def child(engine: VLLMEngine) -> Child:
    assert isinstance(engine._runner, Child)
    return engine._runner


def exists(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int, seconds: float = 15.0) -> bool:
    until = time.monotonic() + seconds
    while exists(pid) and time.monotonic() < until:
        time.sleep(0.1)
    return not exists(pid)


@pytest.mark.fault("vLLM's process dies or hangs", lost="the time to start it again")
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_responses_under_way_go_on_in_another_process_with_the_newest_weights(engine: VLLMEngine, fault: int) -> None:
    policy = policy_now(1, max_length=1024)

    async def main() -> list[Completion]:
        engine.stats.take()
        await engine.update_weights(Weights(engine.weights_version + 1, policy.named_tensors()))
        under_way = asyncio.ensure_future(responses(engine, LONG))
        while engine.stats.forwards < 40:
            await asyncio.sleep(0)
        os.kill(child(engine).pid, fault)
        return await under_way

    broken = child(engine).pid
    assert_logprobs(policy, asyncio.run(main()), LONG)
    assert engine.stats.take()["restarts"] == 1
    assert gone(broken)


@pytest.mark.fault("vLLM's process dies or hangs", lost="the time to start it again")
def test_a_process_that_dies_while_nothing_is_asked_is_started_anew(engine: VLLMEngine) -> None:
    os.kill(child(engine).pid, signal.SIGKILL)
    assert gone(child(engine).pid)
    assert_logprobs(policy_now(1), asyncio.run(responses(engine, 5)), 5)


def test_time_in_which_the_learner_is_at_work_is_not_silence(engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update in the event loop's own thread, or a step of an environment there, may take longer than vLLM's time-out."""
    monkeypatch.setattr(engine, "_settings", replace(engine._settings, timeout_s=1.0))
    policy = policy_now(9)

    async def main() -> None:
        await responses(engine, 5)
        time.sleep(2)
        await engine.update_weights(Weights(engine.weights_version + 1, policy.named_tensors()))
        under_way = asyncio.ensure_future(responses(engine, 5))
        await asyncio.sleep(0.01)
        time.sleep(2)
        assert_logprobs(policy, await under_way, 5)
        assert_logprobs(policy, await responses(engine, 5), 5)

    engine.stats.take()
    asyncio.run(main())
    assert engine.stats.take()["restarts"] == 0


@pytest.mark.fault("vLLM dies while it takes weights", lost="the time to start it again")
def test_a_process_that_dies_while_it_takes_weights_gets_them_anew(engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, load = policy_now(2), Child.load

    def dies(self: Child, *arguments: Any) -> None:
        monkeypatch.setattr(Child, "load", load)
        os.kill(self.pid, signal.SIGKILL)
        load(self, *arguments)

    monkeypatch.setattr(Child, "load", dies)
    asyncio.run(engine.update_weights(Weights(50, policy.named_tensors())))
    answers = asyncio.run(responses(engine, 5))
    assert_logprobs(policy, answers, 5)
    assert {version for done in answers for version in done.versions} == {50}


def test_an_adapter_is_sent_merged_after_each_of_20_updates(engine: VLLMEngine) -> None:
    base = policy_now(3)
    policy = Policy(with_new_adapter(base.model, LoraConfig(targets="all-linear"), "", seed=0), base.tokenizer)
    torch.manual_seed(3)
    store = WeightStore(policy, [engine])
    for version in range(100, 120):
        with torch.no_grad():
            for _, p in policy.trainable():
                p.add_(0.02 * torch.randn_like(p))
        asyncio.run(store.publish(version))
        assert_logprobs(policy, asyncio.run(responses(engine, 20)), 20)


@pytest.mark.fault("vLLM's cache of keys is full", lost="time")
def test_a_full_kv_cache_makes_requests_wait(opened: Callable[..., VLLMEngine]) -> None:
    policy = policy_now(4)
    token = 2 * 2 * 2 * 32 * 4  # keys and values of two layers, two heads
    engine = opened(policy, max_batch=16, kv_gib=400 * token / 2**30)
    assert_logprobs(policy, asyncio.run(responses(engine)))  # 8 x up to 219 tokens
    assert engine.stats.take()["restarts"] == 0
    engine.close()
    with pytest.raises(PolicyError, match=r"kv_gib is .* one episode of model.max_length=256 tokens alone needs"):
        opened(policy, kv_gib=250 * token / 2**30)


def test_a_model_that_vllm_does_not_know_is_refused() -> None:
    policy = policy_now(0)
    policy.causal.__class__ = type("OwnForCausalLM", (type(policy.causal),), {})
    with pytest.raises(PolicyError, match=r"vLLM has no OwnForCausalLM; use engine=hf"):
        VLLMEngine.open(policy, EngineConfig(name="vllm", vllm=VLLMConfig(where="here")))


@contextmanager
def ending(engine: VLLMEngine, match: str) -> Iterator[None]:
    """Within, the engine ends for a reason that `match` finds; afterwards it is as if nothing had been."""
    with pytest.raises(EngineFailedError, match=match):
        yield
    with pytest.raises(EngineFailedError, match=match):
        asyncio.run(responses(engine))
    engine._failure, engine._in_a_row = None, 0


@pytest.mark.fault("weights do not reach vLLM", lost="what came after the newest checkpoint")
@pytest.mark.parametrize("how", ["stale", "missing", "version"])
def test_weights_that_did_not_arrive_end_the_run(engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """One of the tensors is the older one, or is not sent, or the version is another."""
    older, newer = policy_now(5), policy_now(6)
    number, load, name = engine.weights_version + 1, Child.load, "model.layers.1.mlp.down_proj.weight"

    def wrong(self: Child, version: int, tensors: dict[str, torch.Tensor], aliases: dict[str, str]) -> None:
        if how == "stale":
            tensors = {**tensors, name: older.named_tensors()[name]}
        if how == "missing":
            tensors = {one: tensor for one, tensor in tensors.items() if one != name}
        load(self, version - (how == "version"), tensors, aliases)

    async def main() -> None:
        await engine.update_weights(Weights(number, older.named_tensors()))
        under_way = asyncio.ensure_future(responses(engine, LONG))
        await asyncio.sleep(0.05)
        monkeypatch.setattr(Child, "load", wrong)
        try:
            await engine.update_weights(Weights(number + 1, newer.named_tensors()))
        finally:
            with pytest.raises(EngineFailedError, match="did not arrive"):
                await under_way

    reason = {
        "stale": f"of 21 tensors 0 are missing and 1 are others .the first: {name}",
        "missing": f"of 21 tensors 1 are missing and 0 are others .the first: {name}",
        "version": f"it has version {number}",
    }
    with ending(engine, f"version {number + 1} of the weights did not arrive: {reason[how]}"):
        asyncio.run(main())


@pytest.mark.fault("vLLM computes with other weights", lost="nothing: no run begins")
def test_what_vllm_does_not_take_in_shows_at_the_start(engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that vLLM got and does not compute with: one layer norm is another than the policy's."""
    policy = policy_now(7)
    changed = {name: tensor.clone() for name, tensor in policy.named_tensors().items()}
    changed["model.norm.weight"] *= 1.5
    monkeypatch.setattr(engine._policy, "take", lambda tensors: Policy.take(engine._policy, changed))
    engine._newest, engine._loaded = Weights(1, policy.named_tensors()), None
    with ending(engine, "log-probabilities differ from the model's own by"):
        asyncio.run(responses(engine))


@pytest.mark.fault("weights do not reach vLLM", lost="what came after the newest checkpoint")
def test_weights_that_are_never_taken_end_the_run_in_time(engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_settings", replace(engine._settings, timeout_s=2.0, restarts=0))
    monkeypatch.setattr(Child, "load", lambda *arguments: None)
    with ending(engine, r"no sign of life for 2 s .*started anew 0 times without an answer"):
        asyncio.run(engine.update_weights(Weights(1, policy_now(8).named_tensors())))


@pytest.mark.fault("vLLM cannot be started again", lost="what came after the newest checkpoint")
def test_a_process_that_cannot_be_started_anew_ends_the_run(engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_settings", replace(engine._settings, restarts=1))
    monkeypatch.setattr(engine, "_spec", replace(engine._spec, dtype="nothing"))
    child(engine).close()
    with ending(engine, r"exit code 1\): .*started anew 1 times without an answer"):
        asyncio.run(responses(engine))
    assert gone(child(engine).pid)


SCRIPT = """
import asyncio, time
from tests.vllm.test_faults import PROMPTS, child, policy_now
from agents.config.sections import EngineConfig
from agents.rollout.engines.base import Request, Sampling
from agents.rollout.engines.vllm import VLLMEngine

async def main():
    print(child(engine).pid, engine._spec.folder, *(folder.name for folder in child(engine)._folders), flush=True)
    while True:
        await engine.generate(Request("x", PROMPTS[0], Sampling(max_tokens=200), 0))

engine = VLLMEngine.open(policy_now(0), EngineConfig(name="vllm", max_batch=16))
try:
    asyncio.run(main())
finally:
    engine.close()
"""


@pytest.mark.fault("a run with vLLM is killed", lost="what came after the newest checkpoint")
@pytest.mark.parametrize("ends", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_no_process_and_no_folder_stays_behind(ends: int) -> None:
    command = [sys.executable, "-c", SCRIPT]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=injections.hear_signals)
    assert parent.stdout is not None
    number, *folders = parent.stdout.readline().split()
    pid = int(number)
    assert exists(pid)
    assert len(folders) >= 2
    assert all(map(os.path.isdir, folders))
    time.sleep(1)
    parent.send_signal(ends)
    parent.wait(30)
    assert gone(pid)
    assert not any(map(os.path.exists, folders))


def test_the_file_of_weights_is_gone_once_they_are_taken(tmp_path: Path) -> None:
    parcel = vllm_process.Parcel({"x": torch.ones(3)}, [tmp_path])
    assert parcel.path.exists()
    assert [(name, tensor.tolist()) for name, tensor in vllm_process.unpacked(parcel.path, {"y": "x"})] == [
        ("x", [1.0] * 3),
        ("y", [1.0] * 3),
    ]
    parcel.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.fault("a full disk where weights are handed over")
def test_weights_go_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder is too small from the start, in one another process takes the room first."""
    small, taken, roomy = (tmp_path / name for name in ("small", "taken", "roomy"))
    for folder in (small, taken, roomy):
        folder.mkdir()
    really = safetensors.torch.save_file

    def save_file(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.parent == taken:
            path.write_bytes(b"a part")
            raise safetensors.SafetensorError("No space left on device")
        really(tensors, path)

    monkeypatch.setattr(safetensors.torch, "save_file", save_file)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0) if Path(path) == small else usage)
    parcel = vllm_process.Parcel({"x": torch.ones(3)}, [small, taken, roomy])
    assert parcel.path.parent == roomy
    assert not list(taken.iterdir())
    with pytest.raises(OSError, match=r"GiB of weights on their way to vLLM have no room in"):
        vllm_process.Parcel({"x": torch.ones(3)}, [small, taken])
