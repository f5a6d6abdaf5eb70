"""Rows carry exactly the ids that were read and sampled."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.training.experience import Experience
from agents.training.packing import rebuild_tokens
from envs.trajectory import Step, Trajectory


def conversation(rng: random.Random, steps: int, context: str = "full", prefix: list[int] | None = None) -> Trajectory:
    trajectory = Trajectory("test", "task", "group", 0, "train", context=context)
    for _ in range(steps):
        prompt = [*(prefix or []), *(rng.randrange(5, 60) for _ in range(rng.randint(1, 6)))]
        response = [rng.randrange(5, 60) for _ in range(rng.randint(1, 4))]
        trajectory.steps.append(
            Step("o", "a", prompt_ids=prompt, response_ids=response, rollout_logprobs=[0.0] * len(response))
        )
    return trajectory


@given(seed=st.integers(0, 10_000), context=st.sampled_from(["full", "window"]), shared=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_tokens_in_tokens_out_every_sampled_token_is_a_target_exactly_once(seed: int, context: str, shared: int) -> None:
    rng = random.Random(seed)
    prefix = [rng.randrange(5, 60) for _ in range(shared)]
    trajectories = [conversation(rng, rng.randint(0, 5), context, prefix) for _ in range(4)]
    rows = Experience.of(trajectories).rows()
    sampled = [i for t in trajectories for s in t.steps for i in s.response_ids]
    assert [number for row in rows for number in row.tokens] == list(range(len(sampled)))
    assert [i for row in rows for i in row.ids[row.targets].tolist()] == sampled
    whole = [i for t in trajectories for s in t.steps for i in (*s.prompt_ids, *s.response_ids)]
    assert [i for row in rows for i in row.ids.tolist()] == whole
    for row in rows:
        ((before, ids),) = row.predicted
        assert row.texts[0].tolist() == row.ids.tolist()[: row.targets[-1]]
        assert (before + 1).tolist() == row.targets
        assert ids.tolist() == row.ids[row.targets].tolist()


def test_a_conversation_is_one_row_and_a_step_with_a_prompt_of_its_own_is_one() -> None:
    for context, expected in (("full", 3), ("window", 21)):
        trajectories = [conversation(random.Random(i), 7, context) for i in range(3)]
        rows = Experience.of(trajectories).rows()
        assert len(rows) == expected
        assert sum(len(r) for r in rows) == sum(len(s.prompt_ids) + len(s.response_ids) for t in trajectories for s in t.steps)
        assert (rebuild_tokens(trajectories) > 3 * sum(len(r) for r in rows)) == (context == "full")


def test_rows_of_some_episodes_are_those_of_an_experience_that_holds_no_others() -> None:
    rng = random.Random(2)
    trajectories = [conversation(rng, 4, "window") for i in range(5)]
    trajectories.insert(2, conversation(rng, 3))
    whole, members = Experience.of(trajectories), [1, 2, 4]
    alone = Experience.of([trajectories[m] for m in members])
    numbers = whole.numbers(members).tolist()
    for found, expected in zip(whole.rows(members), alone.rows(), strict=True):
        assert (found.ids.tolist(), found.targets) == (expected.ids.tolist(), expected.targets)
        assert found.tokens == [numbers[token] for token in expected.tokens]
