"""The shop's search: which products a query finds, in which order, exactly as the official shop answers.

A catalogue is indexed once; the index lies in a cache folder that all processes map and none copies. Terms are made in
`analyzer`, scores in `lucene`. One index serves every size of catalogue.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envs.base import TaskError
from envs.webshop.products import Catalogue, Product
from envs.webshop.search.lucene import VERSION, Index, build

__all__ = ["Index", "document", "open_index"]


def document(product: Product) -> str:
    """What is searched of a product: title, description, first bullet and options, in lower case."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options.items())
    return " ".join((product.title, product.description, *product.bullets[:1], options)).lower()


def open_index(catalogue: Catalogue, cache: Path) -> Index:
    """The catalogue's index below `cache`; built if it is not there yet, or damaged.

    Of processes that need it at once, one builds and the others wait. Raises TaskError if the cache cannot be written.
    """
    folder = cache / f"lucene-{VERSION}-{catalogue.hash}"
    try:
        return Index(folder)
    except (OSError, ValueError):  # not there, or damaged
        pass
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            try:
                return Index(folder)  # built while this process waited
            except (OSError, ValueError):
                _build(folder, catalogue)
            return Index(folder)
    except OSError as error:
        raise TaskError(
            f"{folder}: the search index of {len(catalogue):,} products cannot be written ({error}); "
            "free some space, or set STEPCREDIT_CACHE to a folder that can be written"
        ) from None


def _build(folder: Path, catalogue: Catalogue) -> None:
    """Puts a whole index in the place of whatever is there."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was killed
    unfinished.mkdir()
    try:
        build(unfinished, ((product.asin, document(product)) for product in catalogue))
        for file in unfinished.iterdir():  # on the disk before the name is: a crash leaves all or nothing
            with file.open("rb") as written:
                os.fsync(written.fileno())
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a lock that other processes wait for; it is let go even if this one is killed."""
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
