"""State keys of states that are no text: equal contents are one state."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.base import StepResult
from envs.state_key import state_key

plain = st.none() | st.text(max_size=3) | st.integers(-3, 3) | st.booleans() | st.floats(allow_nan=False)
states = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3), max_leaves=8
)


def refilled(state: Any, rng: random.Random) -> Any:
    """The same state, its dictionaries filled in another order, its lists made tuples."""
    if isinstance(state, dict):
        items = [(key, refilled(value, rng)) for key, value in state.items()]
        rng.shuffle(items)
        return dict(items)
    return tuple(refilled(one, rng) for one in state) if isinstance(state, list) else state


@given(states, st.randoms(use_true_random=False))
def test_neither_the_order_of_a_dictionary_nor_lists_or_tuples_matter(state: Any, rng: random.Random) -> None:
    assert state_key(refilled(state, rng)) == state_key(state)


@given(states, plain, plain)
def test_states_that_differ_in_one_place_have_different_keys(state: Any, one: Any, other: Any) -> None:
    for place in (lambda x: [state, x], lambda x: {"room": state, "at": {"x": [x]}}):
        assert (state_key(place(one)) == state_key(place(other))) == (one == other)


def test_numbers_are_equal_as_numbers_and_differ_from_text() -> None:
    assert state_key({"x": 1}) == state_key({"x": 1.0}) == state_key({"x": True}) == state_key({"x": np.float32(1)})
    assert state_key({"x": 1}) != state_key({"x": "1"})
    assert state_key([float("inf")]) != state_key([-float("inf")])


def test_of_an_array_the_shape_does_not_count_but_the_order_does() -> None:
    assert state_key(np.array([[1, 2], [3, 4]])) == state_key([1, 2, 3, 4])
    assert state_key(np.array([2, 1])) != state_key([1, 2])


def test_a_text_stays_as_it_is_and_a_turn_has_a_text() -> None:
    assert StepResult("a room", "room 3").state_key == "room 3"
    assert (
        StepResult("a room", {"at": (1, 2), "holds": ["key"]}).state_key
        == StepResult("", {"holds": ["key"], "at": [1, 2]}).state_key
    )


def test_what_has_no_name_is_refused_by_its_type() -> None:
    with pytest.raises(TypeError, match="a state_key holds set; allowed: text, numbers"):
        state_key({"seen": {1, 2}})
