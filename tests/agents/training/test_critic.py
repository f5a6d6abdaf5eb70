"""The value function: it learns, from the frozen model only, however its batches are cut, and goes on from its saved state."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from agents.config.sections import CriticConfig, OptimConfig
from agents.models.policy import Policy
from agents.training.critic import Critic
from agents.training.tokens import Tokens
from algorithms.base import Floats
from envs.trajectory import Step, Trajectory
from tests.agents.models.models_for_tests import small_policy
from tests.agents.training.test_packing import conversation

HEAD = CriticConfig(hidden=[32], lr=1e-2)
ALL = CriticConfig(trains="all", hidden=[32], lr=1e-3)
both = pytest.mark.parametrize("config", [HEAD, ALL], ids=["head", "all"])


def episodes(context: str = "full") -> list[Trajectory]:
    return [conversation(random.Random(seed), 3, context) for seed in range(4)]


def made(trajectories: list[Trajectory]) -> Tokens:
    for step in (step for t in trajectories for step in t.steps):
        step.response_logprobs = [-1.0] * len(step.response_ids)
    return Tokens.of(trajectories, None)


def fit(critic: Critic, trajectories: list[Trajectory], returns: Floats, times: int) -> Floats:
    tokens = made(trajectories)
    for iteration in range(times):
        critic.update(trajectories, tokens, returns, critic.values(trajectories, tokens), iteration)
    return critic.values(trajectories, tokens)


@both
def test_it_begins_without_an_opinion_and_learns_returns(config: CriticConfig) -> None:
    trajectories = episodes()
    tokens = made(trajectories)
    critic = Critic(small_policy(), config, OptimConfig(minibatch=2), 0)
    assert not critic.values(trajectories, tokens).any()
    returns = np.random.default_rng(0).normal(size=len(tokens))
    found = fit(critic, trajectories, returns, 150)
    assert np.mean((found - returns) ** 2) < 0.2 * np.var(returns)


@both
@pytest.mark.parametrize("context", ["full", "window"])
def test_micro_batches_change_nothing(config: CriticConfig, context: str) -> None:
    trajectories = episodes(context)
    returns = np.random.default_rng(0).normal(size=len(made(trajectories)))
    found = [
        fit(Critic(small_policy(), config, OptimConfig(minibatch=2, token_budget=budget), 0), trajectories, returns, 3)
        for budget in (16, 10_000)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_places_without_a_target_teach_nothing() -> None:
    trajectories = episodes()
    tokens = made(trajectories)
    critic = Critic(small_policy(), HEAD, OptimConfig(), 0)
    before = copy.deepcopy(critic.head.state_dict())
    critic.update(trajectories, tokens, np.full(len(tokens), np.nan), critic.values(trajectories, tokens), 0)
    assert all(torch.equal(before[name], value) for name, value in critic.head.state_dict().items())


def test_the_value_of_a_place_is_that_of_the_tokens_before_it() -> None:
    trajectories = episodes()
    tokens = made(trajectories)
    critic = Critic(small_policy(), HEAD, OptimConfig(), 0)
    returns = np.arange(len(tokens), dtype=np.float64)
    values = fit(critic, trajectories, returns, 5)
    changed = copy.deepcopy(trajectories)
    changed[0].steps[-1].response_ids[-1] += 1  # the last token of the first conversation: nothing stands after it
    again = critic.values(changed, tokens)
    np.testing.assert_allclose(again[: tokens.first[1]], values[: tokens.first[1]], atol=1e-5)
    changed[0].steps[0].prompt_ids[0] += 1
    assert not np.allclose(critic.values(changed, tokens)[: tokens.first[1]], values[: tokens.first[1]], atol=1e-5)


@both
def test_training_the_policy_leaves_the_critic_alone(config: CriticConfig) -> None:
    policy = small_policy()
    trajectories = episodes()
    critic = Critic(policy, config, OptimConfig(), 0)
    values = fit(critic, trajectories, np.ones(len(made(trajectories))), 3)
    with torch.no_grad():
        for p in policy.model.parameters():
            p.add_(1.0)
    np.testing.assert_allclose(critic.values(trajectories, made(trajectories)), values, atol=1e-6)


def test_with_adapters_the_base_is_shared_and_seen_without_them() -> None:
    plain = small_policy()
    adapted = Policy(get_peft_model(copy.deepcopy(plain.model), LoraConfig(r=4, target_modules=["q_proj"])), plain.tokenizer)
    with torch.no_grad():
        for _, p in adapted.trainable():
            p.add_(1.0)
    trajectories = episodes()
    returns = np.ones(len(made(trajectories)))
    found = [fit(Critic(policy, HEAD, OptimConfig(), 0), trajectories, returns, 3) for policy in (plain, adapted)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    critic = Critic(adapted, HEAD, OptimConfig(), 0)
    assert "base" not in critic.state()
    assert critic._base is adapted.causal


@both
def test_it_goes_on_from_its_saved_state(config: CriticConfig) -> None:
    trajectories = episodes()
    returns = np.random.default_rng(0).normal(size=len(made(trajectories)))
    first = Critic(small_policy(), config, OptimConfig(minibatch=2), 0)
    fit(first, trajectories, returns, 3)
    second = Critic(small_policy(), config, OptimConfig(minibatch=2), 5)
    second.seed = 0
    second.load_state(copy.deepcopy(first.state()))
    np.testing.assert_allclose(fit(first, trajectories, returns, 3), fit(second, trajectories, returns, 3), atol=1e-6)


def test_clipping_bounds_how_far_a_value_moves() -> None:
    trajectories = episodes()
    tokens = made(trajectories)
    for clip, far in ((0.2, False), (None, True)):
        critic = Critic(small_policy(), CriticConfig(hidden=[32], lr=1e-3, clip=clip, epochs=150), OptimConfig(), 0)
        old = critic.values(trajectories, tokens)
        critic.update(trajectories, tokens, np.full(len(tokens), 10.0), old, 0)
        moved = float(np.abs(critic.values(trajectories, tokens) - old).mean())
        assert (moved > 1.0) == far


def test_an_empty_trajectory_is_no_hindrance() -> None:
    trajectories = [*episodes(), Trajectory("env", "t", "t", 0, "train", steps=[Step("", "")])]
    tokens = made(trajectories)
    critic = Critic(small_policy(), HEAD, OptimConfig(minibatch=1), 0)
    found = critic.update(trajectories, tokens, np.ones(len(tokens)), critic.values(trajectories, tokens), 0)
    assert 0.0 < found["loss"] < 0.5  # half the square of 1 at first, and less with every mini-batch


def test_a_gradient_that_is_not_finite_takes_no_step() -> None:
    trajectories = episodes()
    tokens = made(trajectories)
    critic = Critic(small_policy(), HEAD, OptimConfig(), 0)
    fit(critic, trajectories, np.ones(len(tokens)), 3)
    before = critic.values(trajectories, tokens)
    critic.update(trajectories, tokens, np.full(len(tokens), 3e38), before, 0)
    np.testing.assert_array_equal(critic.values(trajectories, tokens), before)


def test_a_resumed_critic_keeps_the_learning_rate_it_was_given() -> None:
    first, second = (Critic(small_policy(), CriticConfig(hidden=[8], lr=lr), OptimConfig(), 0) for lr in (1e-5, 1e-2))
    second.load_state(first.state())
    assert second.optimizer.lr == 1e-2
