"""A prefix tree holds each distinct token once, says who sees whom, and what it is worth."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.models.blocks import Blocks, sees
from agents.training.prefix_tree import Text, Tree, Work, block_size, ordered

TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=12)
"""Few different ids, so that many texts begin alike, some are equal, and some begin as others end."""


def texts(of: list[list[int]]) -> list[Text]:
    return [np.array(one, dtype=np.int32) for one in of]


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_a_tree_holds_every_text_and_every_distinct_beginning_once(given: list[list[int]]) -> None:
    tree = Tree.of(texts(given))
    beginnings = {tuple(one[: n + 1]) for one in given for n in range(len(one))}
    assert len(tree.ids) == len(tree.positions) == len(tree.until) == len(beginnings)
    for one, places in zip(given, tree.places, strict=True):
        places = places[: len(one)]
        assert tree.ids[places].tolist() == one
        assert tree.positions[places].tolist() == list(range(len(one)))
        assert (np.diff(places) > 0).all()


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_a_token_sees_what_stands_before_it_in_its_texts_and_itself_and_nothing_else(given: list[list[int]]) -> None:
    tree = Tree.of(texts(given))
    expected = np.zeros((len(tree.ids), len(tree.ids)), dtype=bool)
    for one, places in zip(given, tree.places, strict=True):
        for n, place in enumerate(places[: len(one)]):
            expected[place, places[: n + 1]] = True
    assert (sees(tree.until) == expected).all()


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_texts_in_order_share_with_the_one_before_all_that_they_share_with_any(given: list[list[int]]) -> None:
    order, shared, ids = ordered(texts(given))
    assert sorted(order.tolist()) == list(range(len(given)))
    placed = [given[number] for number in order]
    assert [[i for i in line if i >= 0] for line in ids.tolist()] == placed
    for number, one in enumerate(placed):
        common = [sum(np.cumprod([a == b for a, b in zip(one, other)])) for other in placed[:number]]
        assert shared[number] == max(common, default=0)


@given(TEXTS, st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_work_is_what_is_computed(given: list[list[int]], size: int) -> None:
    """Up to the half of a block that stands after a token, and the padding of narrow blocks."""
    import torch

    tree = Tree.of(texts(given))
    seen = int(sees(tree.until).sum())
    work = Work.in_blocks(len(tree.ids), seen, size)
    blocks = Blocks.of(tree.until, size, torch.device("cpu"), torch.float32)
    compared = sum(int((mask == 0).sum()) for mask in blocks.masks)
    assert seen <= compared <= seen + size * size * 9  # the last block is filled up
    assert seen <= work.pairs == seen + size * len(tree.ids)
    assert Work.over_all(5).pairs == 25


def test_a_pair_costs_less_the_wider_a_model_is_and_memory_counts_copies() -> None:
    work = Work(tokens=100, pairs=80_000, copies=260)
    assert work.cost(64) > work.cost(128) > work.cost(1 << 20) > 100
    assert work.held == 100 + 160 / 8
    assert Work.padded(4, 10, "cpu") == Work(40, 200)  # half of the pairs are skipped
    assert Work.padded(4, 10, "cuda").cost(64) < Work.padded(4, 10, "cpu").cost(64)


def test_blocks_grow_with_the_texts_so_that_no_key_is_copied_more_than_nine_times_for_one() -> None:
    assert [block_size(n) for n in (1, 400, 800, 2560)] == [64, 64, 128, 320]
    for longest in range(100, 5000, 123):
        size = block_size(longest)
        assert longest / size <= 8
