"""Compares our shop with what the official one was recorded to answer: whole episodes, single purchases, experts' trajectories.

Every value that is compared is given as a `Comparison`, equal or not, so that a reader sees how much was compared. Opening the
shop, tables and exit codes are left to `scripts/check_parity.py`.
"""

from __future__ import annotations

import gzip
import re
import reprlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from envs.base import TaskError
from envs.webshop.engine import Session
from envs.webshop.observation import Mode, render
from envs.webshop.products import Goal, Product
from envs.webshop.reward import reward
from envs.webshop.shop import Shop

_PRICE_CLAUSE = re.compile(r", and price lower than [\d.]+ dollars")
_COMPARED_MODES: tuple[Mode, ...] = ("text", "text_rich", "url")
_AROUND = 40
"""Characters shown on both sides of where two texts part."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One value as it was recorded and as it is here."""

    field: str
    where: str
    expected: object
    found: object

    @property
    def equal(self) -> bool:
        return self.expected == self.found

    def __str__(self) -> str:
        expected, found = self.expected, self.found
        if isinstance(expected, str) and isinstance(found, str):  # of long texts only where they part
            same = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
            shown = slice(max(0, same - _AROUND), same + _AROUND)
            expected, found = expected[shown], found[shown]
        return f"{self.where}: {self.field} should be {expected!r}, is {found!r}"


@dataclass(frozen=True, slots=True)
class Recording:
    """Episodes of the official shop."""

    prices: Mapping[str, float]
    """Of every product by asin, as drawn for the recording."""
    human: bool
    """Whether the goals are people's."""
    episodes: list[dict[str, Any]]
    """Each with goal_idx, goal, reward, reward_info, asin, options, price, and steps [{action, text, url, ..}]."""


# -- reading -------------------------------------------------------------------------------------------------------------------

_NUMBER = (int, float)
_Shape = dict[str, type | tuple[type, ...]]
_META: _Shape = {"prices": dict, "human_goals": int}
_EPISODE: _Shape = {
    "goal_idx": int,
    "goal": dict,
    "steps": list,
    "reward": _NUMBER,
    "reward_info": dict,
    "asin": str,
    "options": dict,
    "price": _NUMBER,
}
_PAGE: _Shape = {"action": (str, type(None)), "text": str, "text_rich": str, "url": str, "avail": dict}
_OUTCOME: _Shape = {"action": str, "reward": _NUMBER, "done": bool}
_PURCHASE: _Shape = {
    "goal_idx": int,
    "asin": str,
    "options": dict,
    "price": _NUMBER,
    "price_upper": _NUMBER,
    "reward": _NUMBER,
    "info": dict,
}
_TRAJECTORY: _Shape = {"goal_idx": int, "steps": list, "reward": _NUMBER}


def read_recording(path: Path) -> Recording:
    """Read recorded episodes: JSONL (`.gz` or not), of which the first line is `{"meta": ..}`. Raises TaskError."""
    head, *episodes = _lines(path)
    meta = _checked(head.get("meta"), _META, f"{path}, line 1: meta")
    if not meta["prices"]:
        raise TaskError(f"{path}, line 1: meta: 'prices' is empty; expected the price of every product by asin")
    for number, episode in enumerate(episodes, 2):
        where = f"{path}, line {number}"
        for step, page in enumerate(_checked(episode, _EPISODE, where)["steps"]):
            _checked(page, _PAGE | _OUTCOME if step else _PAGE, f"{where}: step {step}")
            _checked(page["avail"], {"clickables": list}, f"{where}: step {step}: avail")
    return Recording(meta["prices"], bool(meta["human_goals"]), episodes)


def read_purchases(path: Path) -> list[dict[str, Any]]:
    """Read purchases with their rewards: JSONL (`.gz` or not). Raises TaskError."""
    purchases = [_checked(record, _PURCHASE, f"{path}, line {number}") for number, record in enumerate(_lines(path), 1)]
    for number, purchase in enumerate(purchases, 1):
        _checked(purchase["options"], dict.fromkeys(purchase["options"], str), f"{path}, line {number}: options")
    return purchases


def read_trajectories(path: Path) -> list[dict[str, Any]]:
    """Read experts' trajectories: JSONL (`.gz` or not). Raises TaskError."""
    trajectories = [_checked(record, _TRAJECTORY, f"{path}, line {number}") for number, record in enumerate(_lines(path), 1)]
    for number, trajectory in enumerate(trajectories, 1):
        for step, page in enumerate(trajectory["steps"]):
            shape: _Shape = {"action": str} if step else {}
            _checked(page, shape | {"obs": (str, type(None))}, f"{path}, line {number}: step {step}")
    return trajectories


def _lines(path: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as lines:
            for line in lines:
                records.append(orjson.loads(line))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise TaskError(f"{path}, line {len(records) + 1}: cannot be read ({type(error).__name__}: {error})") from None
    if not records:
        raise TaskError(f"{path}: holds no record")
    return [_checked(record, {}, f"{path}, line {number}") for number, record in enumerate(records, 1)]


def _checked(record: Any, shape: _Shape, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise TaskError(f"{where} is {reprlib.repr(record):.60}; expected an object")
    for key, kind in shape.items():
        if not isinstance(record.get(key), kind):
            names = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise TaskError(f"{where}: '{key}' is {reprlib.repr(record.get(key)):.60}; expected {names}")
    return record


# -- comparing -----------------------------------------------------------------------------------------------------------------


def compare_prices(shop: Shop, recording: Recording) -> Iterator[Comparison]:
    """The prices of all products, which are drawn where the catalogue gives a range."""
    yield Comparison("number of products", "catalogue", len(recording.prices), len(shop.products))
    for product in shop.products:
        yield Comparison("prices", product.asin, recording.prices.get(product.asin), product.price)


def replay(shop: Shop, episode: Mapping[str, Any]) -> Iterator[Comparison]:
    """Take the actions of a recorded episode; compare its goal, every page, what can be clicked, and the outcome."""
    number = episode["goal_idx"]
    where = f"goal {number}"
    yield Comparison("goals", where, episode["goal"], official_goal(_goal(shop, number)))
    session = _visit(shop, number)
    for step, recorded in enumerate(episode["steps"]):
        here = f"{where} step {step} ({recorded['action']!r})"
        if step:
            outcome = session.act(recorded["action"])
            yield Comparison("rewards", here, (recorded["reward"], recorded["done"]), (outcome.reward, outcome.done))
        for mode in _COMPARED_MODES:
            yield Comparison(mode, here, recorded[mode], render(session.view, mode))
        available = {"has_search_bar": session.page == "search", "clickables": session.clickables}
        yield Comparison("available actions", here, recorded["avail"], available)
        if session.page == "results":
            listed = recorded["avail"]["clickables"]
            listed = listed[listed.index("next >") + 1 :] if "next >" in listed else []
            yield Comparison("lists of results", here, listed, [product.asin.lower() for product in session.shown])
    outcome_recorded = {key: episode[key] for key in ("reward", "reward_info", "asin", "options", "price")}
    yield Comparison("purchases", where, outcome_recorded, _official_outcome(session))


def score_again(shop: Shop, purchase: Mapping[str, Any]) -> Iterator[Comparison]:
    """Score a recorded purchase again."""
    goal = _goal(shop, purchase["goal_idx"])
    where = f"goal {purchase['goal_idx']}, {purchase['asin']} with {purchase['options']}"
    product, asked_for = (_product(shop, asin, where) for asin in (purchase["asin"], goal.asin))
    total, parts = reward(product, asked_for.nouns, goal, purchase["options"])
    prices = purchase["price"], purchase["price_upper"]
    yield Comparison("prices and bounds", where, prices, (product.price, goal.price_upper))
    yield Comparison("rewards", where, purchase["reward"], total)
    yield Comparison("parts of rewards", where, purchase["info"], parts)


def follow(shop: Shop, trajectory: Mapping[str, Any]) -> Iterator[Comparison]:
    """Take an expert's actions and compare pages and reward. Price bounds are left out: experts had others."""
    session = _visit(shop, trajectory["goal_idx"])
    for step, recorded in enumerate(trajectory["steps"]):
        where = f"goal {trajectory['goal_idx']} step {step} ({recorded.get('action')!r})"
        if step:
            yield Comparison("valid", where, True, session.act(recorded["action"]).valid)
        if recorded["obs"] is not None:  # nothing was written down after the purchase
            expected, found = (_PRICE_CLAUSE.sub("", text) for text in (recorded["obs"], render(session.view, "text")))
            yield Comparison("text", where, expected, found)
    total = session.bought.total if session.bought else None
    yield Comparison("rewards", f"goal {trajectory['goal_idx']}", trajectory["reward"], total)


def _goal(shop: Shop, number: int) -> Goal:
    if not 0 <= number < len(shop.goals):
        raise TaskError(f"goal {number} is not among the shop's {len(shop.goals):,}: the recording was made with other goals")
    return shop.goals[number]


def _product(shop: Shop, asin: str, where: str) -> Product:
    place = shop.products.index(asin)
    if place is None:
        raise TaskError(f"{where}: the shop has no article {asin}: the recording was made with other products")
    return shop.products[place]


def _visit(shop: Shop, number: int) -> Session:
    return Session(shop.products, shop.search, _goal(shop, number), str(number))


def _official_outcome(session: Session) -> dict[str, Any]:
    """What an episode came to, as it is recorded."""
    if session.bought is None or session.product is None:
        return {}
    product, (total, parts) = session.product, session.bought
    purchase = {"asin": product.asin, "options": session.options, "price": product.price}
    return {"reward": total, "reward_info": parts} | purchase


def official_goal(goal: Goal) -> dict[str, Any]:
    """A goal as the official code keeps it."""
    return {
        "asin": goal.asin,
        "category": goal.department,
        "query": goal.query,
        "name": goal.title,
        "product_category": goal.category,
        "instruction_text": goal.instruction,
        "attributes": list(goal.attributes),
        "price_upper": goal.price_upper,
        "goal_options": goal.options if isinstance(goal.options, Mapping) else list(goal.options),
        "weight": goal.weight,
    }
