"""Names of states that cost next to nothing: the exclusive or of fixed numbers, one for each fact that holds (Zobrist hashing).

A fact that changes flips one number in, one out; equal states get equal names in any process and on any machine.
"""

from __future__ import annotations

from functools import cache

_KINDS = {
    kind: i for i, kind in enumerate(("at", "open", "in", "held", "lies", "taken", "clean", "hot", "cool", "sliced", "toggled"))
}
_MASK = (1 << 64) - 1


@cache
def code(kind: str, first: int, second: int = 0) -> int:
    """The 64-bit number of one fact: splitmix64 of its indices."""
    x = (_KINDS[kind] << 40 | first << 20 | second) + 1
    x = x * 0x9E3779B97F4A7C15 & _MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK
    return x ^ x >> 31
