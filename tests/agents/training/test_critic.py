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
from agents.training.experience import Experience
from algorithms.base import Floats
from envs.trajectory import Step, Trajectory
from tests.agents.models.models_for_tests import small_policy
from tests.agents.training.test_packing import conversation

HEAD = CriticConfig(hidden=[32], lr=1e-2)
ALL = CriticConfig(trains="all", hidden=[32], lr=1e-3)
both = pytest.mark.parametrize("config", [HEAD, ALL], ids=["head", "all"])


def episodes(context: str = "full") -> list[Trajectory]:
    return [conversation(random.Random(seed), 3, context) for seed in range(4)]


def made(trajectories: list[Trajectory]) -> Experience:
    return Experience.of(trajectories)


def update(critic: Critic, experience: Experience, returns: Floats, iteration: int = 0) -> dict[str, float]:
    experience.returns, experience.values = returns, critic.values(experience)
    return critic.update(experience, iteration)


def fit(critic: Critic, experience: Experience, returns: Floats, times: int) -> Floats:
    for iteration in range(times):
        update(critic, experience, returns, iteration)
    return critic.values(experience)


@both
def test_it_begins_without_an_opinion_and_learns_returns(config: CriticConfig) -> None:
    experience = made(episodes())
    critic = Critic(small_policy(), config, OptimConfig(minibatch_episodes=2), 0)
    assert not critic.values(experience).any()
    returns = np.random.default_rng(0).normal(size=experience.sampled)
    found = fit(critic, experience, returns, 150)
    assert np.mean((found - returns) ** 2) < 0.2 * np.var(returns)


@both
@pytest.mark.parametrize("context", ["full", "window"])
def test_micro_batches_change_nothing(config: CriticConfig, context: str) -> None:
    returns = np.random.default_rng(0).normal(size=made(episodes(context)).sampled)
    found = []
    for budget in (16, 10_000):
        critic = Critic(small_policy(), config, OptimConfig(minibatch_episodes=2, tokens_per_microbatch=budget), 0)
        found.append(fit(critic, made(episodes(context)), returns, 3))
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_places_without_a_target_teach_nothing() -> None:
    experience = made(episodes())
    critic = Critic(small_policy(), HEAD, OptimConfig(), 0)
    before = copy.deepcopy(critic.head.mlp.state_dict())
    update(critic, experience, np.full(experience.sampled, np.nan))
    assert all(torch.equal(before[name], value) for name, value in critic.head.mlp.state_dict().items())


@both
def test_several_values_are_learned_each_where_it_has_a_target(config: CriticConfig) -> None:
    experience = made(episodes())
    critic = Critic(small_policy(), config, OptimConfig(minibatch_episodes=2), 0, values=3)
    returns = np.random.default_rng(0).normal(size=(experience.sampled, 3))
    returns[::2, 1] = returns[:, 2] = np.nan
    found = fit(critic, experience, returns, 150)
    assert found.shape == returns.shape
    has = np.isfinite(returns)
    assert np.mean((found - returns)[has] ** 2) < 0.2 * np.var(returns[has])
    assert not found[:, 2].any()


def test_a_value_beside_others_is_learned_as_if_it_were_the_only_one() -> None:
    """By a linear head, which has nothing in common with them."""
    experience, config = made(episodes()), CriticConfig(hidden=[], lr=1e-2)
    returns = np.random.default_rng(0).normal(size=experience.sampled)
    alone = fit(Critic(small_policy(), config, OptimConfig(minibatch_episodes=2), 0), experience, returns, 5)
    several = np.stack([np.full_like(returns, np.nan), returns], axis=1)
    beside = fit(Critic(small_policy(), config, OptimConfig(minibatch_episodes=2), 0, values=2), experience, several, 5)
    np.testing.assert_allclose(beside[:, 1], alone, atol=1e-5)


def test_the_value_of_a_place_is_that_of_the_tokens_before_it() -> None:
    experience = made(episodes())
    first = experience.first_token[1]
    critic = Critic(small_policy(), HEAD, OptimConfig(), 0)
    returns = np.arange(experience.sampled, dtype=np.float64)
    values = fit(critic, experience, returns, 5)
    changed = episodes()
    changed[0].steps[-1].response_ids[-1] += 1  # the last token of the first conversation: nothing stands after it
    np.testing.assert_allclose(critic.values(made(changed))[:first], values[:first], atol=1e-5)
    changed[0].steps[0].prompt_ids[0] += 1
    assert not np.allclose(critic.values(made(changed))[:first], values[:first], atol=1e-5)


@both
def test_training_the_policy_leaves_the_critic_alone(config: CriticConfig) -> None:
    policy = small_policy()
    experience = made(episodes())
    critic = Critic(policy, config, OptimConfig(), 0)
    values = fit(critic, experience, np.ones(experience.sampled), 3)
    with torch.no_grad():
        for p in policy.model.parameters():
            p.add_(1.0)
    np.testing.assert_allclose(critic.values(experience), values, atol=1e-6)


def test_with_adapters_the_base_is_shared_and_seen_without_them() -> None:
    plain = small_policy()
    adapted = Policy(get_peft_model(copy.deepcopy(plain.model), LoraConfig(r=4, target_modules=["q_proj"])), plain.tokenizer)
    with torch.no_grad():
        for _, p in adapted.trainable():
            p.add_(1.0)
    experience = made(episodes())
    returns = np.ones(experience.sampled)
    found = [fit(Critic(policy, HEAD, OptimConfig(), 0), experience, returns, 3) for policy in (plain, adapted)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    critic = Critic(adapted, HEAD, OptimConfig(), 0)
    assert "base" not in critic.state()
    assert critic.head.trunk is adapted.trunk


@both
def test_it_goes_on_from_its_saved_state(config: CriticConfig) -> None:
    experience = made(episodes())
    returns = np.random.default_rng(0).normal(size=experience.sampled)
    first = Critic(small_policy(), config, OptimConfig(minibatch_episodes=2), 0)
    fit(first, experience, returns, 3)
    second = Critic(small_policy(), config, OptimConfig(minibatch_episodes=2), 5)
    second.seed = 0
    second.load_state(copy.deepcopy(first.state()))
    np.testing.assert_allclose(fit(first, experience, returns, 3), fit(second, experience, returns, 3), atol=1e-6)


def test_clipping_bounds_how_far_a_value_moves() -> None:
    experience = made(episodes())
    for clip, far in ((0.2, False), (None, True)):
        critic = Critic(small_policy(), CriticConfig(hidden=[32], lr=1e-3, clip=clip, epochs=150), OptimConfig(), 0)
        old = critic.values(experience)
        update(critic, experience, np.full(experience.sampled, 10.0))
        moved = float(np.abs(critic.values(experience) - old).mean())
        assert (moved > 1.0) == far


def test_an_empty_trajectory_is_no_hindrance() -> None:
    experience = made([*episodes(), Trajectory("env", "t", "t", 0, "train", steps=[Step("", "")])])
    critic = Critic(small_policy(), HEAD, OptimConfig(minibatch_episodes=1), 0)
    found = update(critic, experience, np.ones(experience.sampled))
    assert 0.0 < found["loss"] < 0.5  # half the square of 1 at first, and less with every mini-batch


@pytest.mark.fault("a gradient that is not finite", lost="the step")
def test_a_gradient_that_is_not_finite_takes_no_step() -> None:
    experience = made(episodes())
    critic = Critic(small_policy(), HEAD, OptimConfig(), 0)
    before = fit(critic, experience, np.ones(experience.sampled), 3)
    update(critic, experience, np.full(experience.sampled, 3e38))
    np.testing.assert_array_equal(critic.values(experience), before)


def test_a_resumed_critic_keeps_the_learning_rate_it_was_given() -> None:
    first, second = (Critic(small_policy(), CriticConfig(hidden=[8], lr=lr), OptimConfig(), 0) for lr in (1e-5, 1e-2))
    second.load_state(first.state())
    assert second.head.optimizer.lr == 1e-2
