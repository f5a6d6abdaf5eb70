"""Searches that suggest themselves: the instruction and its clauses, as a customer in a hurry would type them.

They are read off what the agent is told and off nothing else, so that offering them gives nothing away. A model that writes
freely may search for anything; one that can only choose needs a list to choose from.
"""

from __future__ import annotations

import re
from functools import lru_cache

MOST = 6
"""Suggestions at the most."""

_PRICE = re.compile(
    r",?(?:\s+(?:and|for|at|with|a|price))*\s+(?:lower than|less than|under|below|no more than)"
    r"\s+\$?\d+(?:\.\d+)?(?:\s+dollars)?"
)
_CLAUSE = re.compile(r"[,.;!?]\s+(?:and\s+)?|\s+(?:with|that|which)\s+|\s+and\s+")


@lru_cache(maxsize=4096)
def suggestions(instruction: str) -> tuple[str, ...]:
    """The instruction without its price, then its clauses of two words or more, in their order; each once, lower case."""
    text = " ".join(instruction.lower().translate({ord("["): " ", ord("]"): " "}).split())
    whole = _PRICE.sub("", text).strip(" .,")
    clauses = [clause.strip(" .,") for clause in _CLAUSE.split(whole)]
    found = dict.fromkeys([whole, *(clause for clause in clauses if " " in clause)])
    found.pop("", None)
    return tuple(found)[:MOST]
