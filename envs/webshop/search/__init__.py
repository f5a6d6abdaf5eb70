"""The shop's search: which products a query finds, in which order, exactly as the official shop answers.

A catalogue is indexed once; the index lies in a cache folder, which all processes map and none copies. Terms are made in
`analyzer`, scores in `lucene`. One index serves every size of catalogue.
"""

from __future__ import annotations

from pathlib import Path

from envs.base import TaskError
from envs.common.cache import made
from envs.webshop.products import Catalogue, Product
from envs.webshop.search.lucene import VERSION, Index, build

__all__ = ["Index", "document", "open_index"]


def document(product: Product) -> str:
    """What is searched of a product: title, description, first bullet and options, in lower case."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options.items())
    return " ".join((product.title, product.description, *product.bullets[:1], options)).lower()


def open_index(catalogue: Catalogue, cache: Path) -> Index:
    """The catalogue's index below `cache`; built if it is not there yet, or damaged.

    Raises TaskError if it can be written neither there nor to the folder of temporary files.
    """

    def make(folder: Path) -> None:
        build(folder, ((product.asin, document(product)) for product in catalogue))

    try:
        return Index(made(cache / f"lucene-{VERSION}-{catalogue.hash}", make))
    except OSError as error:
        raise TaskError(
            f"the search index of {len(catalogue):,} products cannot be written ({error}); free some space, or set "
            "STEPCREDIT_CACHE to a folder that can be written"
        ) from None
