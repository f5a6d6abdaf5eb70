"""The oracle: it scores 1.0 by means an agent has, goes astray when told to, and says which goals cannot be met."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from envs.base import Unsolvable
from envs.webshop import oracle
from envs.webshop.config import WebShopConfig
from envs.webshop.engine import Session
from envs.webshop.env import WebShopEnv
from scripts import webshop_bounds
from tests.envs.webshop.shops import CATALOGUE, PLAIN, SHIRT, TEA, find, goal, session

SHOP = WebShopConfig(products=100)


def shops(count: int, detours: float, suboptimal: bool, config: WebShopConfig = SHOP) -> list[tuple[list[str], bool]]:
    """The oracle's actions on some train goals, and whether they succeed without a time limit."""
    env = WebShopEnv(config)
    env.max_steps = 10_000
    played = []
    for i, task in enumerate(env.tasks("train")[:count]):
        actions = env.imperfect_demonstration(task, np.random.default_rng(i), detours, suboptimal)
        env.reset(seed=0, options={"task": task})
        *_, info = [env.step(action) for action in actions][-1]
        played.append((actions, info["success"]))
    return played


@pytest.mark.parametrize("goals", ["synthetic", "human"])
@pytest.mark.parametrize(("detours", "suboptimal"), [(0.0, False), (1.0, False), (0.5, True)])
def test_it_always_scores_one(goals: str, detours: float, suboptimal: bool) -> None:
    played = shops(60, detours, suboptimal, WebShopConfig(products=100, goals=goals))  # type: ignore[arg-type]
    assert all(success for _, success in played)


def test_detours_and_dawdling_only_make_the_way_longer() -> None:
    straight, astray, idle = (np.mean([len(a) for a, _ in shops(60, *how)]) for how in ((0, False), (1, False), (0, True)))
    assert straight < 6 < astray
    assert idle > straight + 2


def test_it_searches_for_the_title_only_where_the_instruction_finds_nothing() -> None:
    assert oracle.best_query(session(goal=goal(instruction="something else"))) == ("blue cotton shirt for summer", 0)
    nowhere = Session(CATALOGUE, lambda query: [1, 2], goal(), "7")
    with pytest.raises(Unsolvable, match="neither its instruction nor its title finds an article that scores"):
        oracle.best_query(nowhere)


def test_it_buys_the_first_article_that_will_do_and_looks_at_those_above_on_detours() -> None:
    plain = goal(asin=PLAIN, title="Thing", category="Home › Things", query="things", attributes=("thing",), options={})  # noqa: RUF001
    straight, astray = (
        oracle.demonstration(
            Session(CATALOGUE, lambda query: [0, 1, 3, 4], plain, "7"), np.random.default_rng(0), detours, False
        )
        for detours in (0.0, 1.0)
    )
    assert straight[-2:] == [f"click[{PLAIN.lower()}]", "click[buy now]"]
    looks = [action for action in astray if action.startswith("click[b0")]
    assert looks == [f"click[{asin.lower()}]" for asin in (SHIRT, TEA, PLAIN)]


def test_a_goal_that_no_article_meets_is_named() -> None:
    impossible = goal(attributes=("long sleeve", "made of gold"))
    with pytest.raises(Unsolvable, match=r"goal 7 cannot be met with reward=official"):
        oracle.demonstration(session(goal=impossible), np.random.default_rng(0), 0.0, False)


def test_options_without_names_are_chosen_by_what_they_score() -> None:
    shirt = CATALOGUE[0]
    assert oracle.wanted_options(Session(CATALOGUE, find, goal(options=("blue",)), "7"), shirt) == {"color": "navy blue"}
    assert oracle.wanted_options(Session(CATALOGUE, find, goal(options=()), "7"), shirt) == {}


def test_one_who_dawdles_needs_no_words_to_search_for() -> None:
    for seed in range(20):  # in some of them something needless is done on the search page
        assert "click[buy now]" in oracle.demonstration(
            session(goal=goal(instruction="")), np.random.default_rng(seed), 0.0, suboptimal=True
        )


def test_bounds_are_the_oracles_share_and_that_of_the_first_result(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert webshop_bounds.main(["--split", "test", "--goals", "12"]) == 0
    shown = capsys.readouterr().out
    assert "12 (1.000)" in shown
    env = WebShopEnv()
    tasks = env.tasks("test")[:12]
    simple = [task for task in tasks if webshop_bounds.first_result_scores(env, task)]
    assert f"{len(simple)} ({len(simple) / 12:.3f})" in shown
    assert 0 < len(simple) < 12
    assert webshop_bounds.oracle_steps(WebShopEnv(WebShopConfig(max_steps=2)), tasks[0]) is None
    assert webshop_bounds.main(["--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
