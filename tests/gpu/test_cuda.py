"""What only a GPU can show; skipped where there is none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from agents.config import loading
from agents.models.policy import Policy
from agents.rollout.engines.base import Request, Sampling
from agents.rollout.engines.hf import HFEngine
from agents.runs.metrics import read_metrics
from agents.train import main, train
from envs import registry
from tests.agents.models.families import FAMILIES, folder, training, updates
from tests.agents.models.models_for_tests import full_logprobs, small_policy
from tests.agents.test_training import SMALL
from tests.envs import toys

registry.register("hallway", "tests/Hallway-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def test_the_engine_on_a_gpu_samples_with_the_cpus_probabilities() -> None:
    here = small_policy()
    there = Policy(small_policy().model, here.tokenizer, "cuda")

    async def main() -> list[tuple[list[int], list[int], list[float]]]:
        engine = HFEngine(there)
        found = []
        for seed in range(8):
            ids = [1, 5, 6, 7 + seed]
            done = await engine.generate(Request(str(seed), ids, Sampling(max_tokens=6), seed=seed))
            found.append((ids, done.ids, done.logprobs))
        return found

    for ids, response, logprobs in asyncio.run(main()):
        expected = full_logprobs(here, [*ids, *response])[len(ids) :]
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=2e-3, rtol=1e-3)


def test_decoding_steps_are_replayed_from_graphs_with_the_models_numbers_after_updates_too() -> None:
    from agents.config.sections import EngineConfig
    from agents.models.lean_slots import LeanSlots
    from agents.training.weights import WeightStore
    from tests.agents.models.test_lean import assert_samples_from, shift

    here, there = small_policy(), Policy(small_policy().model, small_policy().tokenizer, "cuda")
    engine = HFEngine.open(there, EngineConfig())
    store = WeightStore(there, [engine])
    for version in (1, 2):
        assert isinstance(engine._memory, LeanSlots)
        assert_samples_from(engine, here, 2e-3)
        assert engine._memory._recorded is not None
        assert engine._memory._recorded.works
        assert engine._memory._recorded._steps
        shift(there)
        with torch.no_grad():
            for mine, theirs in zip(here.model.parameters(), there.model.parameters(), strict=True):
                mine.copy_(theirs)
        asyncio.run(store.publish(version))
    assert_samples_from(engine, here, 2e-3)


def test_an_update_on_a_gpu_has_the_cpus_gradient() -> None:
    from agents.config.sections import LossConfig, OptimConfig
    from agents.training.actor import Actor
    from tests.agents.training.test_actor import credit, experience, played

    here = small_policy()
    trajectories = played(here)
    norms = []
    for policy in (here, Policy(small_policy().model, here.tokenizer, "cuda")):
        actor = Actor(policy, OptimConfig(lr=0.0, minibatch_episodes=64, grad_clip=1e9), LossConfig(), 1, 0)
        norms.append(actor.update(experience(trajectories, credit(trajectories)), 0)["grad_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=1e-2)


@pytest.mark.parametrize("method", ["poad", "ppo", "oprl", "twosome", "otb", "gspo", "empg", "hcapo"])
def test_what_methods_ask_for_runs_there_too(method: str, tmp_path: Path) -> None:
    """Critic, reward model, scoring of whole actions, probabilities of all tokens: none leaves a tensor behind on the CPU."""
    settings = [*SMALL, f"algo={method}", "device=cuda", "iterations=2", "warmstart.steps=20", f"out={tmp_path}", "run=run"]
    train(loading.load([*settings, "evaluation.before=false", "evaluation.after=false", "evaluation.every=0"]))
    last = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert last["iteration"] == 2
    assert last["update/mismatch_mean"] < 0.05


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_is_trained_there_on_what_was_sampled(kind: str, dtype: str, tmp_path: Path) -> None:
    """Slots and own caches alike, in the format that GPUs train in too."""
    model = folder(tmp_path / "model", kind)
    assert main([*training(model, tmp_path), "device=cuda", f"model.dtype={dtype}", "run=it"]) == 0
    (metrics,) = updates(tmp_path / "it")
    print(f"{kind} {dtype}: mismatch mean {metrics['update/mismatch_mean']:.1e} max {metrics['update/mismatch_max']:.1e}")
    assert metrics["update/mismatch_mean"] < (1e-4 if dtype == "float32" else 0.05)
    assert metrics["update/grad_norm"] > 0
