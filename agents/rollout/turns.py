"""Turns in three parts: whether the agent switches to another subgoal, which subgoal it has, and the action (env.hierarchy).

A part reaches to the mark that ends it, the action to the end. Where a mark is missing, that part is empty and its tokens
belong to the next: a turn that only acts keeps its subgoal. Which advantage a part gets is the method's business (hiper).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from algorithms.batch import Part

KEEP = "keep"
LAST = "finish"
"""The subgoal of demonstrated steps behind which none is reached any more."""


class Plan(NamedTuple):
    """What a turn says before it acts."""

    switch: bool
    """Whether it leaves the subgoal of the turn before."""
    subgoal: str


@dataclass(frozen=True, slots=True)
class Form:
    """How the first two parts of a turn are written."""

    pattern: str
    """With {switch} and {subgoal}."""
    begins: tuple[str, str]
    ends: tuple[str, str]
    """What stands before and behind what each part says."""
    words: tuple[str, str]
    """For keep and switch."""

    def written(self, plan: Plan) -> str:
        """The parts of a turn before its action."""
        return self.pattern.format(switch=self.words[plan.switch], subgoal=plan.subgoal)

    def read(self, ids: Sequence[int], decode: Callable[[list[int]], str], start: int = 0) -> tuple[list[int], Plan]:
        """The part of each token of a response, by number, and what it says; start: characters before its first part."""
        text = decode(list(ids))
        parts, said, done = [int(Part.ACTION)] * len(ids), ["", ""], 0
        for number, part in enumerate((Part.SWITCH, Part.SUBGOAL)):
            inside, found, _ = text[start:].partition(self.ends[number])
            if not found:
                continue
            said[number] = " ".join((inside.rpartition(self.begins[number])[2] if self.begins[number] else inside).split())
            start += len(inside) + len(found)
            upto = 1 + bisect_left(range(len(ids)), start, key=lambda n: len(decode(list(ids[: n + 1]))))
            parts[done:upto] = [int(part)] * (min(upto, len(ids)) - done)
            done = min(upto, len(ids))
        word, subgoal = said
        return parts, Plan(bool(word) and word.lower() != KEEP, subgoal)


TAGS = Form(
    "<switch>{switch}</switch>\n<subgoal>{subgoal}</subgoal>\n",
    ("<switch>", "<subgoal>"),
    ("</switch>", "</subgoal>"),
    ("KEEP", "SWITCH"),
)
"""For models that chat; the action stands in tags of its own."""
BARS = Form("{switch} | {subgoal} | ", ("", ""), ("|", "|"), (KEEP, "switch"))
"""For models that write a line."""


def texts(subgoals: Iterable[str]) -> list[str]:
    """What lines say before their actions, for a vocabulary."""
    return [BARS.written(Plan(switch, subgoal)) for switch in (False, True) for subgoal in (*subgoals, LAST)]
