"""CALM (arXiv 2409.12798): from what a judge wrote about an episode to step rewards for subgoals achieved.

Pure functions only. Asking a judge, caching its answers and counting the broken ones are left to the callers; so is adding
the shaping reward to the environment's. An answer is data: a dictionary {subgoal: time or times}, read without running it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, TypeVar

import numpy as np

from algorithms.base import Bools, Floats

AnswerForm = Literal["last", "lenient", "fenced"]
"""Which part of an answer is the dictionary. last: the last {...} of the text. lenient: from the first { to the last }
(the official evaluation). fenced: from the last { to the last }, after a ``` (the official annotation)."""
Reading = list[tuple[int, str]]
"""(time, subgoal) in the order of the answer."""
Key = TypeVar("Key", bound=Hashable)

LONGEST_TEXT = 1_000_000
"""Characters of an answer; a longer one is broken."""
LONGEST_DICTIONARY = 10_000
"""Characters of its dictionary: bounds the memory of parsing."""
DEEPEST = 20
"""Brackets within brackets."""

# A quote that does not close on its line ends with the line: every character is read once, whatever the text.
TOKEN = re.compile(r"""[{}\[\]()]|"(?:[^"\\\n]|\\.)*+"?|'(?:[^'\\\n]|\\.)*+'?|\#[^\n]*""", re.DOTALL)


# -- reading an answer ------------------------------------------------------------------------------------------------------


def parse_answer(text: str, form: AnswerForm = "last") -> dict[Any, Any] | None:
    """The dictionary of an answer, by `ast.literal_eval`; None if there is none, or it is broken or beyond the limits.

    If the last {...} is broken or not closed, an earlier one is not taken instead: it may be an example or a quotation.
    """
    if len(text) > LONGEST_TEXT:
        return None
    start, end = {"last": _last, "lenient": _lenient, "fenced": _fenced}[form](text)
    source = text[start:end] if 0 <= start < end else ""
    if len(source) > LONGEST_DICTIONARY or max(accumulate(map(_nesting, TOKEN.findall(source))), default=0) > DEEPEST:
        return None
    try:
        answer = ast.literal_eval(source)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # TypeError: a list as key
        return None
    return answer if isinstance(answer, dict) else None


def _nesting(token: str) -> int:
    return (token in "{[(") - (token in "}])")


def _last(text: str) -> tuple[int, int]:
    """Start and end of the last {...}, (-1, -1) if it is not closed; brackets in its strings and comments do not count."""
    start = end = -1
    while (place := text.find("{", max(end, 0))) >= 0:
        start, depth = place, 0
        for token in TOKEN.finditer(text, start):
            depth += _nesting(token[0])
            if depth == 0:
                end = token.end()
                break
        else:
            return -1, -1
    return start, end


def _lenient(text: str) -> tuple[int, int]:
    return text.find("{"), text.rfind("}") + 1


def _fenced(text: str) -> tuple[int, int]:
    fence, end = text.find("```"), text.rfind("}")
    return (text.rfind("{", fence + 3, end), end + 1) if 0 <= fence < end else (-1, -1)


def read(answer: Mapping[Any, Any] | None, inverted: bool = True) -> Reading:
    """The times that an answer gives to subgoals: a number or a list of them; True is time 1 and False time 0.

    An entry that says nothing (None) or cannot be read is left out. inverted: {time: subgoal} is read too, as the official
    evaluation does and the official annotation does not.
    """
    reading: Reading = []
    for subgoal, value in (answer or {}).items():
        times = list(value) if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, str):
            if not inverted:
                continue
            subgoal, times = value, [subgoal]
        try:
            reading += [(int(time), str(subgoal)) for time in times]
        except (TypeError, ValueError, OverflowError):  # not a number, no number in the text, infinity
            continue
    return reading


def by_time(reading: Reading) -> dict[int, str]:
    """{time: subgoal}; of two subgoals at one time the last is kept."""
    return dict(reading)


def detected(reading: Reading) -> bool:
    """Whether anything at all is said to have happened: a time other than 0."""
    return any(time != 0 for time, _ in reading)


# -- scoring a judge --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Confusion:
    """Verdicts against labels; a ratio of nothing is 0."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def precision(self) -> float:
        return self.tp / max(1, self.tp + self.fp)

    @property
    def recall(self) -> float:
        return self.tp / max(1, self.tp + self.fn)

    @property
    def f1(self) -> float:
        return 2 * self.tp / max(1, 2 * self.tp + self.fp + self.fn)


def confusion(verdict: Bools, label: Bools) -> Confusion:
    """Count of each combination of two arrays of one shape."""
    verdict, label = np.asarray(verdict, bool), np.asarray(label, bool)
    if verdict.shape != label.shape:
        raise ValueError(f"verdicts of shape {verdict.shape} for labels of shape {label.shape}; give one verdict a label")
    counts = [int((v & w).sum()) for v, w in ((verdict, label), (verdict, ~label), (~verdict, label), (~verdict, ~label))]
    return Confusion(*counts)


# -- from a reading to steps ------------------------------------------------------------------------------------------------


def attach(reading: Reading, steps: Sequence[Key], first: int = 0) -> dict[Key, list[str]]:
    """Subgoals by the step that achieved them: time T belongs to the step taken at t = T - 1; other times to none.

    steps [S]: what names each step of the window; equal names are one entry. first: the time t of the window's first step.
    """
    found: dict[Key, list[str]] = {}
    for time, subgoal in reading:
        if 0 <= time - 1 - first < len(steps):
            found.setdefault(steps[time - 1 - first], []).append(subgoal)
    return found


def achieved_steps(reading: Reading, subgoals: Sequence[str], steps: int, first: int = 0) -> Bools:
    """[steps, subgoals] whether the subgoal was judged achieved by the step; names that are not in `subgoals` are left out."""
    table = np.zeros((steps, len(subgoals)), dtype=bool)
    column = {subgoal: number for number, subgoal in enumerate(subgoals)}
    for step, names in attach(reading, range(steps), first).items():
        table[step, [column[name] for name in names if name in column]] = True
    return table


# -- rewards ----------------------------------------------------------------------------------------------------------------


def additive(achieved: Bools, coefficient: float, once: bool = True) -> Floats:
    """coefficient * subgoals achieved at each step (the paper's augmented reward). achieved [steps, subgoals] -> [steps].

    once: a subgoal pays only the first time in the episode; without it an agent can be paid for doing one over and over.
    """
    achieved = np.asarray(achieved, bool)
    if once:
        achieved = achieved & (np.cumsum(achieved, axis=0) == 1)
    return coefficient * achieved.sum(axis=1).astype(np.float64)


def potential(achieved: Bools, coefficient: float) -> Floats:
    """Phi = coefficient * subgoals achieved so far: before each step and after the last. [steps, subgoals] -> [steps + 1]."""
    so_far = np.logical_or.accumulate(np.asarray(achieved, bool), axis=0)
    return coefficient * np.append(0.0, so_far.sum(axis=1))


def potential_based(achieved: Bools, coefficient: float, gamma: float, complete: bool = True) -> Floats:
    """F = gamma * Phi(s') - Phi(s) (Ng, Harada and Russell 1999). achieved [steps, subgoals] -> [steps].

    complete: nothing is bootstrapped after the last step, so Phi is 0 there. Then the discounted sum of F from any step on is
    -Phi of its state, whatever is done: the optimal policy stays what it was, if gamma is the discount of the returns.
    """
    phi = potential(achieved, coefficient)
    if complete:
        phi[-1] = 0.0
    return gamma * phi[1:] - phi[:-1]


@dataclass
class SubgoalReward:
    """How achieved subgoals become a shaping reward. Raises ValueError for a setting not allowed."""

    form: Literal["additive", "potential"] = "additive"
    """additive: coefficient for each subgoal achieved at the step (paper). potential: gamma * Phi(s') - Phi(s), where Phi is
    coefficient * subgoals achieved so far; it keeps the optimal policy."""
    coefficient: float = 1.0
    """Reward of a subgoal."""
    once: bool = True
    """additive: a subgoal pays once an episode. False: each time (paper and released code)."""
    gamma: float = 0.95
    """potential: the discount of the returns that the shaped reward enters."""

    def __post_init__(self) -> None:
        if self.form not in ("additive", "potential"):
            raise ValueError(f"form is {self.form!r}; allowed: additive, potential")
        if not 0 <= self.coefficient < np.inf:
            raise ValueError(f"coefficient is {self.coefficient!r}; it must be at least 0, and finite")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma!r}; it must be between 0 and 1")

    def of_episode(self, achieved: Bools, complete: bool = True) -> Floats:
        """achieved [steps, subgoals] of a whole episode -> shaping reward [steps]; `complete` as in `potential_based`."""
        if self.form == "additive":
            return additive(achieved, self.coefficient, self.once)
        return potential_based(achieved, self.coefficient, self.gamma, complete)


# -- the released code's reward ---------------------------------------------------------------------------------------------


def count_table(annotations: Iterable[Mapping[Key, Sequence[str]]]) -> dict[Key, float]:
    """How often each (observation, action) was flagged in a data set (answers as `attach` gives them), scaled to 0..1.

    As released: the minimum is over the running counts while the table is built, the maximum over the final ones. Where the
    two are equal (the released code divides by zero) every key gets 1, which is what the largest count always gets.
    """
    counts: dict[Key, int] = {}
    running: list[int] = []
    for annotation in annotations:
        for key, subgoals in annotation.items():
            counts[key] = counts.get(key, 0) + len(subgoals)
            running.append(counts[key])
    low, high = min(running, default=0), max(running, default=0)
    return {key: (count - low) / (high - low) if high > low else 1.0 for key, count in counts.items()}


def table_reward(table: Mapping[Key, float], steps: Sequence[Key], beta: float = 0.1) -> Floats:
    """[S] beta * table entry of each step, 0 for a step without one; every visit pays. beta: the released code's default."""
    return beta * np.array([table.get(step, 0.0) for step in steps], dtype=np.float64)
