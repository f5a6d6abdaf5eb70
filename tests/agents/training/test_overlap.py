"""Rollouts that overlap updates, in real runs: what is learned from, how old it is, and how such a run ends and goes on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agents import train as training
from agents.config.loading import load
from agents.models.policy import Policy
from agents.rollout.engines.base import Request, Weights
from agents.rollout.engines.hf import HFEngine
from agents.rollout.sampler import OnEpisode, Sampler
from agents.runs.failures import Interrupted
from agents.runs.folder import RunFolder
from agents.runs.metrics import read_metrics
from agents.training.actor import Actor
from agents.training.begin import begun
from agents.training.experience import Experience
from agents.training.learner import Learner
from agents.training.passes import logprobs, passes, per_token
from agents.training.target import Target
from agents.training.weights import WeightStore
from envs.trajectory import Trajectory
from envs.trajectory_file import read
from tests.agents.test_training import SMALL

FEW = [
    *SMALL,
    "warmstart.steps=40",
    "optim.lr=3e-3",
    "optim.warmup=0",
    "iterations=4",
    "engine.max_batch=12",
    "evaluation.before=false",
    "evaluation.after=false",
    "evaluation.every=0",
]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that takes longer than an update, as real ones do: weights come while episodes are played."""
    really = HFEngine._advance

    def advance(self: HFEngine, rows: Sequence[int]) -> None:
        time.sleep(0.003)
        really(self, rows)

    monkeypatch.setattr(HFEngine, "_advance", advance)


def run(folder: Path, name: str, *more: str, stop: threading.Event | None = None) -> Path:
    training.train(load([*FEW, f"out={folder}", f"run={name}", *more]), stop)
    return folder / name


def rows(run: Path) -> list[dict[str, Any]]:
    return [row for row in read_metrics(run / "metrics.jsonl") if row["iteration"]]


def episodes(run: Path, iteration: int) -> list[Trajectory]:
    return list(read(RunFolder(run).trajectories(iteration)))


def holds(run: Path, overlap: int, iterations: int = 4) -> set[int]:
    """That every iteration learned from as many groups as are configured, none of them twice or too old. Returns all ages."""
    assert [row["iteration"] for row in rows(run)] == list(range(1, iterations + 1))
    ages, seen = set(), set()
    for row in rows(run):
        found = episodes(run, row["iteration"])
        groups = {one.group_id for one in found}
        assert (len(groups), len(found)) == (3, 12)
        assert seen.isdisjoint(groups)
        seen |= groups
        mine = {row["iteration"] - 1 - version for one in found for step in one.steps for version in step.token_versions}
        assert max(mine) == row["update/stale_max"] <= overlap
        assert min(mine) >= 0
        ages |= mine
    return ages


@pytest.mark.parametrize("weights", ["in_flight", "between"])
def test_every_token_is_told_by_the_version_that_sampled_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: None, weights: str
) -> None:
    """Each log-probability is what the weights of its version say, to rounding: no update changed them under the engine."""
    published: dict[int, dict[str, Tensor]] = {}
    learned: list[Experience] = []
    publish, update = WeightStore.publish, Learner.update

    async def publishing(self: WeightStore, version: int) -> None:
        published[version] = {name: tensor.clone() for name, tensor in self._policy.named_tensors().items()}
        await publish(self, version)

    def updating(self: Learner, experience: Experience, *more: Any) -> dict[str, float]:
        learned.append(experience)
        return update(self, experience, *more)

    monkeypatch.setattr(WeightStore, "publish", publishing)
    monkeypatch.setattr(Learner, "update", updating)
    settings = ["rollout.overlap=2", f"rollout.weights={weights}", "engine.constrained=none", "engine.max_tokens=8"]
    trainer = begun(load([*FEW, f"out={tmp_path}", "run=it", *settings]), RunFolder(tmp_path / "it"))
    trainer.run()
    assert holds(tmp_path / "it", 2) >= {0, 1}
    played = [one for iteration in range(1, 5) for one in episodes(tmp_path / "it", iteration)]
    assert any(step.versions for one in played for step in one.steps) == (weights == "in_flight"), "within an answer"
    assert any(len({step.weights_version for step in one.steps}) > 1 for one in played), "within an episode"
    policy: Policy = trainer.policy
    differences = []
    for experience in learned:
        for version in experience.weights_version.unique().tolist():
            policy.take(published[version])
            batches = passes(experience, experience.rows(), policy, 4096)
            said = per_token(experience, batches, lambda batch: logprobs(policy, batch, 1.0)[0], otherwise=0.0).float()
            at = experience.weights_version == version
            torch.testing.assert_close(said[at], experience.rollout_logprobs[at], atol=1e-4, rtol=1e-4)
            differences.append((said - experience.rollout_logprobs)[~at].abs())
    assert float(torch.cat(differences).max()) > 1e-2, "versions differ, so that the comparison tells something"


@pytest.mark.parametrize("late", ["wait", "drop"])
def test_correction_weights_are_1_but_for_what_older_weights_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: None, late: str
) -> None:
    targets: list[Target] = []
    really = Actor._target

    def target(self: Actor, *arguments: Any) -> Target:
        targets.append(really(self, *arguments))
        return targets[-1]

    monkeypatch.setattr(Actor, "_target", target)
    path = run(tmp_path, "it", "rollout.overlap=1", f"rollout.late={late}", "optim.epochs=3")
    holds(path, 1)
    assert not all(bool(one.current.all()) for one in targets)
    moved = []
    for one in targets:
        assert one.correction is not None
        torch.testing.assert_close(one.correction[one.current], torch.ones(int(one.current.sum())), atol=1e-3, rtol=0)
        moved.append((one.correction[~one.current] - 1).abs())
    assert float(torch.cat(moved).max()) > 0.01


def test_an_evaluation_is_of_one_version_while_episodes_of_training_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: None
) -> None:
    found: list[tuple[set[int], int]] = []
    play = Sampler.play

    async def playing(
        self: Sampler, planned: Sequence[Any], temperature: float, on_episode: OnEpisode | None = None
    ) -> list[Trajectory]:
        alive = len(self.player.engine._slots)  # type: ignore[attr-defined]
        played = await play(self, planned, temperature, on_episode)
        found.append(({v for one in played for step in one.steps for v in step.token_versions}, alive))
        return played

    monkeypatch.setattr(Sampler, "play", playing)
    run(tmp_path, "it", "rollout.overlap=1", "evaluation.every=1", "evaluation.temperature=[1]", "iterations=3")
    assert [versions for versions, _ in found] == [{1}, {2}, {3}]
    assert any(alive for _, alive in found[:2])


@pytest.mark.fault("Ctrl-C while rollouts overlap updates", lost="the episodes under way, which are played anew")
def test_asked_to_stop_it_saves_and_goes_on_with_the_groups_that_were_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: None, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = threading.Event()
    update = Learner.update

    def updating(self: Learner, experience: Experience, iteration: int, spent: float = 0.0) -> dict[str, float]:
        if iteration == 2:
            stop.set()
        return update(self, experience, iteration, spent)

    before = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", updating)
        with pytest.raises(Interrupted, match="stopped and saved after iteration 2"):
            run(tmp_path, "it", "rollout.overlap=1", stop=stop)
    assert threading.active_count() <= before
    assert len(rows(tmp_path / "it")) == 2
    training.train(load([f"resume={tmp_path / 'it'}"]))
    assert "3 groups that were being played are played anew" in capsys.readouterr().out
    holds(tmp_path / "it", 1)
    numbers = {one.group_id for iteration in range(1, 5) for one in episodes(tmp_path / "it", iteration)}
    assert numbers == {f"train-{iteration}-{place}" for iteration in range(1, 5) for place in range(3)}


@pytest.mark.fault("an update fails", lost="the iterations since the newest checkpoint")
@pytest.mark.parametrize("before_overlap", [0, 1])
def test_a_run_that_failed_in_an_update_leaves_nothing_behind_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: None, before_overlap: int, capfd: pytest.CaptureFixture[str]
) -> None:
    update = Learner.update

    def failing(self: Learner, experience: Experience, iteration: int, spent: float = 0.0) -> dict[str, float]:
        if iteration == 3:
            raise ZeroDivisionError("an update")
        return update(self, experience, iteration, spent)

    before = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", failing)
        assert training.main([*FEW, f"out={tmp_path}", "run=it", f"rollout.overlap={before_overlap}"]) == 1
    told = capfd.readouterr().err
    assert "ZeroDivisionError: an update" in told
    assert "never retrieved" not in told
    assert threading.active_count() <= before
    assert training.main([f"resume={tmp_path / 'it'}", "rollout.overlap=1"]) == 0
    holds(tmp_path / "it", 1)


class Failing(HFEngine):
    """Fails at its 60th request, or does not take the second version of the weights."""

    requests = 0

    async def generate(self, request: Request) -> Any:
        self.requests += 1
        if self.requests == 60:
            raise ZeroDivisionError("an engine")
        return await super().generate(request)


class Deaf(HFEngine):
    async def update_weights(self, weights: Weights) -> None:
        if weights.version < 2:
            await super().update_weights(weights)


@pytest.mark.fault("an engine fails", lost="what came after the newest checkpoint")
@pytest.mark.parametrize("weights", ["in_flight", "between"])
@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Failing, "ZeroDivisionError: an engine"),
        (Deaf, "error: version 2 of the weights did not reach the engine: it says that it samples from version 1"),
    ],
)
def test_an_engine_that_fails_ends_the_run_with_a_word(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slow: None,
    engine: type[HFEngine],
    words: str,
    weights: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    @classmethod  # type: ignore[misc]
    def opened(cls: type[HFEngine], policy: Policy, config: Any) -> HFEngine:
        return engine(policy.twin(), max_batch=config.max_batch)

    monkeypatch.setattr(HFEngine, "open", opened)
    before = threading.active_count()
    assert training.main([*FEW, f"out={tmp_path}", "run=it", "rollout.overlap=1", f"rollout.weights={weights}"]) == 1
    told = capfd.readouterr().err
    assert words in told
    assert "never retrieved" not in told
    assert threading.active_count() <= before
    assert RunFolder(tmp_path / "it").get_status()["status"] == "failed"


@pytest.mark.fault("Ctrl-C twice", lost="what came after the newest checkpoint")
@pytest.mark.parametrize("where", ["update", "engine"])
def test_ctrl_c_twice_ends_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: None, where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    update, advance = Learner.update, HFEngine._advance
    entered = threading.Event()

    def endless(self: Learner, experience: Experience, iteration: int, spent: float = 0.0) -> dict[str, float]:
        if iteration < 2:
            return update(self, experience, iteration, spent)
        entered.set()
        if where == "update":
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
        while True:
            time.sleep(0.001)

    def interrupting(self: HFEngine, rows: Sequence[int]) -> None:
        if where == "engine" and entered.is_set():
            signal.raise_signal(signal.SIGINT)
        advance(self, rows)

    monkeypatch.setattr(Learner, "update", endless)
    monkeypatch.setattr(HFEngine, "_advance", interrupting)
    before = threading.active_count()
    assert training.main([*FEW, f"out={tmp_path}", "run=it", "rollout.overlap=1"]) == 130
    told = capfd.readouterr().err
    assert "stopped at once" in told
    assert "Traceback" not in told
    assert "never retrieved" not in told
    assert threading.active_count() <= before
    assert RunFolder(tmp_path / "it").get_status()["status"] == "interrupted"
    monkeypatch.undo()
    assert training.main([f"resume={tmp_path / 'it'}"]) == 0
    holds(tmp_path / "it", 1)


@pytest.mark.parametrize(
    "settings",
    [
        ["algo=grpo", "rollout.dynamic_sampling.rounds=1"],
        ["algo=remax"],
        ["algo=ppo", "critic.hidden=[16]", "env.pool.mode=threads", "env.pool.workers=2"],
        ["shaping=implicit_prm"],
        ["engine.constrained=scored", "algo=twosome", "critic.hidden=[16]"],
    ],
    ids=lambda settings: settings[0].partition("=")[2],
)
def test_what_learns_beside_the_policy_and_other_ways_of_sampling_overlap_too(
    tmp_path: Path, slow: None, settings: list[str]
) -> None:
    path = run(tmp_path, "it", "rollout.overlap=1", *settings, "iterations=3")
    for row in rows(path):
        found = episodes(path, row["iteration"])
        learned = [one for one in found if any(step.credit is not None for step in one.steps)]
        assert len({one.group_id for one in learned}) == 3
        assert row["update/stale_max"] <= 1
    assert sum(row["update/stale_mean"] for row in rows(path)) > 0


def test_a_budget_of_steps_ends_it_as_any_run(tmp_path: Path, slow: None) -> None:
    path = run(tmp_path, "it", "rollout.overlap=1", "step_budget=150", "evaluation.after=true")
    found = rows(path)
    assert found[-1]["env/steps"] >= 150 > (found[-2]["env/steps"] if len(found) > 1 else 0)
    assert "eval/success@1" in found[-1]
