"""The rules know, and err as often as they are told to, the same way every time."""

from __future__ import annotations

import asyncio

import numpy as np

from agents.judges.measuring.measure import confusion
from agents.judges.rules import Rules
from envs.trajectory import Trajectory
from tests.agents.judges.episodes import SUBGOALS, all_moves, episode, step, walk


class Asked(Rules):
    def says(self, episodes: list[Trajectory]) -> list[list[tuple[str, ...]]]:
        return asyncio.run(self.judge(episodes))


def rules(noise: float = 0.0, seed: int = 0) -> Asked:
    return Asked(lambda task: SUBGOALS, noise, seed)


def test_a_step_achieves_what_was_not_reached_before_it() -> None:
    assert rules().says([walk()]) == [[("pick up the key",), (), ("open the door",), ()]]


def test_a_step_that_changed_nothing_is_not_judged() -> None:
    missed = episode(step("A", "north", SUBGOALS, changed=False), step("B", "north", SUBGOALS))
    judge = rules(noise=1.0)
    assert judge.says([missed])[0] == [(), SUBGOALS]
    assert judge.metrics == {"steps": 2.0, "judged": 1.0, "achieved": 2.0}


def test_noise_of_one_turns_every_verdict_around() -> None:
    assert rules(noise=1.0).says([walk()]) == [[("open the door",), (), ("pick up the key",), SUBGOALS]]


def test_noise_is_as_frequent_as_it_is_set() -> None:
    moves = all_moves(2000)
    verdict, label = (
        np.array([[name in steps[0] for name in SUBGOALS] for steps in judge.says(moves)]) for judge in (rules(0.3), rules())
    )
    found = confusion(verdict, label)
    assert abs((found.fp + found.fn) / 4000 - 0.3) < 0.03
    assert abs(found.fn / 2000 - 0.3) < 0.04
    both = (verdict != label).all(axis=1)
    assert abs(both.mean() - 0.3**2) < 0.03, "each subgoal errs by itself"


def test_the_same_move_is_misjudged_every_time_and_not_by_place_or_order() -> None:
    moves = all_moves(50)
    once = rules(0.5).says(moves)
    again = rules(0.5)
    again.says(all_moves(7))
    assert again.says(moves[::-1])[::-1] == once


def test_another_seed_errs_elsewhere() -> None:
    moves = all_moves(50)
    assert rules(0.5, seed=1).says(moves) != rules(0.5, seed=2).says(moves)


def test_a_judge_of_rules_can_be_resumed_and_closed() -> None:
    judge, moves = rules(0.5), all_moves(50)
    before = judge.says(moves)
    resumed = rules(0.5)
    resumed.load_state(judge.state())
    asyncio.run(judge.close())
    assert resumed.says(moves) == before
