"""Latent rewards: the loss of their decoder, and what becomes of an episode's return."""

from __future__ import annotations

import asyncio
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.training.decoder import Decoder
from algorithms.base import Batch, Floats
from algorithms.gdpo import GDPO
from algorithms.gigpo import GiGPO
from algorithms.shaping.latent import ATTEMPTS, Latent, chosen, sampled_loss, whole_loss
from algorithms.stats import episode_returns
from envs.trajectory import Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import episode, trajectories

quick = settings(max_examples=20, deadline=None)


def decoded(shaping: Latent, seed: int = 0) -> Latent:
    shaping.model = Decoder(shaping, "latent", torch.device("cpu"), seed)
    return shaping


def shaped(shaping: Latent, batch: Batch) -> Floats:
    return asyncio.run(shaping.shape(batch))


def numerical(loss: Any, rewards: Floats) -> Floats:
    found = np.zeros(len(rewards))
    for place in range(len(rewards)):
        away = np.zeros(len(rewards))
        away[place] = 1e-4
        found[place] = (loss(rewards + away) - loss(rewards - away)) / 2e-4
    return found


@given(trajectories(faults=False), st.integers(1, 4), st.booleans())
@quick
def test_the_gradients_are_those_of_the_losses(played: list[Trajectory], count: int, unbiased: bool) -> None:
    batch = as_batch(played)
    returns, rewards = episode_returns(batch, batch.reward), np.sin(np.arange(len(batch.reward), dtype=np.float64))
    times = chosen(batch, count, np.random.default_rng(0))
    for loss in (
        lambda rewards: whole_loss(batch, rewards, returns),
        lambda rewards: sampled_loss(batch, rewards, returns, times, unbiased),
    ):
        np.testing.assert_allclose(loss(rewards)[1], numerical(lambda one: loss(one)[0], rewards), atol=1e-5)  # noqa: B023


def test_the_unbiased_loss_is_on_average_that_of_all_steps() -> None:
    batch = as_batch([episode([0, 1, 0, 2, 0]), episode([0, 0, 0, 0, 3])])
    returns, rewards = episode_returns(batch, batch.reward), np.arange(10.0) / 4
    pairs = [np.array([pair, pair]) for pair in combinations(range(5), 2)]
    biased, unbiased = (
        np.mean([sampled_loss(batch, rewards, returns, pair, one)[0] for pair in pairs]) for one in (False, True)
    )
    whole = whole_loss(batch, rewards, returns)[0]
    assert unbiased == pytest.approx(whole)
    assert biased > 1.05 * whole


@pytest.mark.parametrize("sampled", [None, 2])
def test_the_decoder_finds_the_step_that_earned_the_return(sampled: int | None) -> None:
    """A return of 1 for each first visit of state b, which the factor knows and the reward says only at the end."""
    played = []
    for number in range(8):
        one = episode([0.0] * 4, states="aabc" if number % 2 else "aaac", group=f"task {number}")
        one.steps[-1].reward = float(number % 2)
        for step in one.steps:
            step.observation = f"state {step.state_key}"
        played.append(one)
    batch = as_batch(played)
    shaping = decoded(
        Latent(factors=["seen('state b')", "time"], epochs=200, lr=2e-2, hidden=[16], sampled=sampled, unbiased=True)
    )
    rewards = shaped(shaping, batch) + batch.reward  # what the method gets in place of the environment's
    assert shaping.metrics["loss"] == pytest.approx(0.5 / 16)  # before anything was learned: R / 4, squared, of every second
    earned = np.array([step.state_key == "b" for one in played for step in one.steps])
    assert rewards[earned] == pytest.approx(1.0, abs=0.25)
    assert rewards[~earned] == pytest.approx(0.0, abs=0.25)
    shaped(shaping, batch)
    assert shaping.metrics["explained"] > 0.9


@given(trajectories())
@quick
def test_faulted_episodes_take_no_part(played: list[Trajectory]) -> None:
    sound = [one for one in played if one.error is None]
    settings: dict[str, Any] = {"hidden": [8], "epochs": 3}
    found = shaped(decoded(Latent(**settings)), as_batch(played))
    batch = as_batch(played)
    np.testing.assert_allclose(found[batch.included], shaped(decoded(Latent(**settings)), as_batch(sound)), atol=1e-6)
    assert np.isnan(found[~batch.included]).all()


def test_it_goes_on_to_the_bit_from_its_state() -> None:
    batch, other = as_batch([episode([0, 1]), episode([0, 0, 2])]), as_batch([episode([3]), episode([0, 0])])
    whole = decoded(Latent(sampled=1))
    shaped(whole, batch)
    stopped = decoded(Latent(sampled=1))
    shaped(stopped, batch)
    resumed = decoded(Latent(sampled=1), seed=0)
    resumed.model.load_state(stopped.model.state())
    resumed.load_state(stopped.state())
    assert np.array_equal(shaped(resumed, other), shaped(whole, other))


class Writes:
    """A judge that writes these, one list a call."""

    def __init__(self, *lists: list[str]) -> None:
        self.lists, self.metrics, self.calls = list(lists), {"calls": 1.0}, 0

    async def factors(self, trajectories: Any, fault: Any, proposals: int, repairs: int) -> list[str]:
        self.calls += 1
        return [one for one in (self.lists.pop(0) if self.lists else []) if fault(one) is None]


def test_written_factors_are_asked_for_once_and_kept() -> None:
    batch = as_batch([episode([0, 1]), episode([0, 0, 2])])
    shaping = decoded(Latent(factors=None, hidden=[4]))
    assert shaping.asks
    judge = shaping.judge = Writes(["time", "reward", "valid"])  # type: ignore[assignment]
    assert np.isfinite(shaped(shaping, batch)).all()
    shaped(shaping, batch)
    assert (judge.calls, shaping.model.factors, shaping.metrics["factors"]) == (1, ["time"], 1.0)  # valid: always 1


def test_without_a_factor_the_environments_reward_stays(caplog: pytest.LogCaptureFixture) -> None:
    batch = as_batch([episode([0, 1]), episode([0, 0, 2])])
    shaping = decoded(Latent(factors=None))
    judge = shaping.judge = Writes()  # type: ignore[assignment]
    for _ in range(ATTEMPTS + 2):
        assert np.isnan(shaped(shaping, batch)).all()
    assert judge.calls == len(caplog.records) == ATTEMPTS
    assert shaping.metrics["factors"] == 0.0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"factors\[1\] is 'reward \* 2': there is no name 'reward'; there are time, valid"):
        Latent(factors=["time", "reward * 2"])
    with pytest.raises(ValueError, match="factors has 0 entries"):
        Latent(factors=[])
    for method in (GiGPO(shaped_at={"latent": "advantage"}), GDPO()):
        with pytest.raises(ValueError, match="replaces is true"):
            Latent().check(method)
        Latent(replaces=False).check(method)
