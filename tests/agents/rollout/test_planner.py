"""What an iteration plays: groups without a difference are replaced, greedy episodes come one a group, all by seed and number.

Outcomes are set by the tests, so that groups are alike or not as wanted; real episodes are played in other tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from agents.config import loading
from agents.config.sections import RolloutConfig, TrainConfig
from agents.rollout.planner import Played, TrainingEpisodes, returns_alike
from agents.rollout.sampler import Episode
from envs.trajectory import Step, Trajectory

PANEL = [f"task {i}" for i in range(40)]
CONFIG = loading.load(["env=alfworld"])
assert isinstance(CONFIG, TrainConfig)


class Parts:
    """Plays an episode by asking `outcome` for its return; None: a fault."""

    def __init__(self, outcome: Callable[[Episode, int], float | None]) -> None:
        self.outcome, self.temperatures = outcome, []  # type: ignore[var-annotated]

    def rollout(self, temperature: float, ended: Callable[[Trajectory], None]) -> Any:
        self.temperatures.append(temperature)
        return SimpleNamespace(ended=ended, retried=0)

    def play(self, rollout: Any, episodes: Sequence[Episode]) -> list[Trajectory]:
        played = []
        for member, episode in enumerate(episodes):
            reward = self.outcome(episode, member)
            trajectory = Trajectory("env", episode.task_id, episode.group_id, episode.seed, episode.split)
            trajectory.steps = [Step("", "", reward or 0.0)]
            trajectory.error = "timeout" if reward is None else None
            rollout.ended(trajectory)
            played.append(trajectory)
        return played


def play(outcome: Callable[[Episode, int], float | None], iteration: int = 1, greedy: bool = False, **rollout: int) -> Played:
    config = replace(CONFIG, rollout=RolloutConfig(groups=5, group_size=2, **rollout))
    trackers: Any = SimpleNamespace(progress=lambda *a, **k: None)
    parts: Any = Parts(outcome)
    return TrainingEpisodes(parts, config, PANEL, trackers, greedy).play(iteration)


def differs(episode: Episode, member: int) -> float:
    return float(member % 2)


def only_even_tasks_differ(episode: Episode, member: int) -> float:
    return float(member % 2) if int(episode.task_id.split()[1]) % 2 == 0 else 1.0


def groups(trajectories: list[Trajectory]) -> list[list[Trajectory]]:
    return [trajectories[i : i + 2] for i in range(0, len(trajectories), 2)]


def test_without_resampling_groups_that_are_alike_stay() -> None:
    played = play(lambda episode, member: 1.0)
    assert len(played.trajectories) == 10
    assert not played.dropped


def test_groups_that_are_alike_are_replaced_by_other_tasks() -> None:
    played = play(only_even_tasks_differ, resample=20)
    assert len(played.trajectories) == 10
    assert not any(returns_alike(group) for group in groups(played.trajectories))
    assert played.dropped
    assert all(returns_alike(group) for group in groups(played.dropped))
    assert len({t.group_id for t in played.all}) == len(played.all) / 2


def test_where_every_group_is_alike_the_rounds_end_and_nothing_is_missing() -> None:
    played = play(lambda episode, member: 0.0, resample=3)
    assert len(played.trajectories) == 10
    assert len(played.dropped) == 30


def test_resampling_stops_when_enough_groups_differ() -> None:
    played = play(differs, resample=3)
    assert not played.dropped


def test_it_is_a_function_of_seed_and_iteration() -> None:
    def ids(iteration: int) -> list[tuple[str, str, int]]:
        return [(t.task_id, t.group_id, t.seed) for t in play(only_even_tasks_differ, iteration, resample=4).all]

    assert ids(3) == ids(3)
    assert ids(3) != ids(4)


def test_a_greedy_episode_is_played_for_each_group_in_the_same_surroundings() -> None:
    played = play(differs, greedy=True)
    assert len(played.greedy) == 5
    assert [(t.group_id, t.task_id, t.seed) for t in played.greedy] == [
        (f"{group[0].group_id}+greedy", group[0].task_id, group[0].seed) for group in groups(played.trajectories)
    ]


def test_a_pass_over_the_panel_comes_before_a_task_comes_again() -> None:
    parts: Any = Parts(differs)
    config = replace(CONFIG, rollout=RolloutConfig(groups=8, group_size=2))
    episodes = TrainingEpisodes(parts, config, PANEL, None, False)  # type: ignore[arg-type]
    assert sorted(task for iteration in range(1, 6) for task in episodes.tasks(iteration)) == sorted(PANEL)


@pytest.mark.parametrize(("returns", "alike"), [([1, 1], True), ([0, 1], False), ([1, None], True), ([None, None], True)])
def test_episodes_cut_off_by_a_fault_make_no_difference(returns: list[float | None], alike: bool) -> None:
    found = Parts(lambda episode, member: returns[member]).play(
        SimpleNamespace(ended=lambda t: None), [Episode("t", "g", 0, i, "train") for i in range(2)]
    )
    assert returns_alike(found) == alike
