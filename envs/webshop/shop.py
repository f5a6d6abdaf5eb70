"""A shop that episodes are played in: products, goals and search, opened once a process and only read.

Three sources: generated from a seed (needs no data), the official files read as they are (small catalogues), and a store that
`scripts/webshop_store.py` made of them, which all processes share.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

from envs.base import TaskError
from envs.common.cache import cache_folder
from envs.webshop import generator, official, search
from envs.webshop.config import WebShopConfig
from envs.webshop.products import Catalogue, Goal
from envs.webshop.store import ListCatalogue, Store, content_hash

KEPT_SEARCHES = 65536
"""Result lists kept in memory: the episodes of a group search for the same things."""

_opening = Lock()
"""Of threads that need a shop at once, one opens it and the others wait."""


@dataclass(frozen=True, slots=True)
class Shop:
    """What all episodes share. Nothing in it changes."""

    products: Catalogue
    goals: Sequence[Goal]
    search: Callable[[str], tuple[int, ...]]
    """Places of up to 50 products for a query, best first."""
    hash: str
    """16 hex digits: equal hashes mean equal products and equal goals in equal order."""


def open_shop(config: WebShopConfig) -> Shop:
    """The shop that a configuration names; every environment of a process gets the same one. Raises TaskError."""
    if config.source == "generated":
        with _opening:
            return _generated(config.products or generator.SIZE, config.goals == "human")
    folder = config.data or os.environ.get("WEBSHOP_DATA")
    if not folder:
        raise TaskError(
            "env.source=official needs the official files, and neither env.data nor WEBSHOP_DATA is set: name the folder with "
            "items_shuffle*.json, or a store made by scripts/webshop_store.py; env.source=generated needs no data"
        )
    with _opening:
        return _official(Path(folder).expanduser().resolve(), config.products, config.goals)


@lru_cache(maxsize=4)
def _generated(size: int, human: bool) -> Shop:
    products = generator.catalogue(size)
    goals = generator.goals(products, human=human)
    return _shop(products, goals, content_hash(goals))


@lru_cache(maxsize=4)
def _official(folder: Path, size: int | None, wording: str) -> Shop:
    if not Store.is_store(folder):
        products, goals = official.read(folder, size, wording == "human")
        return _shop(ListCatalogue(products), goals, content_hash(goals))
    store = Store(folder)
    held = "synthetic" if store.goals and isinstance(store.goals[0].options, dict) else "human"
    if held != wording or size not in (None, len(store)):
        raise TaskError(
            f"{folder} is a store of {len(store)} products with {held} goals, but env.goals={wording} and env.products="
            f"{size or 'null'} are asked for; make another one: scripts/webshop_store.py --size N [--human]"
        )
    return _shop(store, store.goals, store.goals_hash)


def _shop(products: Catalogue, goals: Sequence[Goal], goals_hash: str) -> Shop:
    index = search.open_index(products, cache_folder() / "webshop")
    # An array needs a sixth of a tuple's memory, which counts: every process keeps its own.
    kept = lru_cache(maxsize=KEPT_SEARCHES)(lambda query: array("i", index.search(query)))
    name = hashlib.sha256(f"{products.hash} {goals_hash}".encode()).hexdigest()[:16]
    return Shop(products, goals, lambda query: tuple(kept(query)), name)
