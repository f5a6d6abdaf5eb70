"""The golden checks of golden_rewards.py can fail: every recorded output that is moved is noticed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.algorithms.golden_rows import FOLDER, Case
from tests.algorithms.test_golden import CHECKS

FILES = ("brpo_budget_relative", "capo_critique", "lare", "pure_min_form")


def numbers(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a number within lists and dictionaries: what holds it, and its key there."""
    entries = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, one in entries:
        if isinstance(one, dict | list):
            yield from numbers(one)
        elif isinstance(one, int | float):
            yield value, key


def recorded(file: str) -> tuple[list[Case], float]:
    content = json.loads((FOLDER / f"{file}.json").read_text())
    return content["cases"], content["abs_tolerance"]


@pytest.mark.parametrize("file", [one for one in FILES if (FOLDER / f"{one}.json").exists()])
def test_a_moved_figure_makes_the_check_fail(file: str) -> None:
    cases, tolerance = recorded(file)
    for case in cases:
        places = len(list(numbers(case["outputs"])))
        assert places
        for place in range(places):
            moved = copy.deepcopy(case)
            holder, key = list(numbers(moved["outputs"]))[place]
            holder[key] += 1 if isinstance(holder[key], int) else 1e-3
            with pytest.raises(AssertionError):
                CHECKS[file](moved, tolerance)
