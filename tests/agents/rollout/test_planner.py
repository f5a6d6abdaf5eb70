"""What an iteration plays: groups without a difference are replaced, greedy episodes come one a group, all by seed and number.

Outcomes are set by the tests, so that groups are alike or not as wanted; real episodes are played in other tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from agents.rollout.collect import Collected, Group, collect, lost, returns_alike
from agents.rollout.planner import Episode, Planner
from envs.trajectory import Step, Trajectory

TASKS = [f"task {i}" for i in range(40)]


class Outcomes:
    """Plays an episode by asking `outcome` for its return; None: a fault. Groups end in the order opposite to the plan's."""

    def __init__(self, outcome: Callable[[Episode, int], float | None]) -> None:
        self.outcome = outcome

    async def groups(self, episodes: Sequence[Episode], temperature: float, on_episode: Any) -> AsyncIterator[Group]:
        groups: dict[str, Group] = {}
        for member, episode in enumerate(episodes):
            played = self.play(episode, member)
            on_episode(played)
            groups.setdefault(episode.group_id, []).append(played)
        for group in reversed(groups.values()):
            yield group

    def play(self, episode: Episode, member: int) -> Trajectory:
        reward = self.outcome(episode, member)
        played = Trajectory("env", episode.task_id, episode.group_id, episode.seed, episode.split)
        played.steps = [Step("", "", reward or 0.0)]
        played.error = "timeout" if reward is None else None
        return played


def play(
    outcome: Callable[[Episode, int], float | None], iteration: int = 1, greedy: bool = False, rounds: int = 0
) -> Collected:
    sampler: Any = Outcomes(outcome)
    planner = Planner(TASKS, groups=5, group_size=2, seed=0)
    return asyncio.run(collect(planner, sampler, iteration, 1.0, rounds, greedy, lambda episodes: lambda one: None))


def differs(episode: Episode, member: int) -> float:
    return float(member % 2)


def only_even_tasks_differ(episode: Episode, member: int) -> float:
    return float(member % 2) if int(episode.task_id.split()[1]) % 2 == 0 else 1.0


def test_without_resampling_groups_that_are_alike_stay() -> None:
    played = play(lambda episode, member: 1.0)
    assert len(played.learned) == 10
    assert not played.dropped


def test_groups_that_are_alike_are_replaced_by_other_tasks() -> None:
    played = play(only_even_tasks_differ, rounds=20)
    assert len(played.learned) == 10
    assert not any(map(returns_alike, played.groups))
    assert played.dropped
    assert all(map(returns_alike, played.dropped))
    assert len({t.group_id for t in played.all}) == len(played.all) / 2


def test_where_every_group_is_alike_the_rounds_end_and_nothing_is_missing() -> None:
    played = play(lambda episode, member: 0.0, rounds=3)
    assert len(played.learned) == 10
    assert sum(map(len, played.dropped)) == 30


def fails(failing: Callable[[int], bool]) -> Callable[[Episode, int], float | None]:
    """Both episodes of a failing task are cut off by a fault, the second one of every other wins."""
    return lambda episode, member: None if failing(int(episode.task_id.split()[1])) else float(member % 2)


@pytest.mark.fault("all episodes of a group fail", lost="the group, which another task replaces")
@pytest.mark.parametrize("rounds", [0, 1, 9])
def test_a_group_of_which_faults_left_nothing_is_replaced_whether_or_not_others_are(rounds: int) -> None:
    played = play(fails(lambda task: task % 5 == 0), rounds=rounds)
    assert len(played.learned) == 10
    assert all(one.error is None for one in played.learned)
    assert played.dropped
    assert all(lost(group) for group in played.dropped)


@pytest.mark.fault("all episodes of an iteration fail", lost="the iteration's update")
@pytest.mark.parametrize("rounds", [0, 1])
def test_where_every_episode_fails_an_iteration_ends_all_the_same(rounds: int) -> None:
    played = play(fails(lambda task: True), rounds=rounds)
    assert len(played.groups) == 5
    assert all(map(lost, played.groups))


def test_of_what_cannot_be_replaced_groups_that_have_an_episode_come_first() -> None:
    played = play(lambda episode, member: None if int(episode.task_id.split()[1]) % 2 else 1.0, rounds=1)
    assert len(played.groups) == 5
    assert not any(map(lost, played.groups))


def test_resampling_stops_when_enough_groups_differ() -> None:
    played = play(differs, rounds=3)
    assert not played.dropped


def test_it_is_a_function_of_seed_and_iteration() -> None:
    def ids(iteration: int) -> list[tuple[str, str, int]]:
        return [(t.task_id, t.group_id, t.seed) for t in play(only_even_tasks_differ, iteration, rounds=4).all]

    assert ids(3) == ids(3)
    assert ids(3) != ids(4)


def test_a_greedy_episode_is_played_for_each_group_in_the_same_surroundings() -> None:
    played = play(differs, greedy=True)
    assert len(played.greedy) == 5
    assert [(t.group_id, t.task_id, t.seed) for t in played.greedy] == [
        (f"{group[0].group_id}+greedy", group[0].task_id, group[0].seed) for group in played.groups
    ]


def test_a_pass_over_the_split_comes_before_a_task_comes_again() -> None:
    planner = Planner(TASKS, groups=8, group_size=2, seed=0)
    assert sorted(task for iteration in range(1, 6) for task in planner.tasks(iteration)) == sorted(TASKS)


def test_groups_keep_the_order_of_the_plan_whichever_ends_first() -> None:
    played = play(differs)
    assert [group[0].group_id for group in played.groups] == [f"train-1-{place}" for place in range(5)]


@pytest.mark.parametrize(("returns", "alike"), [([1, 1], True), ([0, 1], False), ([1, None], True), ([None, None], True)])
def test_episodes_cut_off_by_a_fault_make_no_difference(returns: list[float | None], alike: bool) -> None:
    outcomes = Outcomes(lambda episode, member: returns[member])
    assert returns_alike([outcomes.play(Episode("t", "g", 0, i, "train"), i) for i in range(2)]) == alike
