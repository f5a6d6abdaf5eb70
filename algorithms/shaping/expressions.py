"""Expressions in a small language of numbers: read, bounded and evaluated here. Nothing in one is ever run by Python.

    0.5 * new_subgoals - (returned and not changed) + if(seen("a mug") > 0, 1, 0)

There are numbers, texts in quotes, the names and functions of `facts`, + - * /, comparisons, and / or / not, and abs, log, min,
max and if. There are no attributes, powers, loops, assignments or other names. Every number stays within LARGEST, and what an
expression costs is bounded by its length: whatever a model wrote, the worst that comes of it is an ExpressionError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from algorithms.batch import Floats
from algorithms.shaping.facts import ASKED, NAMES, Facts

LONGEST = 300
"""Characters of an expression."""
LONGEST_TEXT = 60
"""Characters of a text in it."""
MOST_TEXTS = 4
"""Texts in it: each is looked for in all observations."""
DEEPEST = 16
"""Brackets within brackets, or signs before signs."""
LARGEST = 1e9
"""A number beyond it becomes it."""

_TOKEN = re.compile(
    r"""(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<text>"[^"]*"|'[^']*')|(?P<sign>[<>=!]=|[-+*/<>(),])""", re.ASCII
)
_LEVELS: tuple[tuple[str, ...], ...] = (("or",), ("and",), ("<", "<=", ">", ">=", "==", "!="), ("+", "-"), ("*", "/"))
"""Operators with two sides, from the loosest to the tightest."""


class ExpressionError(ValueError):
    """An expression is none of this language, or beyond its limits. The message says where, and what is allowed."""


def _bounded(values: Floats) -> Floats:
    return np.clip(values, -LARGEST, LARGEST)


def _ratio(a: Floats, b: Floats) -> Floats:
    return _bounded(np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=np.abs(b) > 1 / LARGEST))


def _either(condition: Floats, a: Floats, b: Floats) -> Floats:
    found: Floats = np.where(condition != 0, a, b)
    return found


OPERATORS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "or": lambda a, b: np.where((a != 0) | (b != 0), 1.0, 0.0),
    "and": lambda a, b: np.where((a != 0) & (b != 0), 1.0, 0.0),
    "<": lambda a, b: np.where(a < b, 1.0, 0.0),
    "<=": lambda a, b: np.where(a <= b, 1.0, 0.0),
    ">": lambda a, b: np.where(a > b, 1.0, 0.0),
    ">=": lambda a, b: np.where(a >= b, 1.0, 0.0),
    "==": lambda a, b: np.where(a == b, 1.0, 0.0),
    "!=": lambda a, b: np.where(a != b, 1.0, 0.0),
    "+": lambda a, b: _bounded(a + b),
    "-": lambda a, b: _bounded(a - b),
    "*": lambda a, b: _bounded(a * b),
    "/": _ratio,
}
"""A comparison gives 1 or 0; what is not 0 is true; divided by 0 is 0."""
FUNCTIONS: dict[str, tuple[int, str, Callable[..., Floats]]] = {
    "abs": (1, "size without sign", np.abs),
    "log": (1, "natural logarithm of 1 + size", lambda a: np.log1p(np.abs(a))),
    "min": (2, "the smaller of two", np.minimum),
    "max": (2, "the larger of two", np.maximum),
    "if": (3, "the second if the first is not 0, else the third", _either),
}
"""Functions of numbers: how many they take, what they give."""


@dataclass(frozen=True, slots=True)
class Number:
    value: float

    def of(self, facts: Facts) -> Floats:
        return np.array(self.value)


@dataclass(frozen=True, slots=True)
class Name:
    name: str

    def of(self, facts: Facts) -> Floats:
        return facts.column(self.name)


@dataclass(frozen=True, slots=True)
class Question:
    """What the environment's texts say of a text."""

    function: str
    text: str

    def of(self, facts: Facts) -> Floats:
        return facts.ask(self.function, self.text)


@dataclass(frozen=True, slots=True)
class Applied:
    """A function of this module, or an operator."""

    function: Callable[..., Floats]
    arguments: tuple[Node, ...]

    def of(self, facts: Facts) -> Floats:
        return self.function(*(argument.of(facts) for argument in self.arguments))


Node = Number | Name | Question | Applied


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was read, and can be evaluated. Made by `parse`."""

    source: str
    tree: Node

    def values(self, facts: Facts) -> Floats:
        """[S] what it comes to at each step: finite, within LARGEST."""
        return np.broadcast_to(np.asarray(_bounded(self.tree.of(facts)), dtype=np.float64), (facts.steps,)).copy()


def parse(source: str) -> Expression:
    """The expression that a text says. Raises ExpressionError."""
    if len(source) > LONGEST:
        raise ExpressionError(f"it has {len(source)} characters; allowed: {LONGEST}")
    reader = _Reader(list(_tokens(source)))
    tree = reader.expression(0)
    if reader.sign() is not None:
        raise reader.unexpected("the expression should end")
    return Expression(source, tree)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    place: int


def _tokens(source: str) -> Iterator[_Token]:
    place = 0
    while place < len(source):
        if source[place] in " \t\n":
            place += 1
            continue
        found = _TOKEN.match(source, place)
        if found is None:
            raise ExpressionError(f"{source[place]!a} at character {place + 1} means nothing here")
        yield _Token(str(found.lastgroup), found[0], place + 1)
        place = found.end()


class _Reader:
    """Reads tokens from left to right. Holds where it is, how deep, and how many texts it has met."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens, self._at, self._depth, self._texts = tokens, 0, 0, 0

    def sign(self) -> str | None:
        """The next token; None at the end."""
        return self._tokens[self._at].text if self._at < len(self._tokens) else None

    def unexpected(self, instead: str) -> ExpressionError:
        if self._at >= len(self._tokens):
            return ExpressionError(f"it ends where {instead}")
        token = self._tokens[self._at]
        return ExpressionError(f"{token.text!a} at character {token.place} stands where {instead}")

    def expression(self, level: int) -> Node:
        """With operators of this level or tighter ones."""
        if level == len(_LEVELS):
            return self._value()
        left = self.expression(level + 1)
        while (sign := self.sign()) in _LEVELS[level]:
            self._at += 1
            left = Applied(OPERATORS[str(sign)], (left, self.expression(level + 1)))
        return left

    def _value(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ExpressionError(f"it is nested more than {DEEPEST} deep")
        found = self._inner()
        self._depth -= 1
        return found

    def _inner(self) -> Node:
        token = self._tokens[self._at] if self._at < len(self._tokens) else None
        begins = token is not None and (token.kind in ("number", "name") or token.text in ("-", "("))
        if token is None or not begins or token.text in ("and", "or"):
            raise self.unexpected("a value should stand")
        self._at += 1
        if token.text == "-":
            return Applied(np.negative, (self._value(),))
        if token.text == "not":
            return Applied(lambda a: np.where(a == 0, 1.0, 0.0), (self.expression(2),))
        if token.text == "(":
            found = self.expression(0)
            self._take(")")
            return found
        if token.kind == "number":
            return Number(min(float(token.text), LARGEST))
        return self._call(token.text) if self.sign() == "(" else _named(token)

    def _call(self, function: str) -> Node:
        if function not in (*ASKED, *FUNCTIONS):
            raise ExpressionError(f"there is no function {function[:40]!a}; there are {', '.join((*ASKED, *FUNCTIONS))}")
        self._take("(")
        if function in ASKED:
            found: Node = Question(function, self._text(function))
        else:
            count, _, apply = FUNCTIONS[function]
            arguments = [self.expression(0)]
            for _ in range(count - 1):
                self._take(",")
                arguments.append(self.expression(0))
            found = Applied(apply, tuple(arguments))
        self._take(")")
        return found

    def _text(self, function: str) -> str:
        if self._at >= len(self._tokens) or self._tokens[self._at].kind != "text":
            raise self.unexpected(f"{function} asks for a text in quotes")
        text, self._at, self._texts = self._tokens[self._at].text[1:-1], self._at + 1, self._texts + 1
        if not 0 < len(text) <= LONGEST_TEXT or not text.isprintable():
            raise ExpressionError(f"the text of {function} must have 1 to {LONGEST_TEXT} characters that can be seen")
        if self._texts > MOST_TEXTS:
            raise ExpressionError(f"it looks for more than {MOST_TEXTS} texts")
        return text

    def _take(self, sign: str) -> None:
        if self.sign() != sign:
            raise self.unexpected(f"{sign!r} should stand")
        self._at += 1


def _named(token: _Token) -> Node:
    if token.text not in NAMES:
        raise ExpressionError(f"there is no name {token.text[:40]!a}; there are {', '.join(NAMES)}")
    return Name(token.text)
