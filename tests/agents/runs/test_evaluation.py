"""How uncertain a success rate is: several episodes of a task tell less than those of as many tasks."""

from __future__ import annotations

import numpy as np
import pytest

from agents.runs.evaluation import rate, spread, wilson
from envs.trajectory import Trajectory


def repeats(won: list[list[int]]) -> list[list[Trajectory]]:
    """[R][T] episodes that are won or lost."""
    return [[Trajectory("e", f"task {n}", "g", 0, "eval", success=bool(one)) for n, one in enumerate(row)] for row in won]


def pooled(won: list[list[int]]) -> list[Trajectory]:
    return [one for played in repeats(won) for one in played]


def test_one_episode_a_task_counts_as_one() -> None:
    found = rate(pooled([[1, 0, 0, 1]]))
    assert found.independent == 4
    assert found.interval == wilson(2, 4)


def test_repeats_that_end_alike_add_nothing_and_repeats_that_are_all_chance_count_whole() -> None:
    alike = rate(pooled([[1, 0, 0, 1, 0]] * 3))
    assert (alike.episodes, alike.independent) == (15, 5)
    assert alike.interval == wilson(2, 5)
    chance = rate(pooled([[1, 0], [0, 1]]))
    assert (chance.independent, chance.interval) == (4, wilson(2, 4))


@pytest.mark.parametrize("won", [0, 1])
def test_where_all_episodes_end_alike_only_tasks_count(won: int) -> None:
    assert rate(pooled([[won] * 4] * 3)).interval == wilson(4 * won, 4)


def test_intervals_of_repeated_tasks_hold_the_rate_as_often_as_they_promise() -> None:
    """Tasks whose chances differ much."""
    rng, held, plain = np.random.default_rng(0), 0, 0
    for _ in range(300):
        won = (rng.random((4, 40)) < rng.beta(0.4, 0.6, 40)).astype(int)
        low, high = rate(pooled(won.tolist())).interval
        held += low <= 0.4 <= high
        low, high = wilson(int(won.sum()), won.size)
        plain += low <= 0.4 <= high
    assert held / 300 > 0.92
    assert plain / 300 < 0.85, "or every episode could count as if it were of another task"


def test_the_spread_tells_seeds_from_tasks() -> None:
    """Against the standard deviations of many experiments with the same tasks, and with others."""
    rng = np.random.default_rng(0)
    chance = rng.beta(0.5, 0.5, 50)
    found = [spread(repeats((rng.random((3, 50)) < chance).astype(int).tolist())) for _ in range(200)]
    rates = np.array([one.by_seed for one in found])
    assert rates.std() == pytest.approx(np.mean([one.of_seeds for one in found]), rel=0.1)
    assert chance.std(ddof=1) / 50**0.5 == pytest.approx(np.mean([one.of_tasks for one in found]), rel=0.1)


def test_one_repeat_does_not_tell_seeds_from_tasks() -> None:
    found = spread(repeats([[1, 0, 1]]))
    assert (found.by_seed, found.of_seeds, found.of_tasks) == ([pytest.approx(2 / 3)], None, None)
