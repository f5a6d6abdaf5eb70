"""The model of steps: where it reads, that it learns which steps earned a return, and what it depends on."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch

from agents.training.experience import Experience
from agents.training.packing import acted
from agents.training.step_model import StepModel
from algorithms.base import Floats
from algorithms.shaping.progress import Progress
from algorithms.stats import episode_returns
from envs.trajectory import Trajectory
from tests.agents.models.models_for_tests import small_policy
from tests.agents.training.test_packing import conversation
from tests.algorithms.batches import as_batch

TREASURE = 7
contexts = pytest.mark.parametrize("context", ["full", "window"])
both = pytest.mark.parametrize("trains", ["head", "all"])


def episodes(context: str = "full", number: int = 4, steps: int = 3) -> list[Trajectory]:
    return [conversation(random.Random(seed), steps, context) for seed in range(number)]


def model(budget: int = 10_000, seed: int = 0, **settings: object) -> StepModel:
    return StepModel(small_policy(), Progress(**{"hidden": [32], "lr": 1e-2, **settings}), "progress", budget, seed)  # type: ignore[arg-type]


def fit(one: StepModel, played: list[Trajectory], wanted: Floats, epochs: int = 1) -> tuple[Floats, Floats]:
    before, after, _ = one.fit(Experience.of(played), lambda found: found - wanted, epochs)
    return before, after


@contexts
def test_its_rows_end_where_each_response_does(context: str) -> None:
    for trajectory in episodes(context):
        rows = acted(trajectory, first=5)
        assert [number for row in rows for number in row.tokens] == [5, 6, 7]
        read: list[int] = []
        places = iter([(row, target) for row in rows for target in row.targets])
        for step in trajectory.steps:
            read = [*([] if context == "window" else read), *step.prompt_ids, *step.response_ids]
            row, target = next(places)
            assert row.ids[:target].tolist() == read
            assert row.trunk.tolist()[: len(read)] == read


@both
def test_it_begins_without_an_opinion_and_learns_numbers(trains: str) -> None:
    played = episodes()
    wanted = np.random.default_rng(0).normal(size=12)
    before, after = fit(model(trains=trains, lr=1e-3 if trains == "all" else 1e-2), played, wanted, 150)
    assert not before.any()
    assert np.mean((after - wanted) ** 2) < 0.2 * np.var(wanted)


@both
@contexts
def test_micro_batches_change_nothing(trains: str, context: str) -> None:
    wanted = np.random.default_rng(0).normal(size=12)
    small, large = (fit(model(budget, trains=trains), episodes(context), wanted, 3)[1] for budget in (16, 10_000))
    np.testing.assert_allclose(small, large, atol=1e-4)


def test_a_number_is_that_of_the_step_and_what_came_before() -> None:
    one, wanted = model(), np.arange(12.0)
    fit(one, episodes(), wanted, 20)
    numbers = fit(one, episodes(), wanted, 0)[0]
    changed = episodes()
    changed[0].steps[1].response_ids[-1] += 1
    found = fit(one, changed, wanted, 0)[0]
    same = np.isclose(found, numbers, atol=1e-6)
    assert same[0]
    assert not same[1]
    assert same[3:].all()


def test_it_finds_out_which_steps_earned_the_return() -> None:
    """It is told the episodes' returns alone: how many treasures were picked up."""
    rng = random.Random(0)
    played = episodes(number=100, steps=4)
    for trajectory in played:
        for step in trajectory.steps:
            found = rng.random() < 0.3
            step.response_ids[-1] = TREASURE if found else rng.randrange(10, 60)
            step.reward = 0.0
        trajectory.steps[-1].reward = float(sum(step.response_ids[-1] == TREASURE for step in trajectory.steps))
    experience, batch = Experience.of(played), as_batch(played)
    returns, wanted = episode_returns(batch, batch.reward), np.array([s.response_ids[-1] == TREASURE for s in experience.steps])
    one = model(hidden=[], lr=5e-3, trains="all")
    _, after, _ = one.fit(experience, lambda found: 2 * (episode_returns(batch, found) - returns) / len(played), 40)
    assert after[wanted].mean() > 0.8
    assert abs(after[~wanted].mean()) < 0.2


@both
def test_training_the_policy_leaves_it_alone_and_it_goes_on_from_its_saved_state(trains: str) -> None:
    played, wanted = episodes(), np.random.default_rng(0).normal(size=12)
    first, second = model(trains=trains), model(trains=trains, seed=5)
    fit(first, played, wanted, 3)
    with torch.no_grad():
        for p in first.head._policy.model.parameters():
            p.add_(1.0)
    second.load_state(copy.deepcopy(first.state()))
    np.testing.assert_allclose(fit(first, played, wanted, 3), fit(second, played, wanted, 3), atol=1e-6)
