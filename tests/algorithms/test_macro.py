"""Macro actions: PPO by turns and by tokens are two of their kinds, and what a boundary is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.macro import MacroPPO, summed, weights
from algorithms.ppo import PPO
from envs.trajectory import Trajectory
from tests.algorithms.examples import episode
from tests.algorithms.test_critics import batch_of, batches

quick = settings(max_examples=40, deadline=None)
Played = tuple[list[Trajectory], np.ndarray]
common = st.fixed_dictionaries({"gamma": st.sampled_from([1.0, 0.9]), "lam": st.floats(0, 1), "normalize": st.booleans()})


@given(batches(), common)
@quick
def test_steps_as_macro_actions_are_ppo_by_turns(played: Played, same: dict[str, Any]) -> None:
    batch = batch_of(*played)
    found = MacroPPO(macro="step", value="first", **same).advantages(batch)
    by_turns = PPO(level="action", **same).advantages(batch)
    np.testing.assert_allclose(found.values, by_turns.values, atol=1e-12)
    np.testing.assert_allclose(np.asarray(found.returns), np.asarray(by_turns.returns), atol=1e-12)


@given(batches(), common, st.sampled_from(["equal", "position", "first"]))
@quick
def test_single_tokens_as_macro_actions_are_ppo_by_tokens(played: Played, same: dict[str, Any], value: Any) -> None:
    batch = batch_of(*played)
    found, by_tokens = MacroPPO(n=1, value=value, **same).advantages(batch), PPO(**same).advantages(batch)
    np.testing.assert_allclose(found.values, by_tokens.values, atol=1e-12)
    np.testing.assert_allclose(np.asarray(found.returns), np.asarray(by_tokens.returns), atol=1e-12)


@given(batches(), st.integers(1, 4), st.sampled_from(["ngram", "perplexity", "step"]), st.sampled_from(["paper", "official"]))
@quick
def test_macro_actions_cover_each_step_once(played: Played, n: int, macro: Any, boundaries: Any) -> None:
    batch = batch_of(*played)
    batch.logprobs = -np.abs(played[1])
    method = MacroPPO(n=n, macro=macro, boundaries=boundaries)
    size, step = method.macros(method.score(batch))
    np.testing.assert_array_equal(np.bincount(step, size), batch.tokens)
    assert (np.diff(step) >= 0).all()
    if macro == "ngram":
        assert size.max() <= n
    if boundaries == "official":
        assert (size[np.flatnonzero(np.diff(step, append=-1))] == 1).all(), "the last token of a response is alone"
    else:
        assert (size > 0).all()
    assert summed(weights(size, "position"), size) == pytest.approx((size > 0).astype(float))


def test_a_rise_of_perplexity_ends_a_macro_action() -> None:
    batch = batch_of([episode([1.0], tokens=5)], np.zeros(5))
    batch.logprobs = -np.array([3.0, 2.0, 2.0, 4.0, 1.0])
    size, _ = (method := MacroPPO(macro="perplexity")).macros(method.score(batch))
    assert size.tolist() == [3, 2]
    batch.logprobs = None
    with pytest.raises(ValueError, match=r"macro=perplexity needs batch\.logprobs"):
        method.advantages(batch)
