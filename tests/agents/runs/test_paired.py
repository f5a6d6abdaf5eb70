"""Comparing two evaluations task by task: against the textbook's figures, by brute force, and by repeating experiments."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.runs.paired import Earlier, paired
from envs.common.structured import ConfigError

outcomes = st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.booleans(), min_size=1, max_size=3), min_size=1)


def single(won: int, lost: int, both: int = 0) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Two evaluations with one attempt a task: `won` by the first alone, `lost` by the second alone."""
    pairs = [(1, 0)] * won + [(0, 1)] * lost + [(1, 1)] * both
    return {str(n): [a] for n, (a, _) in enumerate(pairs)}, {str(n): [b] for n, (_, b) in enumerate(pairs)}


@pytest.mark.parametrize(("won", "lost", "p"), [(5, 0, 0.0625), (8, 1, 0.0390625), (3, 3, 1.0), (0, 0, 1.0)])
def test_with_single_attempts_it_is_mcnemar_s_exact_test(won: int, lost: int, p: float) -> None:
    found = paired(*single(won, lost, both=4))
    assert found is not None
    assert found.p == pytest.approx(p)
    assert (found.tasks, found.difference) == (won + lost + 4, pytest.approx((won - lost) / (won + lost + 4)))


def test_the_interval_is_bonett_and_price_s() -> None:
    """Of 100 pairs 15 and 5: (16 - 6) / 102, with variance (16 + 6) / 102 - that squared."""
    found = paired(*single(15, 5, both=80))
    assert found is not None
    middle = 10 / 102
    half = 1.959964 * ((22 / 102 - middle**2) / 102) ** 0.5
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half))


@given(outcomes, outcomes)
def test_p_is_the_share_of_sign_flips_that_differ_as_much(first: dict[str, list[bool]], second: dict[str, list[bool]]) -> None:
    found = paired(first, second)
    both = [task for task in first if task in second]
    if not both:
        assert found is None
        return
    assert found is not None
    apart = np.array([np.mean(first[task]) - np.mean(second[task]) for task in both])
    signs = np.array([*itertools.product([1, -1], repeat=len(both))])
    assert found.p == pytest.approx(np.mean(np.abs(signs @ apart) >= abs(apart.sum()) - 1e-9))
    assert found.difference == pytest.approx(apart.mean())
    turned = paired(second, first)
    assert turned is not None
    assert (turned.p, -turned.high, -turned.low) == pytest.approx((found.p, found.low, found.high))


def test_evaluations_of_equal_policies_differ_significantly_as_rarely_as_promised() -> None:
    """Games that are easy or hard for both, three attempts each: the test holds its level, the interval its coverage."""
    rng, small, outside = np.random.default_rng(0), 0, 0
    for _ in range(400):
        chance = rng.beta(0.5, 0.5, 60)
        first, second = ({str(n): list(rng.random(3) < p) for n, p in enumerate(chance)} for _ in range(2))
        found = paired(first, second)
        assert found is not None
        small += found.p <= 0.05
        outside += not found.low <= 0 <= found.high
    assert small / 400 < 0.08
    assert outside / 400 < 0.08


LIKE = {"environment": "alfworld", "split": "test", "split_hash": "abc"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "holds no results of agents.evaluate"),
        (json.dumps({**LIKE, "split_hash": "x", "temperatures": {"1": {"outcomes": {}}}}), "is of split_hash x"),
        (json.dumps({**LIKE, "temperatures": {"0.4": {"outcomes": {}}}}), "set one of 0.4"),
        (json.dumps({**LIKE, "temperatures": {"1": {}}}), "an older version wrote it"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_what_to_do(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "other.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=said):
        Earlier.read(file, LIKE, ["1"])
