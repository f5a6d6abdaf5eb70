"""Rows carry exactly the ids that were read and sampled; packed, they give the same numbers as computed alone."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.models.policy import token_logprobs
from agents.training.experience import Experience
from agents.training.packing import Row, rebuild_tokens
from agents.training.passes import collate, micro_batches
from envs.trajectory import Step, Trajectory
from tests.agents.models.models_for_tests import full_logprobs, small_policy


def conversation(rng: random.Random, steps: int, context: str = "full", prefix: list[int] | None = None) -> Trajectory:
    trajectory = Trajectory("test", "task", "group", 0, "train", context=context)
    for _ in range(steps):
        prompt = [*(prefix or []), *(rng.randrange(5, 60) for _ in range(rng.randint(1, 6)))]
        response = [rng.randrange(5, 60) for _ in range(rng.randint(1, 4))]
        trajectory.steps.append(
            Step("o", "a", prompt_ids=prompt, response_ids=response, rollout_logprobs=[0.0] * len(response))
        )
    return trajectory


def rows(trajectories: list[Trajectory], longest_row: int) -> list[Row]:
    return Experience.of(trajectories, longest_row=longest_row).rows()


def packed_logprobs(policy, packed: list[Row], total: int, budget: int) -> torch.Tensor:
    found = torch.full((total,), torch.nan)
    for group in micro_batches(packed, budget):
        batch = collate(group, 0, torch.device("cpu"))
        with torch.no_grad():
            logits = policy.forward(batch.ids, batch.positions, batch.mask, batch.before)
        found[batch.tokens] = token_logprobs(logits, batch.targets, None)[0]
    return found


@pytest.mark.parametrize("context", ["full", "window"])
def test_packed_rows_give_the_same_logprobs_as_each_step_alone(context: str) -> None:
    rng = random.Random(1)
    prefixes = [[rng.randrange(5, 60) for _ in range(40)] for _ in range(2)]
    policy = small_policy()
    trajectories = [conversation(rng, 5, context, prefixes[i % 2] if context == "window" else None) for i in range(6)]
    total = sum(len(s.response_ids) for t in trajectories for s in t.steps)
    expected = []
    for trajectory in trajectories:
        ids: list[int] = []
        for step in trajectory.steps:
            ids = [*(ids if context == "full" else []), *step.prompt_ids]
            before = len(ids)
            ids = [*ids, *step.response_ids]
            expected.append(full_logprobs(policy, ids)[before:])
    packed = rows(trajectories, longest_row=400)
    if context == "window":
        assert any(row.segments for row in packed)
        assert sum(len(row) for row in packed) < 0.5 * rebuild_tokens(trajectories)
    found = packed_logprobs(policy, packed, total, budget=600)
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-4, rtol=1e-4)


def test_each_token_of_an_episode_is_computed_once_in_full_context() -> None:
    trajectories = [conversation(random.Random(i), 7) for i in range(3)]
    packed = rows(trajectories, longest_row=10)
    assert sum(len(r) for r in packed) == sum(len(s.prompt_ids) + len(s.response_ids) for t in trajectories for s in t.steps)
    assert rebuild_tokens(trajectories) > 3 * sum(len(r) for r in packed)


@given(
    seed=st.integers(0, 10_000),
    context=st.sampled_from(["full", "window"]),
    shared=st.integers(0, 50),
    longest=st.integers(0, 300),
    budget=st.integers(1, 500),
)
@settings(max_examples=60, deadline=None)
def test_tokens_in_tokens_out_every_sampled_token_is_a_target_exactly_once(
    seed: int, context: str, shared: int, longest: int, budget: int
) -> None:
    rng = random.Random(seed)
    prefix = [rng.randrange(5, 60) for _ in range(shared)]
    trajectories = [conversation(rng, rng.randint(0, 5), context, prefix) for _ in range(4)]
    sampled = [i for t in trajectories for s in t.steps for i in s.response_ids]
    packed = rows(trajectories, longest)
    seen: dict[int, int] = {}
    batches = list(micro_batches(packed, budget))
    assert sum(len(b) for b in batches) == len(packed)
    for group in batches:
        assert len(group) == 1 or len(group) * max(len(r) for r in group) <= budget
        batch = collate(group, 0, torch.device("cpu"))
        for number, target, before in zip(batch.tokens.tolist(), batch.targets.tolist(), batch.before.tolist(), strict=True):
            assert number not in seen
            seen[number] = target
            assert before >= 0
    assert [seen[i] for i in range(len(sampled))] == sampled


def test_padding_never_changes_a_logprob() -> None:
    policy = small_policy()
    trajectories = [conversation(random.Random(i), i + 1) for i in range(5)]
    total = sum(len(s.response_ids) for t in trajectories for s in t.steps)
    packed = rows(trajectories, 0)
    together = packed_logprobs(policy, packed, total, budget=10_000)
    alone = packed_logprobs(policy, packed, total, budget=1)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_rows_of_some_episodes_are_those_of_an_experience_that_holds_no_others() -> None:
    rng = random.Random(2)
    prefixes = [[rng.randrange(5, 60) for _ in range(40)] for _ in range(2)]
    trajectories = [conversation(rng, 4, "window", prefixes[i % 2]) for i in range(5)]
    trajectories.insert(2, conversation(rng, 3))
    whole, members = Experience.of(trajectories, longest_row=300), [1, 2, 4]
    alone = Experience.of([trajectories[m] for m in members], longest_row=300)
    numbers = whole.numbers(members).tolist()
    assert any(row.segments for row in alone.rows())
    for found, expected in zip(whole.rows(members), alone.rows(), strict=True):
        assert (found.ids, found.positions, found.segments) == (expected.ids, expected.positions, expected.segments)
        assert (found.targets, found.tokens) == (expected.targets, [numbers[token] for token in expected.tokens])
