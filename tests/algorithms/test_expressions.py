"""Expressions that a model writes: what they come to, and that nothing but a word comes of what is none."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.shaping.expressions import FUNCTIONS, LARGEST, LONGEST, OPERATORS, ExpressionError, parse
from algorithms.shaping.facts import ASKED, NAMES, Facts
from algorithms.shaping.latent import fault
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch

HOSTILE = [
    "__import__('os').system('true')",
    "__builtins__",
    "().__class__.__bases__[0].__subclasses__()",
    "time.__class__",
    "valid.__init__.__globals__",
    "getattr(time, 'x')",
    "exec('1')",
    'eval("1")',
    "open('/etc/passwd')",
    "globals()",
    "lambda: time",
    "[x for x in time]",
    "{1: 2}",
    "(time := 3)",
    "time = 3",
    "import os",
    "while 1: pass",
    "for t in time: t",
    "def f(): return 1",
    "9 ** 9 ** 9 ** 9",
    "10 ** 100000",
    "1e999",
    "0x7fffffff",
    "1 << 100000",
    "time ^ 2",
    "~time",
    "time @ time",
    "time % 0",
    "'a' * 1000000000",
    "seen('a' * 9)",
    "seen(" + "'" + "a" * 200 + "')",
    "seen('a\x00b')",
    "seen('\u202e')",
    "f'{time}'",
    "seen(f'{time}')",
    "b'a'",
    "t\u0456me",
    "\uff54ime",
    "\u2068valid\u2069",
    "\u0661 + \u0662",
    "valid\u200b",
    "(" * 150 + "1" + ")" * 149,
    "(" * 200 + "time" + ")" * 200,
    "-" * 299 + "1",
    "not " * 70 + "1",
    "abs(" * 60 + "1" + ")" * 60,
    "1" + "+1" * 5000,
    "1" * 100_000,
    "a" * 1_000_000,
    "max(" + ",".join(["1"] * 100) + ")",
    "seen('a')+seen('b')+seen('c')+seen('d')+seen('e')",
    "reward",
    "success",
    "time; valid",
    "time, valid",
    "time # valid",
    "if valid: 1",
    "1 if valid else 0",
    "time\x00",
    "${env.name}",
    "",
]


def facts() -> Facts:
    def episode(*done: tuple[str, str, str, bool]) -> Trajectory:
        steps = [
            Step(f"You are in room {key}. Gold: 1{t}", action, state_key=key, valid=valid, subgoals=[goal] if goal else [])
            for t, (key, action, goal, valid) in enumerate(done)
        ]
        return Trajectory("env", "t", "t", 0, "train", steps=steps, final_state_key="a", final_observation="You are OUT.")

    return Facts(
        as_batch(
            [
                episode(("a", "go", "", True), ("b", "go", "door", True), ("a", "wait", "door", False)),
                episode(("c", "go", "", True)),
            ]
        )
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1 + 2 * 3 - 4 / 2", [5, 5, 5, 5]),
        ("2 - 1 - 1", [0, 0, 0, 0]),
        ("-time * 2", [0, -2, -4, 0]),
        ("time / 0", [0, 0, 0, 0]),
        ("not time > 0 and valid", [1, 0, 0, 1]),
        ("time == 1 or not valid", [0, 1, 1, 0]),
        ("if(time >= 1, 5, 0.5)", [0.5, 5, 5, 0.5]),
        ("min(time, 1) + max(0, time - 1)", [0, 1, 2, 0]),
        ("abs(-2) + log(0)", [2, 2, 2, 2]),
        ("subgoals", [0, 1, 1, 0]),
        ("new_subgoals", [0, 1, 0, 0]),
        ("visits", [0, 0, 1, 0]),
        ("returned", [0, 1, 1, 0]),
        ("repeats", [0, 1, 0, 0]),
        ("words", [7, 7, 7, 7]),
        ("actions", [0, 0, 0, 0]),
        ("changed", [1, 1, 1, 1]),
        ('seen("ROOM a")', [1, 0, 1, 0]),
        ("found('out')", [0, 0, 1, 1]),
        ("did('wait')", [0, 0, 1, 0]),
        ("reached('DOOR')", [0, 1, 1, 0]),
        ("number('gold')", [10, 11, 12, 10]),
    ],
)
def test_an_expression_comes_to_what_it_says(source: str, expected: list[float]) -> None:
    np.testing.assert_allclose(parse(source).values(facts()), expected)


def test_every_name_and_function_is_tried_above() -> None:
    (marks,) = [mark for mark in test_an_expression_comes_to_what_it_says.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    tried = " ".join(source for source, _ in marks.args[1])
    assert all(name in tried for name in (*NAMES, *ASKED, *FUNCTIONS, *set(OPERATORS) - {"<", "<=", "!="}))


def test_hostile_expressions_fail_with_a_word_within_little_time_and_memory() -> None:
    assert len(HOSTILE) >= 40
    code = (
        "import json, resource, sys\n"
        "from algorithms.shaping.expressions import parse, ExpressionError\n"
        "sources = json.load(sys.stdin)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 5,) * 2)\n"
        "held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + (64 << 20),) * 2)\n"
        "words = []\n"
        "for source in sources:\n"
        "    try: words.append(repr(parse(source)))\n"
        "    except ExpressionError as error: words.append(['refused', str(error)])\n"
        "print(json.dumps(words))\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(HOSTILE), capture_output=True, text=True, cwd=root, check=True
    )
    words = json.loads(done.stdout)
    taken = [source for source, word in zip(HOSTILE, words, strict=True) if word[0] != "refused"]
    assert not taken
    assert all(0 < len(text) < 300 and text.isascii() for _, text in words)


def test_the_largest_numbers_stay_numbers() -> None:
    for source in ("999999999 * 999999999", "-999999999 * 999999999 - 1", "1 / 0.000000001 * 99", "9" * 290):
        values = parse(source).values(facts())
        assert np.isfinite(values).all()
        assert (np.abs(values) <= LARGEST).all()
    assert parse("999999999*999999999 - 999999999*999999999").values(facts()).tolist() == [0, 0, 0, 0]


FACTS = facts()
PIECES = st.sampled_from(
    [
        *NAMES,
        *(f'{name}("a")' for name in ASKED),
        *FUNCTIONS,
        *OPERATORS,
        "(",
        ")",
        ",",
        "not",
        "-",
        "0",
        "1.5",
        "9999999999",
        " ",
    ]
)


@given(st.lists(PIECES, max_size=24).map(" ".join) | st.text(max_size=LONGEST + 1))
@settings(max_examples=100, deadline=None)
def test_whatever_is_written_it_is_a_bounded_number_or_refused(source: str) -> None:
    known = FACTS
    try:
        values = parse(source).values(known)
    except ExpressionError:
        return
    assert values.shape == (known.steps,)
    assert all(math.isfinite(one) and abs(one) <= LARGEST for one in values)


def test_a_factor_that_tells_nothing_apart_is_named() -> None:
    assert fault("time", facts()) is None
    assert fault("changed", facts()) == "it is 1 at all of 4 steps: it tells nothing"
    assert "no name 'reward'" in str(fault("reward"))
