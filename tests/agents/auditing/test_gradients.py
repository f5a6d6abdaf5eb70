"""Policy gradients of credit and truth: they are the learner's own, and the cosine is freed of the truth's error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.auditing.gradients import SIZE, Projection, cosines, projected
from agents.auditing.measures import resampled
from agents.config.sections import LossConfig, OptimConfig
from agents.training.actor import Actor
from agents.training.experience import Experience
from tests.agents.models.models_for_tests import small_policy
from tests.agents.training.test_actor import credit, played

ALL = np.ones(200, dtype=bool)


@pytest.mark.parametrize("context", ["full", "window"])
def test_the_projected_gradient_is_that_of_the_learner(context: str) -> None:
    policy = small_policy()
    trajectories = played(policy, context=context)
    values = credit(trajectories)
    experience = Experience.of(trajectories)
    found = projected(policy, experience, {"method": values.double().numpy()}, 1.0, 10_000, seed=0)["method"]
    experience.advantages, experience.defined = values, torch.ones(len(values), dtype=torch.bool)
    optim = OptimConfig(lr=0.0, minibatch_episodes=64, tokens_per_microbatch=10_000, grad_clip=1e9)
    actor = Actor(policy, optim, LossConfig(), 1, 0)
    actor.update(experience, 0)
    gradient = Projection.of(policy, 0)(tuple(p.grad for _, p in actor.optimizer.parameters))
    total = torch.from_numpy(found.sum(axis=0))
    torch.testing.assert_close(-gradient * len(values), total, atol=1e-4 * float(total.abs().max()), rtol=1e-3)
    assert found.shape == (len(trajectories), SIZE)


def test_a_projection_keeps_inner_products() -> None:
    policy = small_policy()
    project = Projection.of(policy, 0)
    torch.manual_seed(0)
    first = [torch.randn_like(p) for p in project.parameters]
    second = [0.6 * a + 0.8 * torch.randn_like(a) for a in first]
    kept = float(project(tuple(first)) @ project(tuple(second)))
    real = float(sum((a * b).sum() for a, b in zip(first, second)))
    size = float(sum((a * a).sum() for a in first))
    assert abs(kept - real) < 4 * size / SIZE**0.5


def test_gradients_of_no_credit_are_zero_and_their_cosine_is_not_known() -> None:
    policy = small_policy()
    trajectories = played(policy, number=3)
    experience = Experience.of(trajectories)
    tokens = experience.sampled
    credits = {"none": np.zeros(tokens), "some": np.ones(tokens)}
    found = projected(policy, experience, credits, 1.0, 10_000, seed=0)
    assert not found["none"].any()
    weights = resampled(np.arange(3), np.ones(3, dtype=bool), 10, 0)
    assert cosines(found["none"], found["some"], found["some"], 0.5, weights)["cosine"].value is None
    assert cosines(found["some"], found["some"], found["some"], 0.5, weights)["cosine"].value == pytest.approx(1)


def test_the_cosine_is_freed_of_the_truth_s_error() -> None:
    rng = np.random.default_rng(0)
    plain, freed = [], []
    for _ in range(40):
        truth = rng.normal(size=(200, 64)) + 0.5
        method = 0.6 * truth + 0.8 * rng.normal(size=truth.shape)
        real = method.sum(0) @ truth.sum(0) / np.linalg.norm(method.sum(0)) / np.linalg.norm(truth.sum(0))
        first, second = (truth + rng.normal(0, 6, size=truth.shape) for _ in range(2))
        arrays = (one.astype(np.float32) for one in (method, first, second))
        found = cosines(*arrays, 0.5, resampled(np.arange(len(ALL)), ALL, 2, 0))
        plain.append(found["cosine"].value - real)  # type: ignore[operator]
        freed.append(found["cosine_corrected"].value - real)  # type: ignore[operator]
    assert np.mean(freed) == pytest.approx(0, abs=0.02)
    assert np.mean(plain) < -0.1
