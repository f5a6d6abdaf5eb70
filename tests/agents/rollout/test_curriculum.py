"""A budget of turns or tokens that changes over a training: planned, kept with the episode, and what ends it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agents.config.sections import CurriculumConfig
from agents.judges.measuring.playing import told_by
from agents.rollout.curriculum import UNLIMITED, Budget, Curriculum
from agents.rollout.engines.hf import HFEngine
from agents.rollout.planner import Planner
from agents.runs.evaluation import rate
from envs.pool import Pool
from envs.trajectory import BUDGET, Trajectory
from tests.agents.rollout.test_sampler import CORRIDOR, corridor_policy, episodes, sampler


def play(budget: Budget, n: int = 12) -> list[Trajectory]:
    with Pool(CORRIDOR, mode="inline") as pool:
        planned = [replace(one, budget=budget) for one in episodes(n)]
        return asyncio.run(sampler(HFEngine(corridor_policy()), pool).play(planned, 1.0))


def sizes(curriculum: Curriculum, iterations: int) -> list[int | None]:
    return [curriculum.budget(one).turns for one in range(1, iterations + 1)]


def test_a_budget_goes_from_the_first_to_the_last_and_stays() -> None:
    assert sizes(Curriculum("turns", 20, 10, 6), 8) == [20, 18, 16, 14, 12, 10, 10, 10]
    assert sizes(Curriculum("turns", 10, 20, 3), 4) == [10, 15, 20, 20]
    assert sizes(Curriculum("turns", 64, 4, 5, course="exponential"), 6) == [64, 32, 16, 8, 4, 4]
    assert sizes(Curriculum("turns", 20, 10, 6, every=3), 8) == [20, 20, 20, 14, 14, 14, 10, 10]
    assert sizes(Curriculum("turns", 20, 10, 1), 2) == [20, 10]
    tokens = Curriculum("tokens", 8, 8, 5, enforced=False).budget(3)
    assert (tokens.tokens, tokens.most_tokens, tokens.turns) == (8, None, None)


def test_a_configuration_without_a_unit_has_none_and_a_first_budget_is_the_limit() -> None:
    assert Curriculum.of(CurriculumConfig(), 20, 100) is None
    made = Curriculum.of(CurriculumConfig(unit="turns", last=5), 20, 100)
    assert made == Curriculum("turns", 20, 5, 100)


def test_every_episode_of_an_iteration_is_planned_with_its_budget() -> None:
    planner = Planner(["a", "b", "c"], 2, 2, 0, Curriculum("turns", 9, 3, 4))
    assert {one.budget for one in planner.episodes(2)} == {Budget(7)} == {one.budget for one in planner.group(2)}
    assert {one.budget for one in planner.replacements(4, 0, 2)} == {Budget(3)}
    assert [one.budget for one in planner.greedy([planner.episodes(2)], planner.budget(2))] == [Budget(7)]
    plain = Planner(["a", "b", "c"], 2, 2, 0)
    assert [replace(one, budget=UNLIMITED) for one in planner.episodes(2)] == plain.episodes(2)


def test_an_episode_ends_with_its_turns_and_is_lost_no_fault() -> None:
    free, bound = play(UNLIMITED), play(Budget(turns=3))
    longer = [one for one in free if len(one.steps) > 3]
    assert longer
    for one, other in zip(bound, free, strict=True):
        assert [step.response_ids for step in one.steps] == [step.response_ids for step in other.steps[:3]]
        assert one.turn_budget == 3
        assert (one.cut_off == BUDGET) == (len(other.steps) > 3)
        assert one.success == (other.success and len(other.steps) <= 3)
        assert one.steps[-1].truncated == (one.cut_off is not None)
        assert not any(step.truncated for step in one.steps[:-1])
    found = rate(bound)
    assert (found.faults, found.cut_off[BUDGET]) == (0, len(longer))
    cut = next(one for one in bound if one.cut_off == BUDGET)
    assert told_by(CORRIDOR(), cut).cut_off == BUDGET


def test_a_budget_that_is_only_noted_changes_nothing_else() -> None:
    noted = play(Budget(turns=3, enforced=False))
    assert [replace(one, turn_budget=None) for one in noted] == play(UNLIMITED)
    assert {one.turn_budget for one in noted} == {3}


@pytest.mark.parametrize("most", [1, 2])
def test_an_answer_ends_with_its_tokens(most: int) -> None:
    free, bound = play(UNLIMITED), play(Budget(tokens=most))
    lengths = [len(step.response_ids) for one in bound for step in one.steps]
    assert max(len(step.response_ids) for one in free for step in one.steps) > most
    assert max(lengths) == most
    assert any(step.stop == "length" for one in bound for step in one.steps)
