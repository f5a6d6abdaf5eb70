"""The reward model: it starts as the policy to the bit, learns by exact gradients, and leaves the policy alone."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from agents.models.policy import Policy, PolicyError
from agents.rollout.constraint import ActionTries
from agents.training.experience import Experience
from agents.training.reward_model import RewardModel
from algorithms.shaping.implicit_prm import ImplicitPRM
from envs.trajectory import Step, Trajectory
from tests.agents.models.models_for_tests import WORDS, small_policy
from tests.agents.training.test_actor import played as sampled

KINDS = ["adapter", "copy"]
kinds = pytest.mark.parametrize("kind", KINDS)


def with_lora() -> Policy:
    policy = small_policy()
    torch.manual_seed(1)
    return Policy(get_peft_model(policy.model, LoraConfig(r=4, target_modules=["q_proj", "o_proj"])), policy.tokenizer)


POLICIES = {"whole": small_policy, "lora": with_lora}
policies = pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)


def reward_model(
    policy: Policy, kind: str = "adapter", *, lr: float = 0.01, budget: int = 10_000, **settings: Any
) -> RewardModel:
    prm = ImplicitPRM(kind=kind, **{"rank": 4, "lr": lr, **settings})  # type: ignore[arg-type]
    return RewardModel(policy, prm, 1e-3, budget, 1.0, seed=0)


def experience(policy: Policy, context: str = "full") -> Experience:
    return Experience.of(sampled(policy, context=context))


def slope(played: Experience, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=played.sampled)


def moved(policy: Policy, seed: int = 1) -> None:
    """As an update would."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for _, p in policy.trainable():
            p.add_(0.05 * torch.randn_like(p))


# -- the model it starts as -------------------------------------------------------------------------------------------------


@policies
@kinds
@pytest.mark.parametrize("context", ["full", "window"])
def test_at_first_it_is_the_policy_to_the_bit(make: Any, kind: str, context: str) -> None:
    policy = make()
    played = experience(policy, context)
    model = reward_model(policy, kind, budget=100)
    assert np.abs(model.logprobs(played)).min() > 0
    assert model.logprobs(played).tolist() == model.rollout_logprobs(played).tolist()


def test_its_log_probabilities_are_those_that_sampling_had() -> None:
    policy = small_policy()
    played = experience(policy)
    np.testing.assert_allclose(reward_model(policy).logprobs(played), played.rollout_logprobs.numpy(), atol=1e-4)


@policies
@kinds
def test_it_stays_where_it_was_when_the_policy_moves(make: Any, kind: str) -> None:
    policy = make()
    played = experience(policy)
    model = reward_model(policy, kind)
    before = model.logprobs(played)
    moved(policy)
    assert np.abs(model.rollout_logprobs(played) - before).max() > 0.01
    assert model.logprobs(played).tolist() == before.tolist()


def test_forced_tokens_have_no_part_in_a_ratio() -> None:
    policy = small_policy()
    tries = ActionTries(lambda action: policy.tokenizer(action, add_special_tokens=False).input_ids, end=2)
    ids = [*policy.tokenizer(WORDS[1], add_special_tokens=False).input_ids, 2]
    step = Step("o", WORDS[1], admissible_actions=[WORDS[1], WORDS[2]], prompt_ids=[1, 5, 6], response_ids=ids)
    step.rollout_logprobs = [-1.0, 0.0]
    played = Experience.of([Trajectory("t", "t", "g", 0, "train", steps=[step])], tries)
    model = RewardModel(policy, ImplicitPRM(lr=0.1), 1e-3, 10_000, 1.0, seed=0)
    model.descend(played, -np.ones(2))
    choice, forced = model.logprobs(played) - model.rollout_logprobs(played)
    assert choice > 0.01
    assert forced == 0.0


# -- what it leaves alone ---------------------------------------------------------------------------------------------------


@policies
@kinds
def test_learning_leaves_the_policy_alone(make: Any, kind: str) -> None:
    policy = make()
    played = experience(policy)
    flags = {name: p.requires_grad for name, p in policy.model.named_parameters()}
    weights = copy.deepcopy(policy.model.state_dict())
    before = reward_model(policy).rollout_logprobs(played)
    model = reward_model(policy, kind)
    for _ in range(3):
        model.descend(played, slope(played))
    assert np.abs(model.logprobs(played) - before).max() > 0.01
    assert model.rollout_logprobs(played).tolist() == before.tolist()
    assert {name: p.requires_grad for name, p in policy.model.named_parameters()} == flags
    assert all(p.grad is None for p in policy.model.parameters())
    now = policy.model.state_dict()
    assert now.keys() == weights.keys()
    assert all(torch.equal(now[name], weights[name]) for name in weights)


def test_an_error_within_leaves_no_hook() -> None:
    policy = small_policy()
    model = reward_model(policy)
    with pytest.raises(IndexError):
        model.descend(experience(policy), np.ones(3))
    assert not any(layer._forward_hooks for layer in policy.model.modules())


def test_an_adapter_holds_a_small_part_of_the_weights() -> None:
    policy = small_policy(hidden=64)
    model = reward_model(policy, rank=1)
    of_policy = sum(p.numel() for p in policy.model.parameters())
    assert sum(p.numel() for _, p in model.optimizer.parameters) < 0.05 * of_policy
    assert model.optimizer.masters == [p for _, p in model.optimizer.parameters]  # float32, so no further copy


# -- how it learns ----------------------------------------------------------------------------------------------------------


def gradients(
    kind: str, context: str, budget: int, checkpointing: bool = False, make: Any = small_policy
) -> list[torch.Tensor]:
    policy = make()
    if checkpointing:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    played = experience(policy, context)
    model = reward_model(policy, kind, budget=budget, lr=1e-9, grad_clip=1e9)
    if kind == "adapter":
        torch.manual_seed(4)
        with torch.no_grad():
            for name, p in model.optimizer.parameters:
                if name.endswith(".b"):
                    p.normal_(std=0.1)
    model.descend(played, slope(played))
    return [master.grad.clone() for master in model.optimizer.masters if master.grad is not None]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    assert len(one) == len(other) > 0
    assert any(bool(g.abs().max() > 1e-3) for g in one)
    for left, right in zip(one, other):
        torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-3)


@kinds
@pytest.mark.parametrize("context", ["full", "window"])
def test_micro_batches_never_change_a_gradient(kind: str, context: str) -> None:
    same(gradients(kind, context, 10_000), gradients(kind, context, 64))


@kinds
@policies
def test_gradient_checkpointing_gives_the_same_gradient(kind: str, make: Any) -> None:
    same(gradients(kind, "full", 10_000, make=make), gradients(kind, "full", 10_000, checkpointing=True, make=make))


@kinds
def test_a_step_goes_down_the_gradient_it_is_given(kind: str) -> None:
    """The change of sum(gradient * logprobs) is, to first order, AdamW's first step: -lr times the sum of |d / d weight|."""
    policy = small_policy()
    played = experience(policy)
    model = reward_model(policy, kind, lr=1e-5, grad_clip=1e9)
    weight, before = slope(played), model.logprobs(played)
    model.descend(played, weight)
    change = float(weight @ (model.logprobs(played) - before))
    size = sum(float(master.grad.abs().sum()) for master in model.optimizer.masters if master.grad is not None)
    assert change == pytest.approx(-1e-5 * size, rel=0.1)


def test_rows_without_a_gradient_are_not_computed() -> None:
    policy = small_policy()
    played = experience(policy)
    one_row = slope(played)
    one_row[played.first_token[1] :] = 0.0
    model = reward_model(policy, budget=16)
    calls: list[int] = []
    model._own.causal.model.register_forward_hook(lambda *_: calls.append(1))
    model.descend(played, one_row)
    assert len(calls) == 1


@pytest.mark.fault("a gradient that is not finite", lost="the step")
def test_the_gradients_norm_is_clipped_and_a_broken_one_skipped() -> None:
    policy = small_policy()
    played = experience(policy)
    model = reward_model(policy, grad_clip=1e-3)
    assert model.descend(played, slope(played))["grad_norm"] > 1e-3
    clipped = torch.cat([master.grad.flatten() for master in model.optimizer.masters if master.grad is not None])
    assert float(clipped.norm()) == pytest.approx(1e-3, rel=1e-3)
    before = model.logprobs(played)
    assert model.descend(played, np.full(len(before), np.nan)) == {"skipped_steps": 1.0}
    assert model.logprobs(played).tolist() == before.tolist()


@kinds
def test_fitted_to_outcomes_it_puts_successes_before_failures(kind: str) -> None:
    policy = small_policy()
    played = experience(policy)
    for number, one in enumerate(played.trajectories):
        one.success = played.success[number] = number % 2 == 0
    prm = ImplicitPRM(kind=kind, rank=4, lr=3e-3)  # type: ignore[arg-type]
    prm.model = RewardModel(policy, prm, 1.0, 10_000, 1.0, seed=0)
    asyncio.run(prm.shape(played))
    assert prm.metrics["accuracy"] == 0.5  # before the first step nothing is preferred
    for _ in range(8):
        rewards = asyncio.run(prm.shape(played))
    assert prm.metrics["accuracy"] == 1.0
    totals = np.bincount(played.episode, rewards)
    assert min(totals[::2]) > max(totals[1::2])


def test_its_learning_rate_is_twice_the_policys_unless_it_has_its_own() -> None:
    whole, lora = small_policy(), with_lora()

    def rate(policy: Policy, kind: str, lr: float | None = None) -> float:
        prm = ImplicitPRM(kind=kind, lr=lr)  # type: ignore[arg-type]
        return float(RewardModel(policy, prm, 1e-3, 100, 1.0, seed=0).optimizer.lr)

    assert rate(whole, "copy") == rate(lora, "copy") == rate(lora, "adapter") == 2e-3
    assert rate(whole, "adapter") == 1e-2  # low-rank weights beside whole ones
    assert rate(whole, "adapter", 0.5) == 0.5


def test_small_steps_are_not_rounded_away_in_bfloat16() -> None:
    policy = small_policy()
    policy.model.to(torch.bfloat16)
    played = experience(policy)
    model = reward_model(policy, "copy", lr=1e-5)
    for _ in range(20):
        model.descend(played, slope(played))
    start = [p.detach().float() for _, p in policy.trainable()]
    far = max(float((master.detach() - old).abs().max()) for master, old in zip(model.optimizer.masters, start))
    assert far == pytest.approx(20e-5, rel=0.2)
    adapter = reward_model(policy)
    adapter.descend(played, slope(played))
    assert np.abs(adapter.logprobs(played) - adapter.rollout_logprobs(played)).max() > 0


def test_a_target_that_no_layer_has_is_named_with_those_there_are() -> None:
    with pytest.raises(PolicyError, match=r"no linear layer of the model is named c_attn; there are: .*q_proj"):
        reward_model(small_policy(), targets=["c_attn"])


# -- state ------------------------------------------------------------------------------------------------------------------


@policies
@kinds
def test_a_restored_model_goes_on_as_the_uninterrupted_one(make: Any, kind: str) -> None:
    policy = make()
    played = experience(policy)
    whole = reward_model(policy, kind)
    whole.descend(played, slope(played))
    moved(policy)
    state = copy.deepcopy(whole.state())
    resumed = reward_model(policy, kind)
    resumed.load_state(state)
    assert resumed.logprobs(played).tolist() == whole.logprobs(played).tolist()
    for model in (whole, resumed):
        model.descend(played, slope(played, seed=1))
    assert resumed.logprobs(played).tolist() == whole.logprobs(played).tolist()


def test_the_same_seed_gives_the_same_adapter_and_another_another() -> None:
    def first(seed: int) -> torch.Tensor:
        return RewardModel(small_policy(), ImplicitPRM(), 1e-3, 100, 1.0, seed).optimizer.parameters[0][1]

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))
