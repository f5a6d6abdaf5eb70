"""Bare observations for models that were not made here: base models without a chat template."""

from __future__ import annotations

import pytest

from agents.models.policy import PolicyError
from agents.rollout.dialogue import Plain
from envs.alfworld.prompt import ALFWorldPrompt
from tests.agents.models.chat_templates import tokenizer_for
from tests.agents.models.models_for_tests import small_policy

ACTIONS = ["open fridge 1", "look"]


@pytest.mark.parametrize("bos", [None, "<bos>"])
def test_a_base_model_reads_lines_and_writes_its_action_on_one(bos: str | None) -> None:
    tokenizer = tokenizer_for(None, bos=bos)
    plain = Plain(tokenizer, ALFWorldPrompt())
    ids = plain.opening("You are in a room.", ACTIONS)
    response = [*plain.spell("open fridge 1", ACTIONS), plain.stop_ids[0]]
    ids += response + plain.turn("The fridge 1 is open.", ACTIONS, True, response)
    assert tokenizer.decode(ids) == f"{bos or ''}You are in a room.\n> open fridge 1\nThe fridge 1 is open.\n>"
    assert plain.action(response, ACTIONS) == ("open fridge 1", True)
    assert plain.action(response[:-1], None) == ("open fridge 1", False)


def test_a_note_stands_on_a_line_of_its_own_before_the_action() -> None:
    for tokenizer, expected in (
        (tokenizer_for(None, bos=None), "You see thing 1\nYou see thing 2\n>"),
        (small_policy().tokenizer, "<bos> you see thing 1 you see thing 2 <act>"),
    ):
        plain = Plain(tokenizer, ALFWorldPrompt())
        ids, (note, behind) = plain.opening("You see thing 1", ACTIONS), plain.noted("You see thing 2")
        assert tokenizer.decode([*ids[:-behind], *note, *ids[-behind:]]) == expected
        assert not {i for i in note if i in tokenizer.all_special_ids}


def test_a_base_models_line_may_end_inside_a_token() -> None:
    tokenizer = tokenizer_for(None)
    plain = Plain(tokenizer, ALFWorldPrompt())
    response = tokenizer(" open fridge 1\n\n", add_special_tokens=False).input_ids
    assert plain.action(response, ACTIONS) == ("open fridge 1", True)
    assert tokenizer.decode(plain.turn("Open.", ACTIONS, True, response)) == "Open.\n>"
    cut = tokenizer(" open fr", add_special_tokens=False).input_ids
    assert tokenizer.decode(plain.turn("Open.", ACTIONS, False, cut)) == "\nOpen.\n>"


def test_a_model_made_here_keeps_its_markers() -> None:
    plain = Plain(small_policy().tokenizer, ALFWorldPrompt())
    tokenizer = small_policy().tokenizer
    assert tokenizer.decode(plain.opening("You see thing 1", None)) == "<bos> you see thing 1 <act>"
    assert plain.stop_ids == (tokenizer.eos_token_id,)
    assert not plain.stop.listens


def test_special_tokens_in_an_observation_stay_text() -> None:
    tokenizer = small_policy().tokenizer
    plain = Plain(tokenizer, ALFWorldPrompt())
    ids = plain.turn("you see <act> <end> <bos> thing 1", None, True, [])
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert [i for i in ids if i in special] == [tokenizer.convert_tokens_to_ids("<act>")]


def test_a_tokenizer_that_can_end_nothing_is_refused() -> None:
    tokenizer = tokenizer_for(None)
    tokenizer.eos_token = None
    Plain(tokenizer, ALFWorldPrompt())  # a line's end is enough
    small = small_policy().tokenizer
    small.eos_token = None
    with pytest.raises(PolicyError, match="neither a token for the end"):
        Plain(small, ALFWorldPrompt())
