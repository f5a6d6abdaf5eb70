from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.base import TaskError
from envs.webshop import official, parity
from envs.webshop.goals import ORDER_SEED, Wish, in_official_order, price_bound
from envs.webshop.products import NO_PRICE_LIMIT, Goal

# -- files in the official layout, of our own articles -------------------------------------------------------------------------


def article(asin: str = "LAMP000001", **changes: Any) -> dict[str, Any]:
    """A record of items_shuffle.json; a change to `...` takes the key away."""
    record = {
        "asin": asin,
        "name": "Reading Lamp",
        "full_description": "A lamp to read by.",
        "small_description": ["Bright.", "Small."],
        "category": "home",
        "query": " Desk Lamps ",
        "product_category": "Home \u203a Lighting \u203a Lamps",
        "pricing": "$12.50",
        "images": ["https://example.org/lamp.jpg", "https://example.org/back.jpg"],
        "customization_options": "",
    }
    return {key: value for key, value in (record | changes).items() if value is not ...}


def asking(*attributes: str, text: str = "Find me a lamp") -> dict[str, Any]:
    """What items_ins_v2.json says of an article that is asked for."""
    return {"attributes": ["easy clean", *attributes], "instruction": text, "instruction_attributes": list(attributes)}


def choices(**options: list[str] | None) -> dict[str, Any]:
    """`customization_options` of an article."""
    return {name: values if values is None else [{"value": value} for value in values] for name, values in options.items()}


def write_files(
    folder: Path,
    items: list[dict[str, Any]],
    sayings: dict[str, Any] | None = None,
    people: dict[str, Any] | None = None,
    suffix: str = "",
    nouns: Any = ("lamp",),
) -> Path:
    """Write a catalogue in the official layout; every title has the same nouns."""
    contents: dict[str, Any] = {f"items_shuffle{suffix}": items, f"items_ins_v2{suffix}": sayings or {}}
    contents["items_human_ins"] = people or {}
    contents["title_nouns"] = {str(item.get("asin")): nouns for item in items}
    for name, content in contents.items():
        (folder / f"{name}.json").write_bytes(orjson.dumps(content))
    return folder


# -- against the recorded official code ----------------------------------------------------------------------------------------


def recorded(folder: Path, kind: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    with gzip.open(folder / f"golden_official_1k_{kind}.jsonl.gz") as lines:
        meta, *episodes = map(orjson.loads, lines)
    return meta["meta"], episodes


@pytest.mark.data
@pytest.mark.parametrize(("kind", "human"), [("synth", False), ("human", True)])
def test_prices_and_goals_are_those_that_the_official_code_drew(webshop_data, kind, human):
    meta, episodes = recorded(webshop_data, kind)
    products, goals = official.read(webshop_data, human=human, seed=meta["seed"])
    assert {product.asin: product.price for product in products} == meta["prices"]
    assert len(goals) == meta["n_goals"]
    for episode in episodes:
        goal = goals[episode["goal_idx"]]
        assert parity.official_goal(goal) == episode["goal"]
        assert list(goal.options) == list(episode["goal"]["goal_options"])


@pytest.mark.data
def test_every_official_product_has_the_frozen_nouns(webshop_data):
    frozen = orjson.loads((webshop_data / "title_nouns_sm380.json").read_bytes())
    products, _ = official.read(webshop_data)
    assert {product.asin: list(product.nouns) for product in products} == frozen


@pytest.mark.data
def test_the_full_catalogues_goals_begin_with_the_small_ones_before_they_are_shuffled(webshop_data):
    """The small catalogue is the beginning of the full one, so that its people stand first in the full order's permutation."""

    def letters(text: str) -> str:
        return "".join(filter(str.isalnum, text))

    recorded_order = json.loads((webshop_data / "human_goals.json").read_bytes())
    nobody = Goal("A", *["x"] * 4, "", ("dim",), (), NO_PRICE_LIMIT)
    wishes = [Wish(replace(nobody, asin=str(number)), 1000.0, None) for number in range(len(recorded_order))]
    goals = in_official_order(wishes, random.Random(0))
    first = {int(goal.asin): said for goal, said in zip(goals, recorded_order, strict=True)}
    people = orjson.loads((webshop_data / "items_human_ins.json").read_bytes())
    small = [one["instruction"] for product in official.read(webshop_data)[0] for one in people.get(product.asin, [])]
    assert len(small) == 13
    assert [letters(said) for said in small] == [letters(first[number]) for number in range(13)]


# -- nouns ---------------------------------------------------------------------------------------------------------------------


MODEL = any(find_spec(name) for name in official.MODELS)
needs_model = pytest.mark.skipif(not MODEL, reason="spaCy's small English model is not there (extra webshop-nouns)")


@pytest.mark.data
@needs_model
def test_the_model_finds_the_frozen_nouns(webshop_data):
    products, _ = official.read(webshop_data)
    assert list(official.nouns(product.title for product in products)) == [product.nouns for product in products]


@needs_model
def test_titles_without_frozen_nouns_are_tagged(tmp_path):
    write_files(tmp_path, [article("A"), article("B", name="Oak Table"), article("C")])
    (tmp_path / "title_nouns.json").write_bytes(orjson.dumps({"A": ["frozen"], "C": []}))
    products, _ = official.read(tmp_path)
    assert [product.nouns for product in products] == [("frozen",), ("oak", "table"), ()]


@pytest.mark.skipif(MODEL, reason="spaCy's small English model is there")
def test_without_frozen_nouns_and_without_the_model_the_error_names_what_to_install(tmp_path):
    write_files(tmp_path, [article()])
    (tmp_path / "title_nouns.json").unlink()
    with pytest.raises(TaskError, match=r"title_nouns\*\.json .* pip install 'stepcredit\[webshop-nouns\]'"):
        official.read(tmp_path)


def test_two_files_of_nouns_are_one_too_many(tmp_path):
    write_files(tmp_path, [article()])
    (tmp_path / "title_nouns_other.json").write_text("{}")
    with pytest.raises(TaskError, match=r"title_nouns\.json, title_nouns_other\.json; expected one file"):
        official.read(tmp_path)


# -- products ------------------------------------------------------------------------------------------------------------------


def only(folder: Path, **changes: Any) -> Any:
    (product,), _ = official.read(write_files(folder, [article(**changes)]))
    return product


def test_a_record_becomes_a_product(tmp_path):
    product = only(tmp_path)
    assert (product.asin, product.title, product.description) == ("LAMP000001", "Reading Lamp", "A lamp to read by.")
    assert (product.bullets, product.nouns) == (("Bright.", "Small."), ("lamp",))
    assert (product.department, product.query, product.category) == ("home", "desk lamps", "Home \u203a Lighting \u203a Lamps")
    assert product.image == "https://example.org/lamp.jpg"
    assert product.options == {}


@pytest.mark.parametrize(
    ("pricing", "price", "tag"),
    [
        ("$877.8", 877.8, "$877.8"),
        ("$1,299", 1299.0, "$1299.0"),
        ("about $5.99 (each)", 5.99, "$5.99"),
        ("", 100.0, "$100.0"),
        (None, 100.0, "$100.0"),
        (..., 100.0, "$100.0"),
    ],
)
def test_a_price_is_what_stands_behind_the_dollar(tmp_path, pricing, price, tag):
    product = only(tmp_path, pricing=pricing)
    assert (product.price, product.price_tag) == (price, tag)


def test_a_range_price_is_drawn_once_and_equal_on_every_machine(tmp_path):
    items = [article("A"), article("B", pricing="$10.00 - $20.00"), article("C", pricing="$1 $2 $90")]
    write_files(tmp_path, items)
    products, _ = official.read(tmp_path)
    assert [product.price for product in products] == [12.5, 16.824769139473528, 1.6283202109809802]
    assert [product.price_tag for product in products] == ["$12.5", "$10.0 to $20.0", "$1.0 to $2.0"]
    assert official.read(tmp_path)[0] == products
    other, _ = official.read(tmp_path, seed=1)
    assert other[1].price != products[1].price
    assert 10 <= other[1].price <= 20


def test_options_are_lower_case_with_spaced_bars_and_the_order_of_the_page(tmp_path):
    options = choices(Size=["XL ", "S/M"], Color=None, STYLE=["b", "A", "b"])
    assert only(tmp_path, customization_options=options).options == {"size": ("xl", "s | m"), "style": ("b", "a", "b")}


def test_a_single_text_is_one_bullet_point(tmp_path):
    assert only(tmp_path, small_description="All in one.").bullets == ("All in one.",)


@pytest.mark.parametrize("images", [..., None, [], "lamp.jpg", {"0": "lamp.jpg"}, [None, "lamp.jpg"], [["lamp.jpg"]]])
def test_an_article_without_a_first_picture_is_sold_without_one(tmp_path, images):
    assert only(tmp_path, images=images).image == ""


def test_pictures_after_the_first_are_not_looked_at(tmp_path):
    assert only(tmp_path, images=["lamp.jpg", None, 5]).image == "lamp.jpg"


def test_articles_without_attributes_get_the_official_placeholder(tmp_path):
    sayings = {"A": {"attributes": []}, "B": {"instruction": None}, "C": {"attributes": ["red", "dim"]}}
    products, goals = official.read(write_files(tmp_path, [article(asin) for asin in "ABCD"], sayings))
    assert [product.attributes for product in products] == [(), ("DUMMY_ATTR",), ("red", "dim"), ("DUMMY_ATTR",)]
    assert goals == []


def test_articles_named_nan_or_too_long_or_twice_are_left_out(tmp_path):
    items = [article("A"), article("nan"), article("ABCDEFGHIJK"), article("A", name="Other"), article("ABCDEFGHIJ")]
    products, _ = official.read(write_files(tmp_path, items))
    assert [(product.asin, product.title) for product in products] == [("A", "Reading Lamp"), ("ABCDEFGHIJ", "Reading Lamp")]


def test_records_may_be_longer_than_what_is_read_at_a_time(tmp_path):
    items = [article(f"A{i}", full_description=f"{i}ä" * (400_000 * i)) for i in range(6)]
    write_files(tmp_path, items)
    (tmp_path / "items_shuffle.json").write_text(f" {json.dumps(items, indent=3)}\n\n", encoding="utf-8")
    products, _ = official.read(tmp_path)
    assert [product.description for product in products] == [item["full_description"] for item in items]


# -- which catalogue -----------------------------------------------------------------------------------------------------------


def test_the_small_catalogue_is_read_where_it_is_asked_for_or_alone(tmp_path):
    write_files(tmp_path, [article("SMALL"), article("B")], suffix="_1000")
    assert len(official.read(tmp_path)[0]) == 2
    assert len(official.read(tmp_path, size=1)[0]) == 1
    write_files(tmp_path, [article("FULL"), article("C"), article("D")])
    small = orjson.loads((tmp_path / "items_shuffle_1000.json").read_bytes())
    (tmp_path / "title_nouns.json").write_bytes(orjson.dumps({a: [] for a in ("SMALL", "B", "FULL", "C", "D")}))
    assert official.read(tmp_path)[0][0].asin == "FULL"
    assert official.read(tmp_path, size=1)[0][0].asin == "SMALL" == small[0]["asin"]


def test_size_counts_records_before_any_is_left_out(tmp_path):
    write_files(tmp_path, [article("A"), article("nan"), article("B")])
    assert [product.asin for product in official.read(tmp_path, size=2)[0]] == ["A"]


@pytest.mark.parametrize(("size", "message"), [(4, "4 records are asked for and it has 3"), (0, "at least 1 product")])
def test_a_size_that_cannot_be_met_is_refused(tmp_path, size, message):
    write_files(tmp_path, [article("A"), article("nan"), article("B")])
    with pytest.raises(TaskError, match=message):
        official.read(tmp_path, size=size)


# -- goals ---------------------------------------------------------------------------------------------------------------------


def test_a_synthetic_goal_is_made_of_every_combination_of_options(tmp_path):
    options = choices(Size=["s", "m"], Color=["red", "blue"])
    items = [article("A", customization_options=options), article("B", pricing="$985"), article("C")]
    sayings = {"A": asking("dim", "warm"), "B": asking("dim", text="Get a lamp"), "C": {"attributes": ["dim"]}}
    _, goals = official.read(write_files(tmp_path, items, sayings))
    of_b = [goal for goal in goals if goal.asin == "B"]
    of_a = sorted((goal for goal in goals if goal.asin == "A"), key=lambda goal: goal.instruction)
    assert len(goals) == 5
    assert [list(goal.options.items()) for goal in of_a] == [
        [("color", color), ("size", size)] for color, size in itertools.product(["blue", "red"], ["m", "s"])
    ]
    bound = of_a[0].price_upper
    assert of_a[0].instruction == f"Find me a lamp with color: blue, and size: m, and price lower than {bound:.2f} dollars"
    assert {(goal.price_upper, goal.weight) for goal in of_a} == {(bound, statistics.mean([1 / 5, 1 / 4]))}
    assert [(goal.instruction, goal.options, goal.price_upper, goal.weight) for goal in of_b] == [
        ("Get a lamp", {}, NO_PRICE_LIMIT, 1 / 5)
    ]


def test_human_goals_have_values_of_options_and_need_attributes(tmp_path):
    people = {
        "B": [
            {"instruction": "..i want a red lamp.", "instruction_attributes": ["dim"], "instruction_options": ["red"]},
            {"instruction": "any lamp", "instruction_attributes": [], "instruction_options": []},
        ],
        "Z": [{"instruction": "not sold here", "instruction_attributes": ["dim"], "instruction_options": []}],
    }
    items = [article("A"), article("B", pricing="$985", customization_options=choices(color=["red", "blue"]))]
    write_files(tmp_path, items, {"A": asking("dim")}, people)
    _, (goal,) = official.read(tmp_path, human=True)
    assert (goal.asin, goal.instruction, goal.options) == ("B", "i want a red lamp", ("red",))
    assert (goal.attributes, goal.price_upper, goal.weight) == (("dim",), NO_PRICE_LIMIT, 1.0)


def test_goals_come_after_prices(tmp_path):
    reader = official.Reader(write_files(tmp_path, [article()], {"LAMP000001": asking("dim")}))
    goals = reader.goals()
    with pytest.raises(RuntimeError, match="read all products first"):
        next(goals)
    assert len(list(reader.products())) == len(list(reader.goals())) == 1


def two_by(rng: random.Random) -> Callable[[list[float]], list[float]]:
    """As the official code draws two."""
    return partial(rng.sample, k=2)


@given(st.floats(0, 2000), st.integers(0))
def test_a_price_bound_is_the_second_to_fourth_multiple_of_ten_above_the_price(price, seed):
    bound = price_bound(price, two_by(random.Random(seed)))
    if price >= 980:
        assert bound == NO_PRICE_LIMIT
    else:
        assert bound in [10.0 * (price // 10 + k) for k in (2, 3, 4)]
        assert bound <= 990


WORDS = st.sampled_from(["red", "blue", "s", "m"])
GOAL = st.builds(Goal, *[st.just("x")] * 6, st.lists(WORDS, min_size=1, max_size=3).map(tuple), st.just(()), st.just(0.0))
WISHES = st.lists(
    st.builds(Wish, GOAL, st.floats(1, 1000), st.none() | st.dictionaries(WORDS, st.lists(WORDS, max_size=3).map(tuple))),
    max_size=6,
)


@given(WISHES, st.integers(0))
def test_goals_made_in_their_turn_are_those_of_a_shuffled_list(wishes, seed):
    rng = random.Random(seed)
    bounds = [price_bound(wish.price, two_by(rng)) for wish in wishes]
    expected: list[tuple[Wish, float, Any]] = []
    for wish, bound in zip(wishes, bounds, strict=True):
        names = sorted(wish.options or {})
        for values in itertools.product(*((wish.options or {})[name] for name in names)):
            expected.append((wish, bound, wish.goal.options if wish.options is None else dict(zip(names, values, strict=True))))
    counts = Counter(attribute for wish, *_ in expected for attribute in wish.goal.attributes)
    random.Random(ORDER_SEED).shuffle(expected)
    goals = list(in_official_order(wishes, random.Random(seed)))
    assert [(goal.price_upper, goal.options) for goal in goals] == [(bound, options) for _, bound, options in expected]
    for goal, (wish, *_) in zip(goals, expected, strict=True):
        shares = [1 / counts[attribute] for attribute in goal.attributes]
        assert goal.weight == (1.0 if wish.options is None else pytest.approx(statistics.mean(shares)))


# -- broken files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"asin": ...}, r": key 'asin' is missing; expected text"),
        ({"asin": 5}, r": key 'asin' holds '5'; expected text"),
        ({"asin": ""}, r"key 'asin' holds ''; expected up to 10 letters and digits"),
        ({"asin": "B 1"}, r"key 'asin' holds 'B 1'; expected up to 10 letters and digits"),
        ({"name": None}, r" \(asin 'B'\): key 'name' holds 'None'; expected text"),
        ({"full_description": ...}, r"key 'full_description' is missing"),
        ({"small_description": [1]}, r"key 'small_description' holds '\[1\]'; expected a list of texts"),
        ({"small_description": []}, r"key 'small_description' holds '\[\]'; expected text or a list of at least one text"),
        ({"pricing": "$cheap"}, r"key 'pricing' holds '\$cheap'; expected a price such as '\$12.98'"),
        ({"pricing": "12.98"}, r"key 'pricing' holds '12.98'"),
        ({"pricing": "$1.2.3"}, r"key 'pricing' holds '\$1.2.3'"),
        ({"pricing": 12.98}, r"key 'pricing' holds '12.98'"),
        ({"customization_options": ...}, r"key 'customization_options' is missing"),
        ({"customization_options": ["red"]}, r"key 'customization_options' holds \"\['red'\]\"; expected '' or {name"),
        ({"customization_options": {"color": ["red"]}}, r"key 'customization_options' holds"),
        ({"customization_options": {"color": [{"image": ""}]}}, r"key 'customization_options' holds"),
        ({"customization_options": {"color": "red"}}, r"key 'customization_options' holds"),
    ],
)
def test_a_malformed_article_is_named_with_key_and_what_is_allowed(tmp_path, changes, message):
    write_files(tmp_path, [article("A"), article(**{"asin": "B", **changes})])
    with pytest.raises(TaskError, match=rf"items_shuffle\.json, record 1.*{message}.*; set WEBSHOP_DATA"):
        official.read(tmp_path)


@pytest.mark.parametrize(
    ("sayings", "people", "message"),
    [
        ({"A": []}, {}, r"items_ins_v2.json, asin 'A': holds a list; expected an object"),
        ({"A": {"attributes": "red"}}, {}, r"items_ins_v2.json, asin 'A': key 'attributes' holds 'red'; expected a list"),
        ({"A": {"instruction": "x"}}, {}, r"asin 'A': key 'instruction_attributes' is missing"),
        ({"A": asking()}, {}, r"asin 'A': key 'instruction_attributes' holds '\[\]'; expected at least one text"),
        ({"A": asking("dim") | {"instruction": 1}}, {}, r"asin 'A': key 'instruction' holds '1'; expected text"),
        ({}, {"A": {}}, r"items_human_ins.json, asin 'A': expected a list of objects"),
        ({}, {"A": [{"instruction": "x"}]}, r"items_human_ins.json, asin 'A': key 'instruction_attributes' is missing"),
    ],
)
def test_a_malformed_instruction_is_named_with_file_and_article(tmp_path, sayings, people, message):
    write_files(tmp_path, [article("A")], sayings, people)
    with pytest.raises(TaskError, match=rf"{message}.*; set WEBSHOP_DATA"):
        official.read(tmp_path, human=bool(people))


def test_values_nested_deeply_are_told_in_short(tmp_path):
    write_files(tmp_path, [article("A")])
    (tmp_path / "items_ins_v2.json").write_text('{"A": {"attributes": ' + "[" * 1000 + "]" * 1000 + "}}")
    with pytest.raises(TaskError, match=r"asin 'A': key 'attributes' holds '\[+\.\.\.\]+'; expected a list of texts"):
        official.read(tmp_path)


def test_malformed_nouns_are_named(tmp_path):
    with pytest.raises(TaskError, match=r"title_nouns\.json, asin 'A': key 'A' holds 'lamp'; expected a list of texts"):
        official.read(write_files(tmp_path, [article("A")], nouns="lamp"))


@pytest.mark.parametrize("name", ["items_shuffle", "items_ins_v2", "items_human_ins"])
def test_a_missing_file_is_named_with_the_way_to_get_it(tmp_path, name):
    write_files(tmp_path, [article()])
    (tmp_path / f"{name}.json").unlink()
    with pytest.raises(TaskError, match=rf"{name}.*set WEBSHOP_DATA .*setup\.sh"):
        official.read(tmp_path, human=True)


@pytest.mark.parametrize("name", ["items_shuffle", "items_ins_v2", "items_human_ins", "title_nouns"])
def test_a_file_cut_short_anywhere_is_refused(tmp_path, name):
    people = {"A": [{"instruction": "x", "instruction_attributes": ["dim"], "instruction_options": []}]}
    write_files(tmp_path, [article("A"), article("B")], {"A": asking("dim")}, people)
    file = tmp_path / f"{name}.json"
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(TaskError, match=rf"{name}\.json"):
            official.read(tmp_path, human=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{}", r"begins with '{}'; expected a JSON array"),
        (b"[]", r"record 0: not JSON"),
        (b"[5]", r"record 0: holds a int; expected an object"),
        (b'[{"asin": "nan"} {"asin": "nan"}]', r"record 0: not JSON \(neither ',' nor '\]' after it\)"),
        (b'[{"asin": "nan"}, nothing]', r"record 1: not JSON"),
        (b'[{"asin": "nan"}, "\xff"]', r"not UTF-8"),
        (b'[{"asin": "nan"}, ' + b"[" * 100_000, r"record 1: cannot be read \(maximum recursion depth exceeded.*WEBSHOP_DATA"),
        (b'[{"asin": ' + b"1" * 5000 + b"}]", r"record 0: cannot be read \(Exceeds the limit .*WEBSHOP_DATA"),
    ],
)
def test_a_catalogue_that_is_no_array_of_articles_is_refused(tmp_path, text, message):
    write_files(tmp_path, [article()])
    (tmp_path / "items_shuffle.json").write_bytes(text)
    with pytest.raises(TaskError, match=rf"items_shuffle\.json.*{message}"):
        official.read(tmp_path)


def test_instructions_that_are_no_object_are_refused(tmp_path):
    write_files(tmp_path, [article()])
    (tmp_path / "items_ins_v2.json").write_bytes(b"[]")
    with pytest.raises(TaskError, match=r"items_ins_v2\.json: holds a JSON list; expected an object; set WEBSHOP_DATA"):
        official.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "said"), [("items_shuffle", "holds neither"), ("items_ins_v2", "it is a pipe, socket or device, and no file")]
)
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path, name, said):
    write_files(tmp_path, [article()])
    (tmp_path / f"{name}.json").unlink()
    os.mkfifo(tmp_path / f"{name}.json")
    with pytest.raises(TaskError, match=said):
        official.read(tmp_path)
