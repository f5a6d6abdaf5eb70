"""What the tokenizers made here do to texts: `build` reads words, `build_exact` keeps every character."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from agents.models.tokenizer import SPECIAL, UNK, build, build_exact

CORPUS = ["You have 7 attempts left. Guess a number, e.g. [42]!", "The ball is north of a chair.", "go north"]
STRANGE = [
    "",
    " ",
    "  two blanks,\ttab\r\nand lines\n\n\n  end ",
    "<end> is no end, <unk> not unknown, <pad><bos><act>",
    "Größe 12·10³ €, 日本語 नमस्ते 🚪👩‍👩‍👧 \x00\x1b[31m",
    "##..@..##\n#[`'\"]{}()|\\/~^$%&*_+-=<>?;:,.",
    "supercalifragilistic" * 30,
    "e\u0301 \u00a0\u2003\u2028 x",
    "a the an The. ,, 007 -3.14e-9",
]


@pytest.fixture(scope="module", params=["made", "loaded"])
def exact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    tokenizer = build_exact(CORPUS, ["The ball is"], ["chair"])
    if request.param == "loaded":
        folder: Path = tmp_path_factory.mktemp("tokenizer")
        tokenizer.save_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder)
    return tokenizer


def ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def assert_kept(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    found = ids(tokenizer, text)
    assert not set(found) & set(tokenizer.convert_tokens_to_ids(list(SPECIAL)))
    assert tokenizer.decode(found) == tokenizer.decode(found, skip_special_tokens=True) == text


@pytest.mark.parametrize("text", [*CORPUS, *STRANGE])
def test_exact_keeps_every_character_and_knows_every_text(exact: PreTrainedTokenizerBase, text: str) -> None:
    assert_kept(exact, text)


def test_exact_keeps_texts_drawn_from_all_of_unicode(exact: PreTrainedTokenizerBase) -> None:
    rng = random.Random(0)
    for _ in range(300):
        points = [rng.choice((rng.randrange(128), rng.randrange(0x2FF), rng.randrange(0x10FFFF))) for _ in range(40)]
        assert_kept(exact, "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000))


def test_exact_has_a_token_for_each_known_word_phrase_digit_and_mark(exact: PreTrainedTokenizerBase) -> None:
    said = [exact.decode([i]).strip() or " " for i in ids(exact, "The ball is north of a chair [42]")]
    assert said == ["The ball is", "north", "of", "a", "chair", "[", "4", "2", "]"]
    assert ids(exact, "north go") == [*ids(exact, "north"), *ids(exact, "go")]
    assert ids(exact, "Guess\nnorth") != ids(exact, "Guess north")


def test_the_same_corpus_in_another_order_makes_the_same_tokenizer() -> None:
    for make in (build, build_exact):
        there, back = (make(corpus, ["go north"]).backend_tokenizer.to_str() for corpus in (CORPUS, CORPUS[::-1]))
        assert there == back


def test_words_are_read_without_case_articles_commas_and_full_stops_and_unknown_ones_are_unk() -> None:
    tokenizer = build(CORPUS)
    assert tokenizer.convert_ids_to_tokens(ids(tokenizer, "THE ball, you have 7.")) == ["ball", "you", "have 7"]
    assert tokenizer.convert_ids_to_tokens(ids(tokenizer, "have 8 zebras [42]")) == [UNK, UNK, "[", "42", "]"]
