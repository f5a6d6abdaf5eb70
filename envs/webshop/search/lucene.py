"""BM25 over an inverted index in memory-mapped arrays, ranked as Anserini 0.22.1 (Lucene 9.5) ranks, to the last bit.

A score is the sum over the query's terms of w - w / (1 + f / n), where w is the term's idf times its count in the query, f its
count in the document, and n = k1 * (1 - b + b * length / average length). Lucene rounds all of that to float32 and sums in
float64; so it is done here, in Lucene's order. Lengths are rounded as Lucene stores them, in a byte. Equal scores: the smaller
article number first, as Anserini has it.

1 + f / n is stored for each posting, so that a query only divides, subtracts and adds. What the terms of a text are is left to
`analyzer`; where the folder lies and how it comes to be there in one piece, to the package.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from envs.webshop.search.analyzer import terms

VERSION = 1
"""Raised with every change of the terms, the scores or the files."""
K1, B = np.float32(0.9), np.float32(0.4)

_ONE = np.float32(1)
_BLOCK = 1 << 15
"""Documents whose postings are sorted at a time."""
_PART = 64
"""Scores of which the best is taken for a bound."""


class Index:
    """A folder that `build` has written, opened read-only. Raises OSError if a file is absent."""

    def __init__(self, folder: Path) -> None:
        # [T] distinct terms, [P] postings, [D] documents
        self._keys = _open(folder, "keys")  # [T] hashes of the terms, ascending
        self._idf = _open(folder, "idf")  # [T]
        self._starts = _open(folder, "starts")  # [T + 1] where the postings of a term begin
        self._documents = _open(folder, "documents")  # [P] ascending for each term
        self._divisors = _open(folder, "divisors")  # [P] 1 + f / n
        self._ranks = _open(folder, "ranks")  # [D] place of the article number among all, in alphabetical order

    def search(self, query: str, k: int = 50) -> list[int]:
        """Places of the `k` best documents, best first; fewer if fewer have a word of the query."""
        scores = self._scores(query)
        least = _bound(scores, k)
        found = np.flatnonzero(scores >= least if least else scores)
        if len(found) > k:
            of_found = scores[found]
            found = found[of_found >= np.partition(of_found, -k)[-k]]
        best = np.lexsort((self._ranks[found], -scores[found]))[:k]
        return found[best].tolist()

    def _scores(self, query: str) -> NDArray[np.float32]:
        """[D] scores; 0 where no term of the query occurs."""
        counts = Counter(map(_key, terms(query)))
        wanted = np.array(list(counts), np.uint64)
        rows = np.searchsorted(self._keys, wanted)
        sums = np.zeros(len(self._ranks))
        for row, key, count in zip(rows.tolist(), counts, counts.values()):
            if row < len(self._keys) and self._keys[row] == key:
                postings = slice(self._starts[row], self._starts[row + 1])
                weight = np.float32(count) * self._idf[row]
                sums[self._documents[postings]] += weight - weight / self._divisors[postings]
        return sums.astype(np.float32)


def _bound(scores: NDArray[np.float32], k: int) -> float:
    """What each of the `k` best scores reaches, so that few need to be sorted: the k-th of the best of many parts.

    0 where there are no more than `k` parts.
    """
    best = scores[: len(scores) // _PART * _PART].reshape(_PART, -1).max(axis=0)
    return float(np.partition(best, -k)[-k]) if len(best) > k else 0.0


def build(folder: Path, entries: Iterable[tuple[str, str]]) -> None:
    """Write the index of (article number, text) pairs, in the catalogue's order, into an empty folder.

    Texts are let go as they come. What stays in memory: the vocabulary, and in the end eight bytes a posting.
    """
    with TemporaryFile(dir=folder) as terms_file, TemporaryFile(dir=folder) as counts_file:
        vocabulary: dict[str, int] = {}
        numbers: list[str] = []
        distinct, lengths = array("q"), array("q")
        for number, text in entries:
            counts = Counter(terms(text))
            array("i", [vocabulary.setdefault(term, len(vocabulary)) for term in counts]).tofile(terms_file)
            array("i", counts.values()).tofile(counts_file)
            numbers.append(number)
            distinct.append(len(counts))
            lengths.append(counts.total())
        hashes = np.fromiter(map(_key, vocabulary), np.uint64, len(vocabulary))
        del vocabulary
        # Two terms with one 64-bit key (3 in 10^8 for a million terms) would be found together.
        keys, rows = np.unique(hashes, return_inverse=True)
        of_documents = np.array(distinct, np.int64), _inverse_norms(np.array(lengths, np.int64))
        frequencies = _write_postings(folder, rows.astype(np.int32), len(keys), *of_documents, terms_file, counts_file)
    filled = np.count_nonzero(distinct)  # what has no terms is no document to Lucene
    np.save(folder / "keys.npy", keys)
    np.save(folder / "idf.npy", np.log(1 + (filled - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32))
    np.save(folder / "ranks.npy", np.argsort(np.argsort(np.array(numbers, str))).astype(np.int32))


def _write_postings(
    folder: Path,
    rows: NDArray[np.int32],
    count: int,
    distinct: NDArray[np.int64],
    inverse_norms: NDArray[np.float32],
    terms_file: BinaryIO,
    counts_file: BinaryIO,
) -> NDArray[np.int64]:
    """Sort the postings from document order into the order of keys, block by block; returns [T] document frequencies.

    rows: [terms as met] the term's row among `count` sorted keys. distinct: [D] terms of each document.
    """
    blocks = [slice(first, first + _BLOCK) for first in range(0, len(distinct), _BLOCK)]
    frequencies = np.zeros(count, np.int64)
    terms_file.seek(0)
    for block in blocks:
        frequencies += np.bincount(rows[_read(terms_file, distinct[block].sum())], minlength=count)
    starts = np.concatenate(([0], np.cumsum(frequencies)))
    np.save(folder / "starts.npy", starts)
    documents, divisors = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    free = starts[:-1].copy()  # where the next posting of each row goes
    terms_file.seek(0)
    counts_file.seek(0)
    for block in blocks:
        places = np.repeat(np.arange(len(distinct), dtype=np.int32)[block], distinct[block])
        row = rows[_read(terms_file, len(places))]
        divisor = _ONE + _read(counts_file, len(places)).astype(np.float32) * inverse_norms[places]
        order = np.argsort(row, kind="stable")
        met, first, times = np.unique(row[order], return_index=True, return_counts=True)
        target = np.arange(len(row)) + np.repeat(free[met] - first, times)
        documents[target] = places[order]
        divisors[target] = divisor[order]
        free[met] += times
    np.save(folder / "documents.npy", documents)
    np.save(folder / "divisors.npy", divisors)
    return frequencies


def _inverse_norms(lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """[D] 1 / n of documents with so many terms."""
    average = np.float32(max(1, lengths.sum()) / max(1, np.count_nonzero(lengths)))
    return _ONE / (K1 * ((_ONE - B) + B * stored(lengths).astype(np.float32) / average))


def stored(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """What a byte keeps of lengths: all of those up to 40, of longer ones the first four binary digits past 24."""
    rest = lengths - 24
    lost = np.maximum(np.frexp(rest)[1] - 4, 0)
    return np.where(rest < 0, lengths, 24 + (rest >> lost << lost))


@lru_cache(maxsize=1 << 18)
def _key(term: str) -> int:
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _open(folder: Path, name: str) -> NDArray[Any]:
    return np.asarray(np.lib.format.open_memmap(folder / f"{name}.npy", mode="r"))


def _read(file: BinaryIO, count: int) -> NDArray[np.int32]:
    return np.fromfile(file, np.int32, count)
