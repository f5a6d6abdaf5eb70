"""Makes a state key of numbers, lists, arrays and dictionaries: equal contents give equal keys, in any order of filling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def state_key(state: Any) -> str:
    """A text is returned as it is; numbers, lists, tuples, arrays, dictionaries and None become one, equal ones the same.

    1, 1.0 and True are equal, and so are a list and a tuple; of an array the shape does not count. Raises TypeError for others.
    """
    return state if isinstance(state, str) else repr(_canonical(state))


def _canonical(state: Any) -> Any:
    if state is None or isinstance(state, str):
        return state
    if isinstance(state, np.ndarray):
        return tuple(map(_canonical, state.ravel().tolist()))
    if isinstance(state, (int, float, np.integer, np.floating, np.bool_)):
        return int(state) if math.isfinite(state) and state == int(state) else float(state)
    if isinstance(state, (list, tuple)):
        return tuple(map(_canonical, state))
    if isinstance(state, dict):
        return tuple(sorted(((_canonical(key), _canonical(value)) for key, value in state.items()), key=repr))
    raise TypeError(
        f"a state_key holds {type(state).__name__}; allowed: text, numbers, None, and lists, tuples, arrays and "
        "dictionaries of them"
    )
