"""A visit to the shop, click by click: what is understood, where it leads, and what no action can do."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.base import TaskError
from envs.webshop.engine import Outcome, Session, parse
from envs.webshop.observation import render
from envs.webshop.store import ListCatalogue, content_hash
from tests.envs.webshop.shops import CATALOGUE, ODD, PRODUCTS, SHIRT, TEA, find, goal, product, session

OPEN_SHIRT = ("search[shirt]", f"click[{SHIRT}]")
OPEN_ODD = ("search[more]", f"click[{ODD}]")


def snapshot(visit):
    """All that a session holds."""
    return (
        visit.state_key,
        visit.visited.copy(),
        visit.query,
        *(render(visit.view, mode) for mode in ("text_rich", "url")),
    )


# -- actions -------------------------------------------------------------------------------------------------------------------


@given(st.text(alphabet="[]\n\rab c", max_size=14))
def test_an_action_is_parsed_as_the_official_pattern_parses_it(action):
    found = re.match(r"(.+)\[(.+)\]", action)
    assert parse(action) == (found.groups() if found else (action, None))


@pytest.mark.parametrize(
    "action", ["", "shirt", "search", "search[]", "search[shirt", "Search[shirt]", " search[shirt]", "buy[shirt]"]
)
def test_what_is_not_an_action_changes_nothing(action):
    visit = session()
    assert visit.act(action) == Outcome(valid=False, reward=0.0, done=False)
    assert visit.page == "search"


@pytest.mark.parametrize(
    "action", ["search[Blue SHIRT]", "search[blue shirt] and then", "search[blue shirt]\nclick[back to search]"]
)
def test_letters_in_the_argument_may_be_large_and_what_follows_is_ignored(action):
    visit = session(action)
    assert (visit.page, visit.query) == ("results", "blue shirt")


def test_a_click_takes_the_text_that_is_shown_in_any_case():
    assert session("search[shirt]", f"click[{SHIRT.lower()}]", "click[X-Large]", "click[DESCRIPTION]").sub_page == "Description"


def test_clicking_search_does_nothing_though_it_is_listed():
    visit = session()
    assert visit.clickables == ["search"]
    assert not visit.act("click[Search]").valid


@pytest.mark.parametrize("before", [(), ("search[tea]",), OPEN_SHIRT, (*OPEN_SHIRT, "click[red]", "click[Features]")])
def test_searching_works_on_every_page_and_starts_anew(before):
    visit = session(*before, "search[green tea]")
    assert (visit.page, visit.query, visit.number, visit.options) == ("results", "green tea", 1, {})
    assert [product.asin for product in visit.shown] == [TEA]


def test_debug_queries_are_queries_like_any_other():
    asked = []
    visit = Session(CATALOGUE, lambda query: asked.append(query) or [], goal(), "7")
    visit.act("search[<r>]")
    visit.act("search[<a> x]")
    assert asked == ["<r>", "<a> x"]


# -- results -------------------------------------------------------------------------------------------------------------------


def test_results_come_ten_a_page_and_next_goes_beyond_the_last():
    visit = session("search[thing]")
    assert [len(visit.shown), len(visit.results)] == [10, 21]
    assert visit.clickables[:2] == ["back to search", "next >"]
    for number, count in ((2, 10), (3, 1), (4, 0), (5, 0)):
        assert visit.act("click[next >]").valid
        assert (visit.number, len(visit.shown)) == (number, count)
        assert visit.clickables[:3] == ["back to search", "< prev", "next >"]
    assert [visit.act("click[< prev]").valid for _ in range(5)] == [True] * 4 + [False]
    assert visit.number == 1


def test_no_more_than_fifty_results_count():
    visit = Session(CATALOGUE, lambda query: [place % 24 for place in range(200)], goal(), "7")
    visit.act("search[x]")
    assert "(Total results: 50)" in render(visit.view, "text")


def test_only_products_on_the_page_can_be_opened():
    visit = session("search[thing]")
    assert not visit.act("click[b0more0015]").valid
    assert visit.act("click[next >]").valid
    assert visit.act("click[b0more0015]").valid


def test_a_number_with_small_letters_opens():
    small = product("b0small")
    visit = Session(ListCatalogue([*PRODUCTS, small]), lambda query: [len(PRODUCTS)], goal(), "7")
    assert visit.act("search[x]").valid
    assert visit.act("click[B0SMALL]").valid
    assert visit.product is small


# -- item pages ----------------------------------------------------------------------------------------------------------------


def test_options_are_chosen_and_chosen_again():
    visit = session(*OPEN_SHIRT, "click[small]", "click[red]", "click[x-large]")
    assert list(visit.options.items()) == [("size", "x-large"), ("color", "red")]


def test_of_a_value_in_two_options_the_last_gets_it():
    visit = session(*OPEN_SHIRT, "click[one]")
    assert visit.options == {"size": "one"}
    assert visit.clickables.count("one") == 1


def test_previous_leaves_a_sub_page_with_options_and_an_item_without():
    visit = session(
        "search[thing]", "click[next >]", "search[shirt]", *OPEN_SHIRT[1:], "click[red]", "click[Reviews]", "click[< Prev]"
    )
    assert (visit.page, visit.options) == ("item", {"color": "red"})
    assert visit.act("click[< prev]").valid
    assert (visit.page, visit.options, visit.product) == ("results", {}, None)


def test_previous_returns_to_the_page_of_results_that_was_left():
    visit = session("search[thing]", "click[next >]", "click[b0more0012]", "click[< prev]")
    assert (visit.page, visit.number, visit.shown[0].asin) == ("results", 2, "B0MORE0009")


def test_back_to_search_forgets_all_but_the_goal():
    visit = session(*OPEN_SHIRT, "click[red]", "click[back to search]")
    assert snapshot(visit) == snapshot(session())


@pytest.mark.parametrize("word", ["search_results", "item_page", "item_sub_page", "done"])
def test_a_query_that_names_a_page_misleads_nobody(word):
    visit = session(f"search[shirt {word}]", f"click[{SHIRT}]", "click[Features]", "click[< prev]")
    assert visit.page == "item"
    assert visit.act("click[< prev]").valid
    assert (visit.page, visit.number) == ("results", 1)


def test_an_option_named_like_a_button_is_that_button():
    assert session(*OPEN_ODD, "click[description]").page == "sub_page"
    assert session(*OPEN_ODD, "click[attributes]").sub_page == "Attributes"
    assert session(*OPEN_ODD, "click[buy now]").page == "done"
    assert session(*OPEN_ODD, "click[< prev]").page == "results"
    assert session(*OPEN_ODD, "click[back to search]").page == "search"
    assert not session(*OPEN_ODD).act("click[search]").valid


def test_an_option_named_like_a_button_of_another_page_can_be_chosen():
    assert session(*OPEN_ODD, "click[next >]").options == {"style": "next >"}


def test_an_option_in_brackets_cannot_be_clicked():
    visit = session(*OPEN_ODD)
    assert "[red]" in visit.clickables
    assert not visit.act("click[[red]]").valid


def test_the_attributes_page_is_offered_only_if_asked_for():
    assert not session(*OPEN_SHIRT).act("click[Attributes]").valid
    visit = session(*OPEN_SHIRT, "click[Attributes]", show_attributes=True)
    shown = "< Prev [SEP] easy care [SEP] long sleeve [SEP] fashion [SEP] shirts [SEP] Clothing"
    assert shown in render(visit.view, "text")


# -- buying --------------------------------------------------------------------------------------------------------------------


def test_buying_what_is_asked_for_pays_one_and_ends_the_visit():
    visit = session(*OPEN_SHIRT, "click[navy blue]", "click[x-large]", mode="fixed")
    assert visit.act("click[Buy Now]") == Outcome(valid=True, reward=1.0, done=True)
    assert visit.bought.total == 1.0
    before = snapshot(visit)
    for action in ("search[tea]", "click[back to search]", "click[buy now]"):
        assert visit.act(action) == Outcome(valid=False, reward=0.0, done=True)
    assert snapshot(visit) == before


def test_options_of_a_product_that_was_left_are_not_bought():
    visit = session(*OPEN_SHIRT, "click[navy blue]", "click[< prev]", f"click[{SHIRT}]", "click[buy now]")
    assert visit.bought.parts["r_option"] == 0.0


def test_only_buying_pays():
    visit = session()
    for action in (*OPEN_SHIRT, "click[x-large]", "nonsense", "click[features]", "click[< prev]"):
        assert visit.act(action).reward == 0.0


def test_a_goal_of_another_shop_is_refused():
    with pytest.raises(TaskError, match=r"goal 7: .* has no product B0ELSEWHERE"):
        Session(CATALOGUE, find, goal(asin="B0ELSEWHERE"), "7")


# -- states --------------------------------------------------------------------------------------------------------------------


def test_equal_states_have_equal_keys_however_they_were_reached():
    chosen = session(*OPEN_SHIRT, "click[red]", "click[small]")
    other = session(
        "search[tea]", f"click[{TEA}]", "search[a shirt]", f"click[{SHIRT}]", "click[small]", "click[red]", name="8"
    )
    assert chosen.state_key == other.state_key
    assert chosen.visited != other.visited


def test_what_matters_later_is_in_the_key():
    visits = [
        session(),
        session("search[shirt]"),
        session("search[thing]"),
        session("search[thing]", "click[next >]"),
        session(*OPEN_SHIRT),
        session("search[shirt tea]", f"click[{SHIRT}]"),
        session(*OPEN_SHIRT, "click[red]"),
        session(*OPEN_SHIRT, "click[small]"),
        session(*OPEN_SHIRT, "click[features]"),
        session(*OPEN_SHIRT, "click[reviews]"),
        session(*OPEN_SHIRT, "click[buy now]"),
    ]
    assert len({visit.state_key for visit in visits}) == len(visits)


# -- hostile actions -----------------------------------------------------------------------------------------------------------

PIECES = [
    *(
        "click[",
        "search[",
        "click[click[",
        "[",
        "]",
        "]]",
        "\n",
        "\r",
        "\0",
        " ",
        "",
        "\ud800",
        "\u202e",
        "ǅ",
        "İ",
        "ß",
        "🛒",
        "\xa0",
    ),
    *(
        '"',
        "'",
        "\\",
        "{",
        "}",
        "%s",
        "{0}",
        "<r>",
        "<script>",
        "</button>",
        "&amp;",
        "../",
        "?action=",
        "+",
        "a" * 3000,
        "[" * 500,
    ),
    *(
        "shirt",
        "thing tea",
        SHIRT,
        ODD.lower(),
        "next >",
        "< prev",
        "red",
        "x-large",
        "description",
        "Buy Now",
        "back to search",
    ),
]


def test_no_hostile_action_raises_or_reaches_another_visit():
    rng = random.Random(0)
    visit, other = session(), session(*OPEN_SHIRT, "click[red]")
    untouched, catalogue = snapshot(other), content_hash(CATALOGUE)
    counts = {True: 0, False: 0}
    for number in range(100_000):
        pieces = rng.choices(PIECES, k=rng.randint(1, 5))
        if rng.random() < 0.3:
            pieces = [rng.choice(("click[", "search[")), *(rng.choice(visit.clickables or [""]),), "]", *pieces[2:]]
        action = "".join(pieces)
        key = visit.state_key
        outcome = visit.act(action)
        counts[outcome.valid] += 1
        assert outcome.valid or visit.state_key == key
        if number % 20 == 0:
            for mode in ("text", "text_rich", "html", "url"):
                assert isinstance(render(visit.view, mode), str)
        if outcome.done:
            visit.start()
    assert min(counts.values()) > 10_000
    assert snapshot(other) == untouched
    assert content_hash(CATALOGUE) == catalogue


@pytest.mark.parametrize(
    "action", ["[" * 1_000_000, "click[" * 200_000 + "]", "x[" * 300_000 + "]" * 300_000, "\n" * 1_000_000]
)
def test_a_very_long_action_is_answered(action):
    visit = session()
    assert not visit.act(action).valid
