"""What the policy thinks of true answers: the numbers, and that finding the answer out is what raises them."""

from __future__ import annotations

import random

import numpy as np
import pytest

from agents.config.loading import load
from agents.rollout.collect import Collected
from agents.training.answers import answer_logprobs
from agents.training.credit import Credit
from agents.training.experience import Experience
from agents.training.gathering import gather
from agents.training.learner import Learner
from agents.training.warmstart import warm_start
from envs import registry
from envs.common.structured import ConfigError
from tests.agents.models.models_for_tests import full_logprobs, small_policy
from tests.agents.parts import opened
from tests.agents.training.test_packing import conversation
from tests.envs import toys

registry.register("drawers", "tests/Drawers-v0", "tests.envs.toys:Drawers", toys.DrawersConfig, toys.DrawersPrompt)
DRAWERS = [
    "env=drawers",
    "algo=igpo",
    "model.tiny.hidden=32",
    "model.tiny.intermediate=64",
    "warmstart.steps=60",
    "warmstart.lr=1e-2",
    "warmstart.demonstrations=64",
    "warmstart.detours=0",
    "warmstart.suboptimal_share=0",
    "evaluation.episodes=24",
    "threads=1",
]


@pytest.mark.parametrize("context", ["full", "window"])
@pytest.mark.parametrize("budget", [16, 10_000])
def test_it_is_the_mean_log_probability_of_the_answer_given_where_an_action_was(context: str, budget: int) -> None:
    policy = small_policy()
    played = [conversation(random.Random(seed), 3, context) for seed in range(3)]
    answers = [([7, 8], [9, 10, 11]), ([], []), ([], [12])]
    found = answer_logprobs(Experience.of(played, true_answers=answers), policy, budget, 1.0).tolist()
    for trajectory, (lead, answer) in zip(played, answers):
        read: list[int] = []
        for step in trajectory.steps:
            read = step.prompt_ids if context == "window" else read + step.prompt_ids
            value = found.pop(0)
            if answer:
                expected = full_logprobs(policy, [*read, *lead, *answer])[-len(answer) :].mean()
                assert value == pytest.approx(float(expected), abs=1e-4)
            else:
                assert np.isnan(value)
            read = read if context == "window" else read + step.response_ids
    assert not found


def test_who_gathers_no_answers_is_told() -> None:
    with pytest.raises(ValueError, match="true_answers"):
        answer_logprobs(Experience.of([conversation(random.Random(0), 2)]), small_policy(), 100, 1.0)


def test_the_turn_that_finds_the_answer_out_is_the_one_that_is_credited() -> None:
    """A model that has learned by imitation to say what lay in the drawer."""
    config = load(DRAWERS)
    with opened(config) as parts:
        warm_start(parts.policy, parts.demonstrations(list(parts.env.tasks("train")), 64), config.warmstart, 0, lambda *_: None)
        played = parts.evaluation()
        learner = Learner(parts.policy, config)
        noted = parts.sampler.player.dialogue.noted
        credit = Credit(learner, config, lambda: pytest.fail("no shaping asks for a judge"), noted)
        experience = gather(Collected([played], [], []), 0, config, parts.sampler, parts.env, {"answers"})
        parts.runner.run(credit.assign(experience))
    found, nothing = [], []
    for trajectory in played:
        for step, after in zip(trajectory.steps, trajectory.steps[1:]):
            new = "lies a" in after.observation and "lies a" not in step.observation
            assert step.credit is not None
            (found if new else nothing).append(step.credit["gain"])
    assert len(found) > 5
    assert len(nothing) > 5
    assert np.mean(found) > 0.3 > 0.1 > abs(np.mean(nothing))


def test_environments_without_answers_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"env\.name=alfworld have none.*webshop"):
        load(["env=alfworld", "algo=igpo"])
    with pytest.raises(ConfigError, match=r"env\.name=minihack have none"):
        load(["env=minihack", "algo=igpo_official"])


def test_a_text_is_taken_apart_where_the_answer_begins() -> None:
    with opened(load(DRAWERS)) as parts:
        dialogue = parts.sampler.player.dialogue
        lead, answer = dialogue.answered("red")
        assert [*lead, *answer] == dialogue.spell("answer red", ["answer red", "answer blue"])
        assert len(answer) == 1
        assert dialogue.answered("blue")[0] == lead
