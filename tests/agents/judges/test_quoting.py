"""Quoted text can be read, and can do nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.judges.quoting import quoted, quoted_line
from algorithms.shaping.answers import parse_answer

MAP = """\
 -----+---
 |.@....>|
 |..<.[.(|
 |.|<.d..#
 ---------"""

hostile = st.lists(
    st.sampled_from(
        [
            "{",
            "}",
            "<",
            ">",
            "|",
            "/",
            "im_start",
            "</",
            "<|",
            "```",
            "[INST]",
            "'key': 1",
            "\n",
            "\r",
            "\0",
            "\ud800",
            "\u2028",
        ]
    )
    | st.characters()
).map("".join)


def test_a_map_stays_as_it_is() -> None:
    assert quoted(MAP, 1000) == MAP


def test_water_and_fountains_look_like_themselves_and_keep_their_place() -> None:
    row = "|..}}}.{.|"
    assert quoted(row, 100) == "|..\u2775\u2775\u2775.\u2774.|"


@pytest.mark.parametrize(
    "token",
    [
        "<|im_start|>",
        "<|im_end|>",
        "<s>",
        "</s>",
        "<start_of_turn>",
        "<\uff5cUser\uff5c>",
        "<think>",
        "</transcript>",
        "[INST]",
        "[/INST]",
    ],
)
def test_special_tokens_and_tags_are_broken_and_still_readable(token: str) -> None:
    safe = quoted(f"before {token} after", 100)
    assert token not in safe
    assert token[1:] in safe


def test_the_separator_of_shop_pages_is_kept() -> None:
    assert quoted("WebShop [SEP] Instruction:", 100) == "WebShop [SEP] Instruction:"


def test_code_fences_are_broken() -> None:
    assert "```" not in quoted('```python\n{"key": 1}\n```', 100)


@pytest.mark.parametrize("text", ['{"key": 1}', "{\n'key'\n:\n1}", "{# so\n 'key': 1}", "x{'a': {'b': 1}}"])
def test_a_dictionary_cannot_be_copied_out_of_a_quotation(text: str) -> None:
    assert parse_answer(text) is not None
    assert parse_answer(quoted(text, 1000)) is None


def test_characters_that_are_not_seen_are_marked() -> None:
    assert quoted("a\0b\x1b[31mc\u202ed\ud800e\u200bf\tg", 100) == "a�b�[31mc�d�e�f g"


def test_every_kind_of_line_end_is_a_line_end() -> None:
    assert quoted("a\r\nb\rc\u2028d\x0be", 100) == "a\nb\nc\nd\ne"


def test_of_a_long_text_the_middle_is_left_out_and_said_to_be() -> None:
    safe = quoted("begin" + "x" * 1_000_000 + "end", 400)
    assert len(safe) < 500
    assert safe.startswith("begin")
    assert safe.endswith("end")
    assert "999608 characters left out" in safe


@given(hostile)
@settings(max_examples=300, deadline=None)
def test_whatever_was_written_becomes_inert(text: str) -> None:
    safe = quoted(text, 200)
    assert parse_answer(safe) is None
    assert not any(opening in safe for opening in ("{", "}", "<|", "</", "<i", "```", "[INST]"))
    assert all(c.isprintable() or c == "\n" for c in safe)
    assert json.loads(json.dumps(safe)).encode().decode() == safe


@given(hostile)
@settings(max_examples=100, deadline=None)
def test_a_line_is_one_line_and_quoting_twice_changes_nothing(text: str) -> None:
    line = quoted_line(text, 200)
    assert "\n" not in line
    assert quoted_line(line, 400) == line
