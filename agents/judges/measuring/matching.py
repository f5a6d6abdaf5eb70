"""Which of the rules' subgoals a judge means by the ones that it proposed, by their words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz, utils


@dataclass(frozen=True, slots=True)
class Match:
    """A proposed subgoal."""

    proposed: str
    nearest: str
    """The subgoal of the rules that is worded most alike, of those that no better match has taken; "" if there is none."""
    likeness: float
    """0..100, token_set_ratio."""
    taken: bool
    """Whether the two count as the same. What a judge says of any other is not scored."""


def match(proposed: Sequence[str], known: Sequence[str], threshold: float) -> list[Match]:
    """For each proposed subgoal the one of `known` that it is taken for; each at most once, the most alike first."""
    alike = {(p, k): fuzz.token_set_ratio(p, k, processor=utils.default_process) for p in proposed for k in known}
    # A name that has all words of another is fully like it: of several such the one that is most alike as a whole comes first.
    order = sorted(alike, key=lambda pair: (-alike[pair], -fuzz.ratio(*pair, processor=utils.default_process)))
    found: dict[str, Match] = {}
    free = list(known)
    for p, k in order:
        likeness = alike[p, k]
        if likeness >= threshold and p not in found and k in free:
            found[p] = Match(p, k, likeness, True)
            free.remove(k)
    for p in proposed:
        nearest = max(free, key=lambda k: alike[p, k], default="")
        found.setdefault(p, Match(p, nearest, alike.get((p, nearest), 0.0), False))
    return [found[p] for p in proposed]
