"""Splits of WebShop tasks: which goals train, evaluate and test, by numbers in the shop's own, fixed order of goals."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from envs.base import SPLITS, Split, TaskError
from envs.webshop.config import WebShopConfig
from envs.webshop.shop import Shop, open_shop

OFFICIAL_ENDS = (500, 1500)
"""Where the official test and evaluation goals end; all others train."""

_ID = re.compile(r"goal/([0-9]{6}|[1-9][0-9]{6,8})")


def split_tasks(config: WebShopConfig, split: Split) -> tuple[str, ...]:
    """Task ids of a split, in the order of the goals. Raises TaskError."""
    if split not in SPLITS:
        raise TaskError(f"split is '{split}'; allowed: {', '.join(SPLITS)}")
    count = {"train": config.train_goals, "eval": config.eval_goals, "test": config.test_goals}[split]
    places = share(len(open_shop(config).goals), split)
    return _ids(places if count is None else places[:count])


def share(goals: int, split: Split) -> range:
    """The places of a split's goals: test first, then evaluation, then training, as officially. Of fewer goals than three
    times the official splits a tenth tests and a fifth evaluates."""
    test, evaluation = OFFICIAL_ENDS if goals >= 3 * OFFICIAL_ENDS[1] else (goals // 10, 3 * goals // 10)
    return {"test": range(test), "eval": range(test, evaluation), "train": range(evaluation, goals)}[split]


def split_hash(config: WebShopConfig, split: Split) -> str:
    """16 hex digits over the split's numbers and the content of the shop that they are numbers of."""
    return hashlib.sha256("\n".join([open_shop(config).hash, *split_tasks(config, split)]).encode()).hexdigest()[:16]


def number(shop: Shop, task_id: str) -> int:
    """The place of a task's goal. Raises TaskError."""
    match = _ID.fullmatch(task_id)
    if match is None or int(match.group(1)) >= len(shop.goals):
        raise TaskError(f"no task '{task_id}' in a shop with {len(shop.goals)} goals; ids look like 'goal/000042'")
    return int(match.group(1))


@lru_cache(maxsize=16)
def _ids(places: range) -> tuple[str, ...]:
    return tuple(f"goal/{place:06d}" for place in places)
