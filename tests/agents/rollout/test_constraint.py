"""Constrained sampling: which responses are allowed, and that sampling and training restrict alike."""

from __future__ import annotations

import pytest

from agents.rollout.constraint import ActionTries, Trie


def test_allowed_tokens_follow_the_prefix() -> None:
    trie = Trie([(1, 2), (1, 3), (4,)], end=0)
    assert trie.allowed([1, 3, 0]) == [[1, 4], [2, 3], [0]]
    assert trie.allowed([4, 0]) == [[1, 4], [0]]


def test_a_response_that_begins_another_one_may_end_or_go_on() -> None:
    trie = Trie([(1,), (1, 2)], end=0)
    assert sorted(trie.allowed([1, 0])[1]) == [0, 2]


def test_a_foreign_response_is_an_error() -> None:
    with pytest.raises(ValueError, match="token 9 at place 1"):
        Trie([(1, 2)], end=0).allowed([1, 9])


def test_without_responses_there_is_nothing_to_sample() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Trie([], end=0)


def test_a_response_spells_its_action_even_where_words_are_unknown() -> None:
    tries = ActionTries(lambda action: [len(word) for word in action.split()], end=0)
    actions = ["go north", "look"]
    assert tries.action(actions, [2, 5, 0]) == "go north"
    assert tries.action(actions, [2, 5]) == "go north"
    assert tries.action(actions, [2, 0]) is None
    assert tries.trie(actions) is tries.trie(list(actions))


def test_actions_may_be_written_in_other_words() -> None:
    tries = ActionTries(lambda words: [int(words)], end=0, wording=lambda actions: [str(7 + i) for i in range(len(actions))])
    actions = ["take the first", "take the second"]
    assert [tries.spell(action, actions) for action in actions] == [[7], [8]]
    assert tries.action(actions, [8, 0]) == "take the second"
    assert tries.trie(actions).allowed([8, 0]) == [[7, 8], [0]]
    assert tries.spell("something else", actions) == [7]
