"""What a judge wrote about an episode, read into steps: {subgoal: time or times}, an answer that is data and is never run.

Asking a judge, caching its answers and counting the broken ones are left to others; CALM (arXiv 2409.12798) rewards by it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Hashable, Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np

from algorithms.base import Bools

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
_GAP = r"(?:\s++|\#[^\n]{0,200}(?:\n|\Z)){0,9}+"  # bounded: no text of brackets and comments takes long
_KEY = r"""(?:"(?:[^"\\\n]|\\.)*+(?:"|\Z)|'(?:[^'\\\n]|\\.)*+(?:'|\Z)|[-+]?\d[\w.+-]*+|True|False|None|true|false|null)"""
BEGINNING = re.compile(rf"\{{{_GAP}(?:\}}|\Z|{_KEY}{_GAP}(?::|\Z))", re.DOTALL)
"""How a dictionary begins, whole or cut off: other braces are sets, formulas or prose."""
THOUGHTS_BEGIN = re.compile(r"<(?:think|thinking|thought|reasoning)>|\[THINK\]", re.IGNORECASE)
THOUGHTS_END = re.compile(r"</(?:think|thinking|thought|reasoning)>|\[/THINK\]", re.IGNORECASE)
JSON_NAMES = {"true": True, "false": False, "null": None}


def parse_answer(text: str) -> dict[Any, Any] | None:
    """The dictionary of an answer, as data that is never run; None if there is none, or it is broken or beyond the limits.

    It is the last {...} that begins as one, after any thoughts, in Python or JSON. If that one is broken or not closed, an
    earlier one is not taken instead: it may be an example or a quotation.
    """
    if len(text) > LONGEST_TEXT:
        return None
    text = _said(text)
    start, end = _last(text)
    source = text[start:end] if 0 <= start < end else ""
    if len(source) > LONGEST_DICTIONARY or max(accumulate(map(_nesting, TOKEN.findall(source))), default=0) > DEEPEST:
        return None
    try:
        answer = _python_or_json(source)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # TypeError: a list as key
        return None
    return answer if isinstance(answer, dict) else None


def _nesting(token: str) -> int:
    return (token in "{[(") - (token in "}])")


def _said(text: str) -> str:
    """The text after a model's thoughts; of thoughts that do not end, what stands before them."""
    ends = [match.end() for match in THOUGHTS_END.finditer(text)]
    text = text[ends[-1] :] if ends else text
    begins = THOUGHTS_BEGIN.search(text)
    return text[: begins.start()] if begins else text


def _python_or_json(source: str) -> Any:
    """What a literal says, of either language or a mixture: true, false and null are names that Python lacks."""
    try:
        return json.loads(source)
    except ValueError:
        tree = ast.parse(source, mode="eval")
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(node, field, [_constant(one) for one in value])
            else:
                setattr(node, field, _constant(value))
    return ast.literal_eval(tree)


def _constant(node: Any) -> Any:
    return ast.Constant(JSON_NAMES[node.id]) if isinstance(node, ast.Name) and node.id in JSON_NAMES else node


def _last(text: str) -> tuple[int, int]:
    """Start and end of the last dictionary, (-1, -1) if it is not closed; brackets in its strings and comments do not count."""
    start = end = -1
    while beginning := BEGINNING.search(text, max(end, 0)):
        start, depth = beginning.start(), 0
        for token in TOKEN.finditer(text, start):
            depth += _nesting(token[0])
            if depth == 0:
                end = token.end()
                break
        else:
            return -1, -1
    return start, end


def read(answer: Mapping[Any, Any] | None) -> Reading:
    """The times that an answer gives to subgoals: a number or a list of them; True is time 1 and False time 0.

    {time: subgoal} is read too. An entry that says nothing (None) or cannot be read is left out.
    """
    reading: Reading = []
    for subgoal, value in (answer or {}).items():
        times = list(value) if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, str):
            subgoal, times = value, [subgoal]
        if isinstance(value, bytes):
            continue
        try:
            reading += [(int(time), str(subgoal)) for time in times]
        except (TypeError, ValueError, OverflowError):  # not a number, no number in the text, infinity
            continue
    return reading


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
