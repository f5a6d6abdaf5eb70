"""WebShop as an environment: it keeps the contract, pays as configured, and its splits mean the same goals everywhere."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import envs
from envs.base import SPLITS, TaskError
from envs.checker import check
from envs.common.structured import ConfigError
from envs.pool import Mode, Pool
from envs.webshop import store, tasks
from envs.webshop.config import WebShopConfig
from envs.webshop.env import WebShopEnv
from envs.webshop.oracle import wanted_options
from envs.webshop.subgoals import NAMES
from tests.envs.webshop.shops import ODD, PRODUCTS, SHIRT, goal

SMALL = WebShopConfig(products=60)


def shopping(config: WebShopConfig = SMALL, place: int = 0) -> tuple[WebShopEnv, list[str]]:
    """An environment at the start of a train task, and the oracle's actions in it."""
    env = WebShopEnv(config)
    task = env.tasks("train")[place]
    actions = env.demonstration(task, np.random.default_rng(0))
    env.reset(seed=0, options={"task": task})
    return env, actions


def test_it_is_made_by_name_and_by_gymnasium() -> None:
    for env in (
        envs.make("webshop", products=60, max_steps=7),
        gymnasium.make("stepcredit/WebShop-v0", products=60, max_steps=7),
    ):
        observation, info = env.reset(seed=3)
        assert observation.startswith("WebShop [SEP] Instruction: [SEP] Find me ")
        assert info["task_id"].startswith("goal/")
        assert (env.unwrapped.max_steps, env.unwrapped.name) == (7, "webshop")  # type: ignore[attr-defined]


def test_it_keeps_the_contract_of_environments() -> None:
    assert check("webshop") == []


def test_the_right_purchase_ends_the_episode_with_the_reward_and_all_subgoals() -> None:
    env, actions = shopping(WebShopConfig(products=60, success_reward=3.0))
    outcomes = [env.step(action) for action in actions]
    assert [(reward, terminated) for _, reward, terminated, _, _ in outcomes[:-1]] == [(0.0, False)] * (len(actions) - 1)
    _, reward, terminated, truncated, info = outcomes[-1]
    assert (reward, terminated, truncated, info["success"], info["score"]) == (3.0, True, False, True, 1.0)
    assert info["subgoals"] == NAMES


@pytest.mark.parametrize(("pays", "paid"), [("success", 0.0), ("score", 1.0)])
def test_a_purchase_that_is_half_right_pays_its_score_only_where_scores_are_paid(pays: str, paid: float) -> None:
    env, actions = shopping(WebShopConfig(products=60, pays=pays))  # type: ignore[arg-type]
    right = next(product for product in env.shop.products if f"click[{product.asin.lower()}]" in actions)
    options = [f"click[{value}]" for value in wanted_options(env.session, right).values()]
    assert options, "this goal asks for options, which are left out"
    *_, last = [env.step(action) for action in actions if action not in options]
    _, reward, terminated, _, info = last
    assert terminated
    assert not info["success"]
    assert 0 < info["score"] < 1
    assert reward == pytest.approx(paid * 10 * info["score"])


def test_subgoals_are_reached_in_the_order_of_the_visit_and_stay_reached() -> None:
    env, actions = shopping()
    seen = [env.step(action)[4]["subgoals"] for action in [*actions[:-1], "click[back to search]"]]
    assert seen[0][0] == "search"
    assert all(set(earlier) <= set(later) for earlier, later in pairwise(seen))
    assert set(NAMES) - set(seen[-1]) == {"buy"}


def test_every_listed_action_is_possible_and_others_change_nothing() -> None:
    env, actions = shopping()
    for action in ("", *actions[:-1]):
        if action:
            env.step(action)
        session = env.session
        before = session.state_key
        assert not env.step("click[no such thing]")[4]["valid"]
        assert session.state_key == before
    _, info = env.reset(seed=0, options={"task": env.tasks("train")[0]})
    for action in info["admissible_actions"]:
        env.reset(seed=0, options={"task": env.tasks("train")[0]})
        assert env.step(action)[4]["valid"], action


def test_a_value_that_no_action_can_name_is_not_listed(tmp_path: Path) -> None:
    odd = [found for found in PRODUCTS if found.asin in (ODD, SHIRT)]
    store.write(tmp_path / "store", odd, [goal()])
    env = WebShopEnv(WebShopConfig(source="official", data=str(tmp_path / "store")))
    way = ("search[more]", f"click[{ODD}]")
    env.reset(seed=0, options={"task": "goal/000000"})
    listed = [env.step(action)[4]["admissible_actions"] for action in way][-1]
    assert "click[plain]" in listed
    for action in listed:
        env.reset(seed=0, options={"task": "goal/000000"})
        assert [env.step(one)[4]["valid"] for one in (*way, action)][-1], action


def test_equal_states_have_equal_keys_whatever_the_prompt_says() -> None:
    env, actions = shopping()
    direct = env.step(actions[0])[4]["state_key"]
    env.reset(seed=0, options={"task": env.tasks("train")[0]})
    assert env.step(actions[0].upper().replace("SEARCH[", "search["))[4]["state_key"] == direct
    around = [env.step(action)[4]["state_key"] for action in ("click[next >]", "click[< prev]")]
    assert around[1] == direct != around[0]


@pytest.mark.parametrize(
    "config", [{"observation": "text_rich"}, {"observation": "html", "show_attributes": True}, {"reward": "fixed"}]
)
def test_every_form_of_the_shop_can_be_shopped_in(config: dict[str, object]) -> None:
    env, actions = shopping(WebShopConfig(products=60, **config))  # type: ignore[arg-type]
    pages = [env.step(action) for action in actions]
    assert pages[-1][4]["success"]
    assert ("click[attributes]" in pages[1][4]["admissible_actions"]) == ("show_attributes" in config)
    assert len({page for page, *_ in pages}) >= 3


@pytest.mark.parametrize("seed", range(5))
def test_subgoals_are_never_lost_whatever_is_done(seed: int) -> None:
    env, _ = shopping(WebShopConfig(products=60, max_steps=200))
    rng = np.random.default_rng(seed)
    _, info = env.reset(seed=0, options={"task": env.tasks("train")[seed]})
    reached: set[str] = set()
    while True:
        actions = [action for action in info["admissible_actions"] if action != "click[buy now]" or rng.random() < 0.1]
        _, _, terminated, truncated, info = env.step(actions[int(rng.integers(len(actions)))])
        assert reached <= set(info["subgoals"])
        reached = set(info["subgoals"])
        if terminated or truncated:
            break
    assert (reached == set(NAMES)) == info["success"]


def test_running_out_of_time_is_truncated_and_no_success() -> None:
    env, actions = shopping(WebShopConfig(products=60, max_steps=2))
    env.step(actions[0])
    _, reward, terminated, truncated, info = env.step(actions[1])
    assert (reward, terminated, truncated, info["success"], info["reason"]) == (0.0, False, True, False, "time_limit")


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_workers_shop_as_one_does_alone(mode: Mode) -> None:
    async def visit(pool: Pool, task: str) -> list[Any]:
        rng = np.random.default_rng(len(task))
        with pool.slot() as slot:
            seen: list[Any] = [await slot.reset(seed=0, task=task)]
            while len(seen) < 12 and not (len(seen) > 1 and seen[-1][2]):
                actions = seen[-1][-1]["admissible_actions"]
                seen.append(await slot.step(actions[int(rng.integers(len(actions)))]))
            return seen

    async def play(mode: Mode) -> list[Any]:
        async with Pool(partial(WebShopEnv, SMALL), workers=2, mode=mode) as pool:
            return await asyncio.gather(*(visit(pool, task) for task in WebShopEnv(SMALL).tasks("train")[:6]))

    assert asyncio.run(play(mode)) == asyncio.run(play("inline"))


# -- splits --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goals", "ends"), [(12087, (500, 1500)), (6910, (500, 1500)), (4500, (500, 1500)), (4499, (449, 1349)), (13, (1, 3))]
)
def test_splits_are_the_official_ones_or_shares_of_a_small_set(goals: int, ends: tuple[int, int]) -> None:
    test, evaluation = ends
    assert [tasks.share(goals, split) for split in ("test", "eval", "train")] == [
        range(test), range(test, evaluation), range(evaluation, goals),
    ]  # fmt: skip


def test_splits_are_disjoint_and_can_be_cut() -> None:
    env = WebShopEnv(SMALL)
    splits = [env.tasks(split) for split in SPLITS]
    assert len(set().union(*map(set, splits))) == sum(map(len, splits)) == len(env.shop.goals)
    cut = WebShopEnv(WebShopConfig(products=60, eval_goals=5))
    assert cut.tasks("eval") == env.tasks("eval")[:5]
    assert cut.split_hash("eval") != env.split_hash("eval")
    assert cut.split_hash("train") == env.split_hash("train")


def test_no_goal_is_in_two_splits_under_another_number() -> None:
    env = WebShopEnv()
    goals = env.shop.goals
    held_out, trained = (
        {(goals[int(task[5:])].asin, goals[int(task[5:])].instruction) for split in splits for task in env.tasks(split)}  # type: ignore[arg-type]
        for splits in (("eval", "test"), ("train",))
    )
    assert not held_out & trained


def test_the_splits_hash_follows_the_shop_behind_the_numbers() -> None:
    hashes = {
        WebShopEnv(WebShopConfig(products=n, goals=g, test_goals=3)).split_hash("test")
        for n in (60, 61)
        for g in ("synthetic", "human")
    }  # type: ignore[arg-type]
    assert len(hashes) == 4


def test_splits_are_the_same_in_another_process() -> None:
    code = "import envs; e = envs.make('webshop', products=60); print(e.split_hash('train'), e.reset(seed=5)[1]['task_id'])"
    answers = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    env = WebShopEnv(SMALL)
    assert answers == {f"{env.split_hash('train')} {env.reset(seed=5)[1]['task_id']}\n"}


@pytest.mark.parametrize("task", ["goal/999999", "goal/12", "train/000001", "goal/-00001", ""])
def test_an_unknown_task_shows_what_ids_look_like(task: str) -> None:
    with pytest.raises(TaskError, match=r"no task '.*' in a shop with \d+ goals; ids look like 'goal/000042'"):
        WebShopEnv(SMALL).reset(seed=0, options={"task": task})


def test_threads_that_open_a_shop_at_once_get_the_same_one() -> None:
    with ThreadPoolExecutor(4) as threads:
        opened = [threads.submit(lambda: WebShopEnv(WebShopConfig(products=61)).shop) for _ in range(4)]
    assert len({id(one.result()) for one in opened}) == 1


# -- sources -------------------------------------------------------------------------------------------------------------------


def test_missing_data_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    with pytest.raises(TaskError, match=r"neither env\.data nor WEBSHOP_DATA is set.*env\.source=generated needs no data"):
        WebShopEnv(WebShopConfig(source="official")).tasks("train")


def test_settings_that_cannot_be_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"data is '/x', but source=generated reads no files; set source=official"):
        WebShopConfig(data="/x")
    with pytest.raises(ValueError, match="products is 0; it must be at least 1"):
        WebShopConfig(products=0)
    with pytest.raises(ConfigError, match=r"observation is 'txt'; allowed: text, text_rich, html, url\. Did you mean 'text'"):
        envs.make("webshop", observation="txt")


@pytest.mark.data
@pytest.mark.parametrize(("goals", "count"), [("synthetic", 6910), ("human", 13)])
def test_the_official_files_are_played_as_they_are(webshop_data: Path, goals: str, count: int) -> None:
    env = envs.make("webshop", source="official", data=str(webshop_data), products=1000, goals=goals)
    assert isinstance(env, WebShopEnv)
    assert len(env.shop.goals) == count
    task = env.tasks("train")[0]
    env.reset(seed=0, options={"task": task})
    for action in env.demonstration(task, np.random.default_rng(0)):
        info = env.step(action)[4]
    assert info["success"]


@pytest.mark.data
def test_a_store_serves_only_what_it_was_made_of(webshop_data: Path, tmp_path: Path) -> None:
    from envs.webshop import official

    products, wishes = official.read(webshop_data, size=1000, human=True)
    store.write(tmp_path / "store", products, wishes)
    env = WebShopEnv(WebShopConfig(source="official", data=str(tmp_path / "store"), goals="human"))
    files = WebShopEnv(WebShopConfig(source="official", data=str(webshop_data), products=1000, goals="human"))
    assert env.split_hash("train") == files.split_hash("train")
    with pytest.raises(TaskError, match=r"a store of 1000 products with human goals, but env\.goals=synthetic"):
        WebShopEnv(WebShopConfig(source="official", data=str(tmp_path / "store"))).tasks("train")
