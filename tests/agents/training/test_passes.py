"""Whatever the micro-batches, and whether tokens are shared or not: the same numbers and the same gradient."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.config.sections import LossConfig, OptimConfig
from agents.models.policy import Policy
from agents.rollout.choice import Scoring
from agents.rollout.constraint import ActionTries
from agents.training import prefix_tree
from agents.training.actor import Actor
from agents.training.experience import Experience
from agents.training.packing import rebuild_tokens
from agents.training.passes import MicroBatch, collate, logprobs, micro_batches, sum_pi_squared
from envs.trajectory import Step, Trajectory
from tests.agents.models.models_for_tests import full_logprobs, small_policy
from tests.agents.training.test_packing import conversation

END = 59
ACTIONS = ["7 8", "7 8 9", "7 9", "10", "11 12 13 14"]


def as_ids(action: str) -> list[int]:
    return [*map(int, action.split()), END]


def tries() -> ActionTries:
    return ActionTries(lambda words: [*map(int, words.split())], END)


def with_attention(kind: str) -> Policy:
    """A policy whose trees attend by blocks, or by a mask over all tokens."""
    policy = small_policy()
    policy._takes_blocks = kind == "blocks"
    assert policy.sharing == kind
    return policy


@pytest.fixture
def dear_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention costs nothing, as in a very wide model: whatever saves a token is worth it."""
    monkeypatch.setattr(prefix_tree, "RATE", 1e12)


def forest(seed: int, context: str, groups: int = 2, episodes: int = 3) -> list[Trajectory]:
    """Groups of episodes that begin alike and part at some step; now and then two are equal."""
    rng = random.Random(seed)
    made = []
    for _ in range(groups):
        task = [rng.randrange(5, 60) for _ in range(rng.randint(0, 30))]
        trunk = [(prompt(rng), rng.choice(ACTIONS)) for _ in range(rng.randint(1, 5))]
        for _ in range(episodes):
            kept = rng.randint(0, len(trunk))
            turns = trunk[:kept] + [(prompt(rng), rng.choice(ACTIONS)) for _ in range(rng.randint(kept == 0, 3))]
            made.append(episode(task, turns, context))
    return made


def prompt(rng: random.Random) -> list[int]:
    return [rng.randrange(15, 60) for _ in range(rng.randint(1, 6))]


def episode(task: list[int], turns: list[tuple[list[int], str]], context: str) -> Trajectory:
    trajectory = Trajectory("test", "task", "group", 0, "train", context=context)
    for number, (ids, action) in enumerate(turns):
        begin = task if context == "window" or number == 0 else []
        response = as_ids(action)
        trajectory.steps.append(
            Step(
                "o",
                action,
                admissible_actions=sorted({action, *ACTIONS[number % 3 :]}),
                prompt_ids=[*begin, *ids],
                response_ids=response,
                rollout_logprobs=[-0.5] * len(response),
            )
        )
    return trajectory


KINDS: dict[str, dict[str, Any]] = {"free": {}, "admissible": {"tries": tries()}, "scored": {"scoring": Scoring(tries())}}


def experience(trajectories: list[Trajectory], kind: str = "free", seed: int = 0) -> Experience:
    made = Experience.of(trajectories, **KINDS[kind])
    generator = torch.Generator().manual_seed(seed)
    made.advantages = torch.randn(len(made.steps), generator=generator)[made.token_step]
    made.defined[:] = True
    return made


def updated(policy: Policy, data: Experience, budget: int, **loss: Any) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Gradient and metrics of one mini-batch with all episodes."""
    optim = OptimConfig(lr=0.0, minibatch_episodes=64, tokens_per_microbatch=budget, grad_clip=1e9)
    actor = Actor(policy, optim, LossConfig(entropy=0.1, **loss), 1, 0)
    metrics = actor.update(data, 0)
    return {name: p.grad.clone() for name, p in actor.optimizer.parameters}, metrics


def plain(policy: Policy) -> Policy:
    policy.kept = "chunks"
    assert policy.sharing is None
    return policy


@pytest.mark.usefixtures("dear_layers")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", ["full", "window"])
@pytest.mark.parametrize("attention", ["blocks", "mask"])
def test_a_prefix_tree_has_the_loss_and_the_gradient_of_plain_rows(attention: str, context: str, kind: str) -> None:
    @given(seed=st.integers(0, 10_000), budget=st.sampled_from([16, 60, 10_000]))
    @settings(max_examples=12, deadline=None)
    def check(seed: int, budget: int) -> None:
        trajectories = forest(seed, context)
        expected, apart = updated(plain(small_policy()), experience(trajectories, kind), 10_000)
        found, together = updated(with_attention(attention), experience(trajectories, kind), budget)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4)
        for key in ("loss", "entropy", "kl_to_sampler", "mismatch_max", "clip_fraction"):
            assert together[key] == pytest.approx(apart[key], abs=1e-5, rel=1e-4), key
        if budget == 10_000:
            assert together["computed_tokens"] == together["padded_tokens"] == distinct(trajectories, kind)

    check()


def distinct(trajectories: list[Trajectory], kind: str) -> int:
    """By brute force: different beginnings of what is read to predict a token."""
    texts = [text.tolist() for row in experience(trajectories, kind).rows() for text in row.texts]
    return len({tuple(text[: n + 1]) for text in texts for n in range(len(text))})


@pytest.mark.parametrize("attention", ["blocks", "mask"])
@pytest.mark.parametrize("context", ["full", "window"])
def test_in_a_tree_each_token_has_the_log_probability_of_its_step_alone(context: str, attention: str) -> None:
    policy, trajectories = with_attention(attention), forest(1, context, 3)
    expected = []
    for trajectory in trajectories:
        ids: list[int] = []
        for step in trajectory.steps:
            ids = [*(ids if context == "full" else []), *step.prompt_ids]
            before, ids = len(ids), [*ids, *step.response_ids]
            expected.append(full_logprobs(policy, ids)[before:])
    data = experience(trajectories)
    batch = collate(data.rows(), policy, tree=True)
    assert batch.real_tokens < rebuild_tokens(trajectories) / 2
    assert len(batch.before) < len(batch.which) == data.sampled  # equal beginnings are predicted once
    with torch.no_grad():
        found = torch.empty(data.sampled)
        found[batch.tokens] = logprobs(policy, batch, 1.0)[0]
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["free", "admissible"])
@pytest.mark.parametrize("measure", [logprobs, sum_pi_squared])
def test_whatever_is_measured_of_a_token_is_the_same_in_a_tree_and_in_rows(measure: Callable[..., Any], kind: str) -> None:
    policy, data = small_policy(), experience(forest(2, "window"), kind)

    def of(tree: bool) -> torch.Tensor:
        batch = collate(data.rows(), policy, tree, data.allowed)
        found = measure(policy, batch, 0.7)
        found = torch.stack(found) if isinstance(found, tuple) else found[None]
        return found[:, batch.tokens.argsort()].detach()

    torch.testing.assert_close(of(True), of(False), atol=1e-5, rtol=1e-5)


def test_the_same_place_with_other_choices_is_another_decision() -> None:
    """Two rooms that read alike may allow different actions."""
    steps = [episode([20, 21], [([30], "7 8")], "full") for _ in range(2)]
    steps[0].steps[0].admissible_actions = ["7 8", "10"]
    steps[1].steps[0].admissible_actions = ["7 8", "7 9", "11 12 13 14"]
    policy, data = small_policy(), experience(steps, "admissible")
    batch = collate(data.rows(), policy, True, data.allowed)
    assert batch.allowed is not None
    assert batch.real_tokens == 5
    assert batch.tokens.tolist() == [0, 3, 4]  # of the first, the second token was forced; of both, the end
    assert len(batch.before) == 3
    assert batch.allowed.sum(1).tolist() == [2, 2, 2]


@pytest.mark.usefixtures("dear_layers")
@pytest.mark.parametrize("context", ["full", "window"])
def test_gradient_checkpointing_changes_nothing(context: str) -> None:
    data = experience(forest(3, context))
    policy = small_policy()
    expected, metrics = updated(policy, data, 10_000)
    policy = small_policy()
    policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found, again = updated(policy, data, 10_000)
    assert metrics == again
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


@pytest.mark.usefixtures("dear_layers")
def test_an_update_of_trees_has_the_same_bits_every_time() -> None:
    data = experience(forest(4, "window", 4))
    one, other = (updated(small_policy(), data, 200)[0] for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


@given(
    seed=st.integers(0, 10_000), context=st.sampled_from(["full", "window"]), budget=st.integers(16, 500), dear=st.booleans()
)
@settings(max_examples=40, deadline=None)
def test_micro_batches_hold_every_row_once_within_the_budget(seed: int, context: str, budget: int, dear: bool) -> None:
    policy, rows = small_policy(), experience(forest(seed, context)).rows()
    with pytest.MonkeyPatch.context() as patch:
        if dear:
            patch.setattr(prefix_tree, "RATE", 1e12)
        groups, tree = micro_batches(rows, budget, policy)
    assert sorted(number for group in groups for row in group for number in row.tokens) == list(
        range(sum(len(row.tokens) for row in rows))
    )
    for group in groups:
        assert len(group) == 1 or collate(group, policy, tree).ids.numel() <= budget


def test_what_shares_nothing_stays_in_rows_and_what_shares_much_becomes_a_tree() -> None:
    policy = small_policy(hidden=64)
    rng = random.Random(0)
    lone = [conversation(rng, 1, "full", [number] * 40) for number in range(5, 15)]
    for trajectory in lone:  # of one length: there is no padding to be saved either
        trajectory.steps[0].prompt_ids, trajectory.steps[0].response_ids = trajectory.steps[0].prompt_ids[:40], [1, 2]
        trajectory.steps[0].rollout_logprobs = [0.0, 0.0]
    assert not micro_batches(experience(lone).rows(), 10_000, policy)[1]
    alike = [conversation(rng, 4, "window", [5] * 40) for _ in range(6)]
    assert micro_batches(experience(alike).rows(), 10_000, policy)[1]
    assert not micro_batches(experience(alike).rows(), 10_000, plain(small_policy(hidden=64)))[1]


def test_padding_never_changes_a_logprob() -> None:
    policy, data = small_policy(), experience([conversation(random.Random(i), i + 1) for i in range(5)])

    def of(groups: list[Any]) -> torch.Tensor:
        found = torch.empty(data.sampled)
        for group in groups:
            batch: MicroBatch = collate(group, policy)
            found[batch.tokens] = logprobs(policy, batch, 1.0)[0].detach()
        return found

    rows = data.rows()
    torch.testing.assert_close(of([rows]), of([[row] for row in rows]), atol=1e-5, rtol=1e-5)


def test_nothing_sampled_is_nothing_to_compute() -> None:
    assert micro_batches([], 100, small_policy()) == ([], False)
