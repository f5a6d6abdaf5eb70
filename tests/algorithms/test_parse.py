"""Macro actions by the parse of a response: what the parts are, and that the walk through them is the paper's."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.base import Batch
from algorithms.macro import MacroPPO
from algorithms.parse import CHARACTER, RESPONSE, TOKEN, constituents, levels
from algorithms.ppo import PPO
from tests.algorithms.test_critics import batch_of, batches
from tests.algorithms.test_macro import Played, common

quick = settings(max_examples=60, deadline=None)
SAID = ["I", " go", " to", ",", ".", ":", "?", "\n", " ", "(", ")", "[", "é", "!", "", "", ".\n", "></", "ab"]
SAID += ["<a>", "<b>", "</a>", "</b>", "<c/>", "<", ">", "</", "a>"]
responses = st.lists(st.sampled_from(SAID), min_size=1, max_size=40)


def in_tokens(text: str) -> list[str]:
    """Words with the space before them, and marks: as byte pair encodings cut English."""
    return re.findall(r" ?\w+|\s|[^\w\s]", text)


def parts(pieces: list[str], most: int) -> list[str]:
    begins = np.flatnonzero(constituents(levels(pieces), most)).tolist()
    return ["".join(pieces[a:b]) for a, b in pairwise([*begins, len(pieces)])]


def walked(level: list[int], most: int) -> list[int]:
    """Sizes of the macro actions of a part of a response, one call a part."""
    if len(level) <= most:
        return [len(level)]
    at = min(level[1:])  # where the part is divided
    begins = [0, *(place for place in range(1, len(level)) if level[place] == at)]
    found: list[int] = []
    for a, b in pairwise([*begins, len(level)]):
        size = walked(level[a:b], most)
        if a > 0 and size == [1] and found[-1] < most:
            found[-1] += 1
        else:
            found += size
    return found


@given(st.lists(responses, min_size=1, max_size=4), st.integers(1, 8))
@quick
def test_it_is_the_walk_through_each_tree(said: list[list[str]], most: int) -> None:
    trees = [levels(pieces) for pieces in said]
    begins = np.flatnonzero(constituents(np.concatenate(trees), most))
    expected = [size for tree in trees for size in walked(tree.tolist(), most)]
    assert np.diff(begins, append=sum(map(len, said))).tolist() == expected


@given(responses, st.integers(1, 8))
@quick
def test_each_token_is_in_one_macro_action_of_at_most_so_many(pieces: list[str], most: int) -> None:
    level = levels(pieces)
    begins = constituents(level, most)
    assert level[0] == RESPONSE
    assert begins[0]
    assert np.diff(np.flatnonzero(begins), append=len(pieces)).max() <= most
    assert "".join(parts(pieces, most)) == "".join(pieces)
    # A character is divided only if it has more tokens than a macro action may have.
    character = np.cumsum(level != TOKEN) - 1
    fits = np.bincount(character) <= most
    assert not (begins & (level == TOKEN) & fits[character]).any()


@given(responses)
@quick
def test_a_part_begins_where_the_token_before_has_said_a_whole_character(pieces: list[str]) -> None:
    begins = np.flatnonzero(levels(pieces) < CHARACTER)
    assert all(place == 0 or pieces[place - 1] for place in begins)


def spoken(played: Played, seed: int) -> Batch:
    """The batch with something said by each token."""
    batch = batch_of(*played)
    batch.token_text = np.random.default_rng(seed).choice(SAID, int(batch.tokens.sum())).tolist()
    return batch


@given(batches(), st.integers(0, 10**6), common, st.sampled_from(["equal", "position", "first"]))
@quick
def test_one_token_is_ppo_and_no_limit_is_a_step(played: Played, seed: int, same: dict[str, Any], value: Any) -> None:
    batch = spoken(played, seed)
    longest = int(batch.tokens.max())
    for most, other in ((1, PPO(**same)), (longest, MacroPPO(macro="step", value=value, **same))):
        found = MacroPPO(macro="parse", most=most, value=value, **same).advantages(batch)
        expected = other.advantages(batch)
        np.testing.assert_allclose(found.values, expected.values, atol=1e-12)
        np.testing.assert_allclose(np.asarray(found.returns), np.asarray(expected.returns), atol=1e-12)


@given(batches(), st.integers(0, 10**6), st.integers(1, 6))
@quick
def test_none_crosses_a_step(played: Played, seed: int, most: int) -> None:
    batch = spoken(played, seed)
    method = MacroPPO(macro="parse", most=most)
    size, step = method.macros(method.score(batch))
    np.testing.assert_array_equal(np.bincount(step, size), batch.tokens)
    assert (np.diff(step) >= 0).all()
    assert (size > 0).all()


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        (
            "<think>\nI need a mug, which may be in cabinet 1. Then I go.\n</think>\n<action>go to cabinet 1</action>",
            5,
            "<think>\n|I need a mug,| which may be in cabinet| 1.| Then I go.\n|</think>\n|<action>|go to cabinet 1|</action>",
        ),
        ("search[red shoes for men, size 9]", 5, "search|[red shoes for| men,| size 9]"),
        ("search[red shoes for men, size 9]", 20, "search[red shoes for men, size 9]"),
        ("1. take a mug\n2. go to it\n\nDone.", 7, "1. take a mug\n|2. go to it\n\n|Done."),
        ("<think>cut off: I look for", 4, "<think>|cut off:| I look for"),
        ("stray</b> a <a><b>x y z</a>", 5, "stray|</b>| a |<a>|<b>|x y z|</a>"),
        ('I said: "here." Go now!', 4, 'I said:| "here.|"| Go now!'),
        ("it costs 1,000.50 at 12:30", 10, "it costs| 1,000.50 at| 12:30"),
    ],
)
def test_parts_are_those_of_the_text(text: str, most: int, expected: str) -> None:
    assert "|".join(parts(in_tokens(text), most)) == expected


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a", " b", ".</", "x", ">", "c"], ["a b", ".</x>", "c"]),  # the token that holds the tag's first character
        (["go", "", "", "😀", " to", "", "é"], ["go", "😀", " toé"]),
        (["I", " go", ".", " You", " go", "."], ["I go.", " You go."]),
        (["I", " go", ""], ["I go"]),  # an end token
    ],
)
def test_tokens_are_never_divided_nor_characters(pieces: list[str], expected: list[str]) -> None:
    assert parts(pieces, 3) == expected


def test_a_batch_without_texts_is_refused() -> None:
    batch = batch_of([], np.zeros(0))
    with pytest.raises(ValueError, match=r"macro=parse needs batch\.token_text"):
        MacroPPO(macro="parse").advantages(batch)
