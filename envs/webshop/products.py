"""What a shop sells and what a customer is asked to buy: the two structures that everything else here reads.

Field names follow the trade, not the official files; where they differ, the official name stands in the field's line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

NO_PRICE_LIMIT = 1_000_000.0
"""`Goal.price_upper` where the instruction names no price."""


@dataclass(frozen=True, slots=True)
class Product:
    """One article of the catalogue, as its pages show it and as the reward reads it."""

    asin: str
    """Article number: at most ten letters and digits, unique in the catalogue."""
    title: str
    """`name`, `Title`."""
    description: str
    """`full_description`."""
    bullets: tuple[str, ...]
    """`small_description`, `BulletPoints`: the lines of the Features page."""
    department: str
    """`category`: one word, such as beauty or garden."""
    query: str
    """The search phrase under which it was found, lower case."""
    category: str
    """`product_category`: the way from the general to the special, joined by " › "."""  # noqa: RUF001
    price: float
    """What it is sold for; drawn once from the range where the file gives one."""
    price_tag: str
    """What the pages show: "$12.98" or "$17.99 to $23.99"."""
    options: dict[str, tuple[str, ...]]
    """Name of each choice (color, size, ...) and its values, lower case, in the order of the page."""
    attributes: tuple[str, ...]
    """What the reward knows of it: "machine wash", "gluten free", ..."""
    nouns: tuple[str, ...]
    """Nouns of the title, lower case, in order and with repeats; frozen, since taggers differ from version to version."""
    image: str = ""
    """Address of the main picture; nothing here ever fetches it."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What an episode's customer wants. Reward compares the article bought with it."""

    asin: str
    """An article that meets the goal."""
    department: str
    query: str
    category: str
    title: str
    instruction: str
    """What the agent is told, price clause included."""
    attributes: tuple[str, ...]
    options: dict[str, str] | tuple[str, ...]
    """Synthetic goals name the option of each value, human ones only give values."""
    price_upper: float
    """Highest price that counts as met; NO_PRICE_LIMIT where the instruction names none."""
    weight: float = 1.0
    """The official sampling weight."""


class Catalogue(Protocol):
    """Products in a fixed order, read-only: a list in memory, or a file that all processes share."""

    hash: str
    """16 hex digits: equal hashes mean equal products in equal order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Product: ...

    def __iter__(self) -> Iterator[Product]: ...

    def index(self, asin: str) -> int | None:
        """Place of an article number, or None if the shop has no such article."""
