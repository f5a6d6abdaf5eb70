"""Where products and goals are kept: a catalogue in memory, or a folder that all processes map and none copies.

A store holds products.jsonl and goals.jsonl, one record a line; where each line begins; a sorted table of article numbers; and
meta.json, which says how long each of these files is, so that a store that was cut off is refused. It is written once, by
`scripts/webshop_store.py`. Where products come from is left to others.
"""

from __future__ import annotations

import hashlib
import mmap
import reprlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import orjson

from envs.base import TaskError
from envs.common import disk
from envs.webshop.products import Goal, Product

T = TypeVar("T")

FORMAT = 1
"""Raised with every change of the files' layout."""
HOT_PRODUCTS = 512
"""Products that a process keeps decoded."""

_META = "meta.json"
_ASINS = "asins.npy"
"""[products] article numbers, sorted, as ASCII padded with zeros."""
_PLACES = "places.npy"
"""[products] the product's place in the catalogue, for each of the sorted numbers."""
_PRODUCTS = "products"
_GOALS = "goals"
_PARTS = tuple(sorted((_ASINS, _PLACES, *(f"{name}.{end}" for name in (_PRODUCTS, _GOALS) for end in ("jsonl", "npy")))))
"""All files of a store but meta.json."""
_ASIN_BYTES = 10
_HOW_TO_WRITE = "write it with `python scripts/webshop_store.py --data DIR --out DIR`"


class ListCatalogue:
    """Products in memory, as a `Catalogue`."""

    hash: str

    def __init__(self, products: Iterable[Product]) -> None:
        self._products = list(products)
        self._places = {product.asin: place for place, product in enumerate(self._products)}
        for place, product in enumerate(self._products):
            if self._places[product.asin] != place:
                raise TaskError(f"article number '{product.asin}' stands for two products; expected each number once")
        self.hash = content_hash(self._products)

    def __len__(self) -> int:
        return len(self._products)

    def __getitem__(self, index: int) -> Product:
        return self._products[index]

    def __iter__(self) -> Iterator[Product]:
        return iter(self._products)

    def index(self, asin: str) -> int | None:
        """Place of an article number, or None if there is no such article."""
        return self._places.get(asin)


class Store:
    """A folder of products and goals, as a `Catalogue`: read-only, in memory that all processes share.

    Raises TaskError if the folder is no store, or one that was cut off or has another format.
    """

    hash: str
    goals: Sequence[Goal]
    goals_hash: str
    """16 hex digits: equal hashes mean equal goals in equal order."""

    def __init__(self, folder: Path) -> None:
        meta = _read_meta(folder)
        self.hash, self.goals_hash = meta["hash"], meta["goals_hash"]
        self.goals = _Records(folder, _GOALS, _goal)
        self._products = _Records(folder, _PRODUCTS, _product)
        self._asins = _mapped(folder / _ASINS)
        self._places = _mapped(folder / _PLACES)
        self._hot = lru_cache(HOT_PRODUCTS)(self._products.__getitem__)

    @staticmethod
    def is_store(folder: Path) -> bool:
        """Whether the folder says that it is a store; opening it finds out if it is a whole one."""
        return (folder / _META).is_file()

    def __len__(self) -> int:
        return len(self._products)

    def __getitem__(self, index: int) -> Product:
        return self._hot(index)

    def __iter__(self) -> Iterator[Product]:
        return iter(self._products)

    def index(self, asin: str) -> int | None:
        """Place of an article number, or None if there is no such article."""
        if not _is_number(asin):
            return None
        number = np.array(asin.encode(), dtype=self._asins.dtype)
        row = int(np.searchsorted(self._asins, number))
        return int(self._places[row]) if row < len(self._asins) and self._asins[row] == number else None


class _Records(Sequence[T]):
    """Records of a file, one a line, each read when it is asked for."""

    def __init__(self, folder: Path, name: str, decode: Callable[[dict[str, Any]], T]) -> None:
        self._file, starts = _files(folder, name)
        self._starts = _mapped(starts)
        self._decode = decode
        with self._file.open("rb") as lines:
            self._bytes = mmap.mmap(lines.fileno(), 0, access=mmap.ACCESS_READ) if len(self) else b""

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        try:
            return self._decode(orjson.loads(self._bytes[self._starts[number] : self._starts[number + 1]]))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise TaskError(f"{self._file}, line {number + 1}: broken ({error}); {_HOW_TO_WRITE} --force") from None


def _mapped(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise TaskError(f"{file}: broken ({error}); {_HOW_TO_WRITE} --force") from None


def content_hash(records: Iterable[Product] | Iterable[Goal]) -> str:
    """16 hex digits: equal hashes mean equal products (or goals) in equal order."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(_encoded(record))
    return digest.hexdigest()[:16]


# -- writing -------------------------------------------------------------------------------------------------------------------


def write(folder: Path, products: Iterable[Product], goals: Iterable[Goal], replace: bool = False) -> None:
    """Write a store; each record is let go once it is written. `goals` are taken after all products.

    The folder is there in full or not at all. Raises TaskError if it is there already; `replace` puts the new store in place of
    an old one, which processes that have it open go on reading.
    """
    folder = Path(folder)
    if folder.exists() and not (replace and Store.is_store(folder)):
        found = (
            "is there and is no store: name another folder" if replace else "is there already: name another folder, or --force"
        )
        raise TaskError(f"{folder} {found}")
    disk.folder(folder.absolute().parent)
    with disk.aside(folder) as unfinished:
        unfinished.mkdir()
        _write(unfinished, products, goals)


def _write(folder: Path, products: Iterable[Product], goals: Iterable[Goal]) -> None:
    asins = bytearray()
    product_count, product_hash = _write_records(folder, _PRODUCTS, _numbered(products, asins))
    goal_count, goal_hash = _write_records(folder, _GOALS, goals)
    unsorted = np.frombuffer(bytes(asins), dtype=f"S{_ASIN_BYTES}")
    places = np.argsort(unsorted, kind="stable")
    table = unsorted[places]
    twice = np.flatnonzero(table[1:] == table[:-1])
    if len(twice):
        raise TaskError(f"article number '{table[twice[0]].decode()}' stands for two products; expected each number once")
    np.save(folder / _ASINS, table)
    np.save(folder / _PLACES, places.astype(np.int32))
    sizes = {part: (folder / part).stat().st_size for part in _PARTS}
    counts = {"products": product_count, "goals": goal_count}
    meta = {"format": FORMAT, **counts, "hash": product_hash, "goals_hash": goal_hash, "bytes": sizes}
    (folder / _META).write_bytes(orjson.dumps(meta, option=orjson.OPT_INDENT_2))


def _numbered(products: Iterable[Product], asins: bytearray) -> Iterator[Product]:
    """The products; their numbers are added to `asins`, each in ten bytes."""
    for product in products:
        if not _is_number(product.asin):
            raise TaskError(f"article number '{product.asin}': expected at most {_ASIN_BYTES} letters and digits")
        asins += product.asin.encode().ljust(_ASIN_BYTES, b"\0")
        yield product


def _write_records(folder: Path, name: str, records: Iterable[Product] | Iterable[Goal]) -> tuple[int, str]:
    """Writes lines and where they begin; returns their number and hash."""
    file, starts_file = _files(folder, name)
    digest, starts = hashlib.sha256(), array("q", [0])
    with file.open("wb") as lines:
        for record in records:
            line = _encoded(record)
            digest.update(line)
            starts.append(starts[-1] + lines.write(line))
    np.save(starts_file, np.frombuffer(starts, dtype=np.int64))
    return len(starts) - 1, digest.hexdigest()[:16]


# -- format --------------------------------------------------------------------------------------------------------------------


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    """Lines, and where they begin: [records + 1] bytes from the file's start."""
    return folder / f"{name}.jsonl", folder / f"{name}.npy"


def _is_number(asin: str) -> bool:
    return asin.isascii() and asin.isalnum() and len(asin) <= _ASIN_BYTES


def _encoded(record: Product | Goal) -> bytes:
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        raise TaskError(f"{type(record).__name__} with asin '{record.asin}' cannot be written ({error})") from None


def _product(record: dict[str, Any]) -> Product:
    for key in ("bullets", "attributes", "nouns"):
        record[key] = tuple(record[key])
    record["options"] = {name: tuple(values) for name, values in record["options"].items()}
    return Product(**record)


def _goal(record: dict[str, Any]) -> Goal:
    record["attributes"] = tuple(record["attributes"])
    if isinstance(record["options"], list):
        record["options"] = tuple(record["options"])
    return Goal(**record)


def _read_meta(folder: Path) -> dict[str, Any]:
    """What meta.json says, once it has been found true of the folder."""
    try:
        found = orjson.loads((folder / _META).read_bytes())
        meta = {key: found[key] for key in ("format", "bytes", "hash", "goals_hash")}
    except OSError as error:
        raise TaskError(f"{folder}: no store there ({_META}: {error.strerror}); {_HOW_TO_WRITE}") from None
    except (ValueError, TypeError, LookupError) as error:
        raise TaskError(f"{folder / _META}: broken ({error}); {_HOW_TO_WRITE} --force") from None
    if meta["format"] != FORMAT:
        raise TaskError(f"{folder / _META}: format {meta['format']} is not read here, only {FORMAT}; {_HOW_TO_WRITE} --force")
    sizes = meta["bytes"]
    if not isinstance(sizes, dict) or set(sizes) != set(_PARTS) or not all(isinstance(size, int) for size in sizes.values()):
        raise TaskError(
            f"{folder / _META}: 'bytes' is {reprlib.repr(sizes)}; expected the lengths of {', '.join(_PARTS)}; "
            f"{_HOW_TO_WRITE} --force"
        )
    for part, size in sizes.items():
        file = folder / part
        length = file.stat().st_size if file.is_file() else 0
        if length != size:
            raise TaskError(f"{file}: has {length:,} bytes of {size:,}: cut off or changed; {_HOW_TO_WRITE} --force")
    return meta
