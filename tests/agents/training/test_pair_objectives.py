"""Objectives on pairs and distillation with real models: exact gradients, and what models say for them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from agents.config.sections import LossConfig, OptimConfig
from agents.models.policy import Policy
from agents.training.actor import Actor
from agents.training.experience import Experience
from agents.training.passes import collate, distributions, logprobs
from agents.training.reward_model import PolicyReader, RewardModel
from algorithms.losses import contrast
from algorithms.shaping.aligndistil import AlignDistil
from algorithms.shaping.outcome_model import OutcomeModel
from algorithms.shaping.pairs import paired
from algorithms.shaping.tgdpo import TGDPO
from algorithms.shaping.token_reward import TokenReward
from tests.agents.models.models_for_tests import full_logprobs, small_policy
from tests.agents.training.test_actor import played, same
from tests.agents.training.test_observe import contexts, noted
from tests.agents.training.test_passes import forest, tries
from tests.agents.training.test_reward_model import experience, kinds, moved, policies


def of_one_task(policy: Policy, number: int = 4) -> Experience:
    """Episodes of one task, by this policy; every other one succeeds."""
    trajectories = played(policy, number)
    for place, one in enumerate(trajectories):
        one.group_id, one.success = "task", place % 2 == 0
    data = Experience.of(trajectories)
    data.defined[:] = True
    return data


def beside(policy: Policy, settings: OutcomeModel, seed: int = 0, differs: bool = False) -> RewardModel:
    """A model of its own, that has learned something if it `differs`."""
    model = RewardModel(policy, settings, 1e-3, 10_000, 1.0, seed)
    if differs:
        torch.manual_seed(seed)
        with torch.no_grad():
            for _, p in model.optimizer.parameters:
                p.add_(0.2 * torch.randn_like(p))
    return model


def gradient(policy: Policy, data: Experience, loss: LossConfig, budget: int = 10_000, teacher=None):
    """Of the update's first step."""
    optim = OptimConfig(lr=0.0, minibatch_episodes=64, tokens_per_microbatch=budget, grad_clip=1e9)
    actor = Actor(policy, optim, loss, 1, 0)
    if teacher is not None:
        actor.teachers.append(teacher)
    metrics = actor.update(data, 0)
    return {name: p.grad.clone() for name, p in actor.optimizer.parameters if p.grad is not None}, metrics


@pytest.mark.parametrize("surrogate", ["gpg", "ppo"])
def test_the_first_step_has_exactly_the_gradient_of_the_objective(surrogate: str) -> None:
    policy, one = small_policy(), TGDPO(beta=0.5, guidance=2.0, lr=1e-2, rank=4)
    one.model = beside(policy, one)
    moved(policy)
    data = of_one_task(policy)
    data.advantages = torch.from_numpy(asyncio.run(one.shape(data))).float()
    found, _ = gradient(policy, data, LossConfig(surrogate, skip_zero=False))

    reference = torch.from_numpy(one.model.reference_logprobs(data))
    read = 0.5 * 2.0 * (torch.from_numpy(one.model.logprobs(data)) - reference)
    batch = collate(data.plain_rows(), policy)
    logp = torch.zeros(data.sampled).index_copy(0, batch.tokens, logprobs(policy, batch, 1.0)[0])
    ratio = logp - reference
    margins = [
        0.5 * ((1 + read[a]) * ratio[a]).sum() - 0.5 * ((1 - read[b]) * ratio[b]).sum() for a, b in paired(data, data.success)
    ]
    policy.model.zero_grad()
    torch.nn.functional.softplus(-torch.stack(margins)).mean().backward()
    assert any(bool(g.abs().max() > 1e-3) for g in found.values())
    same(found, {name: p.grad.float() for name, p in policy.trainable() if p.grad is not None})


@policies
def test_a_teachers_gradient_depends_on_no_micro_batch_and_needs_no_advantage(make) -> None:
    policy, one = make(), AlignDistil(rank=4)
    toward, away = beside(policy, one, 1, differs=True), beside(policy, one, 2, differs=True)
    data = of_one_task(policy)

    def teacher(batch, student):
        return one.distill(student, toward.distributions(batch), away.distributions(batch))

    loss = LossConfig(aggregation="seq-mean-token-mean")  # with skip_zero
    (whole, metrics), (cut, _) = (gradient(policy, data, loss, budget, teacher) for budget in (10_000, 64))
    assert any(bool(g.abs().max() > 1e-3) for g in whole.values())
    same(whole, cut)

    assert toward.take_tokens() > 0
    batch = collate(data.plain_rows(), policy)
    by_token = teacher(batch, distributions(policy, batch, 1.0))[batch.which]
    count = data.token_episode.bincount()
    total = (by_token / count[data.token_episode[batch.tokens]]).sum() / len(count)
    policy.model.zero_grad()
    total.backward()
    same(whole, {name: p.grad.float() for name, p in policy.trainable() if p.grad is not None})
    assert metrics["distillation"] == pytest.approx(float(total.detach()), rel=1e-4)


@policies
@kinds
def test_the_reference_is_the_policy_before_it_moved(make, kind: str) -> None:
    policy = make()
    model = beside(policy, TokenReward(kind=kind, rank=4), differs=True)  # type: ignore[arg-type]
    data = experience(policy)
    before = model.rollout_logprobs(data)
    assert not np.array_equal(model.logprobs(data), before)
    moved(policy)
    np.testing.assert_array_equal(model.reference_logprobs(data), before)
    assert np.abs(model.rollout_logprobs(data) - before).max() > 1e-3


@kinds
def test_a_contrast_is_that_of_two_models_among_what_could_be_sampled(kind: str) -> None:
    policy, settings = small_policy(), TokenReward(kind=kind, rank=4)  # type: ignore[arg-type]
    one, other = beside(policy, settings, 1, differs=True), beside(policy, settings, 2, differs=True)
    for data in (Experience.of(forest(3, "full")), Experience.of(forest(3, "full"), tries())):
        np.testing.assert_allclose(one.contrasted(data, other, 0.0), one.logprobs(data), atol=1e-5)
        np.testing.assert_allclose(one.contrasted(data, one, 3.0), one.logprobs(data), atol=1e-5)
        found = one.contrasted(data, other, 1.0)
        assert np.abs(found - one.logprobs(data)).max() > 1e-3
        assert not found[~data.chosen.numpy()].any(), "a forced token was no choice"
        batch = collate(data.plain_rows(), policy, allowed=data.allowed)
        lifted = 2 * one.distributions(batch) - other.distributions(batch)
        lines = lifted.nan_to_num(-torch.inf, -torch.inf, -torch.inf).log_softmax(-1)[batch.which, batch.targets]
        np.testing.assert_allclose(found[batch.tokens], lines, atol=1e-4)


def test_a_contrast_of_strength_minus_one_is_the_other_model() -> None:
    toward, away = torch.randn(2, 5).log_softmax(-1), torch.randn(2, 5).log_softmax(-1)
    torch.testing.assert_close(contrast(toward, away, -1.0), away)


@pytest.mark.parametrize("context", ["full", "window"])
def test_what_the_policy_says_with_a_sentence_in_its_prompts(context: str) -> None:
    policy, trajectories = small_policy(), forest(5, context)
    data = Experience.of(trajectories)
    reader = PolicyReader(policy, 64, 1.0, noted)
    expected = [full_logprobs(policy, [*ids, *step.response_ids])[len(ids) :] for ids, step in contexts(trajectories, "nn")]
    found = reader.told_logprobs(data, "nn")
    np.testing.assert_allclose(found, torch.cat(expected), atol=1e-4)
    assert np.abs(found - reader.rollout_logprobs(data)).max() > 1e-3
    assert reader.take_tokens() > 0
    policy.max_length = 1
    assert np.isnan(reader.told_logprobs(data, "nn")).all()
    with pytest.raises(ValueError, match="nobody said how a note"):
        PolicyReader(policy, 64, 1.0).told_logprobs(data, "nn")
