"""What a model reads of the shop, and which searches suggest themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.prompt import Window
from envs.webshop.engine import Session
from envs.webshop.observation import render
from envs.webshop.prompt import WebShopPrompt
from envs.webshop.queries import MOST, suggestions
from tests.envs.webshop.shops import SHIRT, goal, session

PROMPT = WebShopPrompt()
INSTRUCTION = goal().instruction


def text(visit: Session, mode: str = "text") -> str:
    return render(visit.view, mode)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["text", "text_rich", "html"])
@pytest.mark.parametrize("actions", [(), ("search[shirt]",), ("search[shirt]", f"click[{SHIRT}]")])
def test_the_task_is_the_instruction_read_off_any_page(mode: str, actions: tuple[str, ...]) -> None:
    assert PROMPT.task(text(session(*actions), mode)) == INSTRUCTION


def test_a_short_page_keeps_what_tells_articles_apart_and_drops_what_every_page_repeats() -> None:
    found = PROMPT.plain(text(session("search[shirt]")))
    assert found == "results 1 Blue Cotton Shirt for Summer result 1"
    item = PROMPT.plain(text(session("search[shirt]", f"click[{SHIRT}]")))
    assert item == "article color red navy blue one size small x-large one Blue Cotton Shirt for Summer price ; 20"
    assert PROMPT.plain(text(session())) == f"instruction: {INSTRUCTION.replace(' 30', ' ; 30')}"


def test_a_later_page_of_results_reads_like_the_first() -> None:
    second = PROMPT.plain(text(session("search[thing]", "click[next >]")))
    assert second.startswith("results 2 Thing B0MORE0009 result 1 Thing")
    assert second.endswith("B0MORE0018 result 10")


@pytest.mark.parametrize(
    "actions", [(), ("search[thing]",), ("search[thing]", "click[next >]"), ("search[shirt]", f"click[{SHIRT}]")]
)
def test_the_short_form_of_each_action_is_one_of_its_own(actions: tuple[str, ...]) -> None:
    possible = [f"click[{text}]" for text in session(*actions).clickables]
    written = PROMPT.plain_actions(possible)
    assert len(set(written)) == len(possible)
    for action, words in zip(possible, written):
        named = action.startswith("click[b0")
        assert words == (
            f"click result {possible.index(action) - possible.index('click[next >]')}" if named else f"click {action[6:-1]}"
        )


def test_a_page_that_is_no_shops_page_comes_through_as_it_is() -> None:
    for page in ("", "Instruction:", "WebShop", "hello [SEP] you"):
        assert PROMPT.plain(page) == page


def test_the_list_of_actions_shows_all_searches_as_one() -> None:
    listed = PROMPT.listing(["search[a]", "search[b]", "click[< prev]"])
    assert listed == "\nPossible actions:\nsearch[<your words>]\nclick[< prev]"
    assert "search" not in PROMPT.listing(["click[buy now]"])
    assert PROMPT.listing([]) == ""


def test_every_action_of_the_generated_shop_is_spelled_in_words_of_its_own() -> None:
    from agents.models.tokenizer import build
    from agents.rollout.constraint import ActionTries
    from envs.webshop import generator

    tokenizer = build([], *PROMPT.lexicon())
    for product in generator.catalogue():
        values = [value for values in product.options.values() for value in values]
        actions = [
            f"click[{text}]" for text in ("back to search", "< prev", "description", "features", "reviews", "buy now", *values)
        ]
        spelled = {tuple(tokenizer(words).input_ids) for words in PROMPT.plain_actions(actions)}
        assert len(spelled) == len(actions), product
        assert not any(tokenizer.unk_token_id in ids for ids in spelled), product
    tries = ActionTries(lambda words: tokenizer(words).input_ids, 2, PROMPT.plain_actions)
    assert tries.words("click[b0tea00001]", ["click[back to search]", "click[next >]", "click[b0tea00001]"]) == "click result 1"


def test_a_window_states_the_instruction_and_the_last_pages() -> None:
    page = text(session("search[shirt]"))
    said = PROMPT.window(Window(INSTRUCTION, [("a page", "search[shirt]")], 1, page, ["click[next >]"], valid=False))
    for part in (
        f"The instruction: {INSTRUCTION}",
        "1. a page\n   > search[shirt]",
        f"Step 2, the page now: {page}",
        "none of the",
    ):
        assert part in said


def test_the_price_is_no_part_of_a_search() -> None:
    assert suggestions("Find me soft shirts with color: red, and size: s, and price lower than 30.00 dollars") == (
        "find me soft shirts with color: red, and size: s", "find me soft shirts", "color: red", "size: s",
    )  # fmt: skip
    assert suggestions("a dog bed, no more than 60.00 dollars, water resistant")[0] == "a dog bed, water resistant"


@given(st.text(max_size=200))
def test_suggestions_are_few_distinct_and_can_be_typed(instruction: str) -> None:
    found = suggestions(instruction)
    assert len(found) == len(set(found)) <= MOST
    assert not any(sign in query for query in found for sign in "[]")
    assert all(query.strip() for query in found)


def test_the_tiny_models_words_cover_the_generated_shop() -> None:
    from agents.models.tokenizer import build, split
    from envs.webshop import generator

    phrases, words = PROMPT.lexicon()
    known = set(build([], phrases, words).get_vocab())
    products = generator.catalogue()
    texts = [text for product in products for text in (product.title, *(v for vs in product.options.values() for v in vs))]
    assert {token for one in texts for token in split(one, phrases)} <= known
