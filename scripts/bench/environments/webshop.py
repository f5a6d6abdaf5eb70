"""WebShop: how fast visits are, how long a fresh process takes to open the shop, and what one and many processes hold.

A round has a group of episodes for each of some goals, as in training; later rounds have other goals while there are any. The
engine is measured with a search that keeps no answers, and with one that keeps a round's; the others keep what training keeps.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import gymnasium

import envs
from environments import process
from environments.play import Rounds, Row, median_speed, play, pool_speed
from envs.common.cache import cache_folder
from envs.pool import Mode
from envs.webshop import queries, search, tasks
from envs.webshop.config import WebShopConfig
from envs.webshop.engine import Session
from envs.webshop.observation import render
from envs.webshop.shop import Shop, open_shop

GROUP = 8
"""Episodes for a goal."""
MAX_STEPS = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line beside what all environments have."""
    named = [Path(os.environ["WEBSHOP_DATA"])] if os.environ.get("WEBSHOP_DATA") else []
    text = "folders of official files or stores, measured beside the generated shop and called by name (default: WEBSHOP_DATA)"
    parser.add_argument("--data", type=Path, nargs="*", default=named, metavar="DIR", help=text)
    parser.add_argument("--human", action="store_true", help="goals are people's instructions, as in a store made so")
    parser.add_argument("--workers", type=int, default=16, help="processes whose memory is added up (default 16; 0: none)")
    parser.add_argument("--episodes", type=int, default=50, help="episodes of a process before its memory is read (default 50)")


def measure(options: argparse.Namespace) -> dict[str, list[Any]]:
    """Rows by the title of their table. Raises TaskError."""
    goals = "human" if options.human else "synthetic"
    shops: list[tuple[str, dict[str, Any]]] = [("generated", {"goals": goals})]
    shops += [(folder.name, {"goals": goals, "source": "official", "data": str(folder.resolve())}) for folder in options.data]
    speeds: list[Row] = []
    openings: list[process.Opening] = []
    sizes: list[process.Size] = []
    with TemporaryDirectory() as cache:
        os.environ["STEPCREDIT_CACHE"] = cache  # empty, so that the first process has to build the index
        for name, settings in shops:
            first = process.measure(settings, [])
            shop = open_shop(WebShopConfig(**settings))
            source = f"{name}, {len(shop.products):,}"
            task_ids = tasks.split_tasks(WebShopConfig(**settings), "train")
            ids = [task_ids[number % len(task_ids)] for number in range(options.episodes)]
            measured = [process.measure(settings, ids) for _ in range(options.repeats)]
            openings += [process.opening(source, "cold", [first]), process.opening(source, "warm", measured)]
            sizes += process.sizes(source, measured[-1])
            if options.workers:
                sizes.append(process.size_of_workers(source, settings, task_ids, options.workers, options.episodes))
            speeds += _speeds(source, settings, shop, task_ids, options)
    return {"WebShop, one process": speeds, "WebShop, a fresh process": openings, "WebShop, memory": sizes}


def _speeds(
    source: str, settings: dict[str, Any], shop: Shop, task_ids: Sequence[str], options: argparse.Namespace
) -> Iterator[Row]:
    goals, counted = itertools.cycle(task_ids), range(options.repeats + 1)

    def rounds() -> Rounds:
        return [[task for task in itertools.islice(goals, options.number) for _ in range(GROUP)] for _ in counted]

    index = search.open_index(shop.products, cache_folder() / "webshop")
    yield Row(source, "engine, no query known", median_speed(rounds(), partial(_visit, shop, index.search)))
    keeping = median_speed(rounds(), lambda ids: _visit(shop, lru_cache(None)(index.search), ids))
    yield Row(source, "engine, a group's known", keeping)
    settings = settings | {"max_steps": MAX_STEPS}
    for observation in ("text", "text_rich"):
        env = gymnasium.make("stepcredit/WebShop-v0", **settings, observation=observation)
        yield Row(source, f"gymnasium.make, {observation}", median_speed(rounds(), partial(play, env)))
    if options.pool:
        make = partial(envs.make, "webshop", **settings)
        for mode in get_args(Mode):
            yield Row(source, f"pool, {mode}", pool_speed(rounds(), make, mode))


def _visit(shop: Shop, find: Callable[[str], Sequence[int]], ids: Sequence[str]) -> int:
    """A visit for each task with all that can be done and the page's text read at every step; returns the number of steps."""
    steps = 0
    for number, task in enumerate(ids):
        rng = random.Random(f"{task} {number}")
        place = tasks.number(shop, task)
        session = Session(shop.products, find, shop.goals[place], str(place))
        for _ in range(MAX_STEPS):
            possible = [f"click[{text}]" for text in session.clickables if text != "search"]
            if session.page == "search":
                possible = [f"search[{query}]" for query in queries.suggestions(session.goal.instruction)] + possible
            session.act(possible[int(rng.random() * len(possible))])
            render(session.view, "text")
            steps += 1
            if session.page == "done":
                break
    return steps
