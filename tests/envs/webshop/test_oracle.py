"""The oracle: it scores 1.0 by means an agent has, goes astray when told to, and says which goals cannot be met."""

from __future__ import annotations

import numpy as np
import pytest

from envs.base import Unsolvable
from envs.webshop import oracle
from envs.webshop.engine import Session
from envs.webshop.env import WebShopConfig, WebShopEnv
from tests.envs.webshop.shops import CATALOGUE, PLAIN, find, goal, session

SHOP = WebShopConfig(products=100)


def shops(count: int, detours: float, dawdling: bool, config: WebShopConfig = SHOP) -> list[tuple[list[str], bool]]:
    """The oracle's actions on some train goals, and whether they succeed without a time limit."""
    env = WebShopEnv(config)
    env.max_steps = 10_000
    played = []
    for i, task in enumerate(env.tasks("train")[:count]):
        actions = env.demonstration(task, np.random.default_rng(i), detours, dawdling)
        env.reset(seed=0, options={"task": task})
        *_, info = [env.step(action) for action in actions][-1]
        played.append((actions, info["success"]))
    return played


@pytest.mark.parametrize("goals", ["synthetic", "human"])
@pytest.mark.parametrize(("detours", "dawdling"), [(0.0, False), (1.0, False), (0.5, True)])
def test_it_always_scores_one(goals: str, detours: float, dawdling: bool) -> None:
    played = shops(60, detours, dawdling, WebShopConfig(products=100, goals=goals))  # type: ignore[arg-type]
    assert all(success for _, success in played)


def test_detours_and_dawdling_only_make_the_way_longer() -> None:
    straight, astray, idle = (np.mean([len(a) for a, _ in shops(60, *how)]) for how in ((0, False), (1, False), (0, True)))
    assert straight < 6 < astray
    assert idle > straight + 2


def test_it_searches_for_the_title_only_where_the_instruction_finds_nothing() -> None:
    visit = session(goal=goal(instruction="something else"))
    assert oracle.best_query(visit) == "blue cotton shirt for summer"
    nowhere = Session(CATALOGUE, lambda query: [1, 2], goal(), "7")
    with pytest.raises(Unsolvable, match="neither its instruction nor its title finds article B0SHIRT001"):
        oracle.best_query(nowhere)


def test_a_goal_that_cannot_score_one_is_named_with_what_it_scores() -> None:
    impossible = goal(attributes=("long sleeve", "made of gold"))
    with pytest.raises(
        Unsolvable, match=r"goal 7 cannot be met with reward=official: its own article B0SHIRT001 scores 0\.\d+"
    ):
        oracle.demonstration(session(goal=impossible), np.random.default_rng(0), 0.0, False)


def test_options_without_names_are_chosen_by_what_they_score() -> None:
    visit = Session(CATALOGUE, find, goal(options=("blue",)), "7")
    assert oracle.wanted_options(visit) == {"color": "navy blue"}
    assert oracle.wanted_options(Session(CATALOGUE, find, goal(options=()), "7")) == {}
    assert CATALOGUE.index(PLAIN) is not None
