"""What was branched from the episodes that are shown: before which of their steps, and what it returned from there on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from agents.replay.view import Branch, signed
from algorithms.segments import credit, mean
from envs.trajectory import Trajectory

Place = tuple[str, int]
"""Name of an episode, and the number of one of its steps, from 0."""
KINDS = 6
"""Of different results are named."""


def leaving(branches: Iterable[Trajectory], gamma: float) -> dict[Place, list[Branch]]:
    """The branches by where they leave an episode that was begun; what was branched from a branch leaves it where that does.

    A branch must come behind the one that it was branched from.
    """
    left: dict[str, Place] = {}
    found: dict[Place, list[Branch]] = {}
    for one in branches:
        if one.parent is None:
            continue
        parent, step = one.parent
        root, first = left.get(parent, one.parent)
        place = left[one.called] = root, min(first, step)
        rest = one.steps[place[1] :]
        returned = None if one.error is not None else sum(gamma**t * step.reward for t, step in enumerate(rest))
        found.setdefault(place, []).append(Branch(returned, one.success, credit([rest]).advantage))
    return found


def in_words(branches: Sequence[Branch]) -> str:
    """How many there are, and what they returned."""
    known = [(one.returned, one.advantage) for one in branches if one.returned is not None]
    kinds = sorted(Counter(known).items(), key=lambda kind: -kind[0][0])
    listed = [(f"{number} x " if number > 1 else "") + _result(*result) for result, number in kinds[:KINDS]]
    listed += [f"{len(kinds) - KINDS} others"] if len(kinds) > KINDS else []
    said = [
        f"{len(branches)} branch{'es' if len(branches) > 1 else ''} from here",
        f"{sum(one.success for one in branches)} won",
    ]
    if known:
        said.append(f"mean return {mean(returned for returned, _ in known):.3g} ({', '.join(listed)})")
    if len(known) < len(branches):
        said.append(f"{len(branches) - len(known)} cut off by a fault")
    return ", ".join(said)


def _result(returned: float, advantage: float | None) -> str:
    return f"{returned:.3g}" if advantage is None else f"{returned:.3g} credited {signed(advantage)}"
