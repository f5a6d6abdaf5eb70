import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.webshop import generator, wares, wording
from envs.webshop.products import NO_PRICE_LIMIT, Goal, Product
from envs.webshop.reward import reward

BUTTONS = {"search", "back to search", "next >", "< prev", "description", "features", "reviews", "attributes", "buy now"}
PRINT_SHOP = """
import hashlib
from envs.webshop import generator
shop = list(generator.stream(1100, seed=3))
print(hashlib.sha256(repr((shop, generator.goals(shop, 3), generator.goals(shop, 3, human=True))).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def shop() -> list[Product]:
    return list(generator.catalogue())


@pytest.fixture(scope="module")
def synthetic(shop: list[Product]) -> list[Goal]:
    return generator.goals(shop)


@pytest.fixture(scope="module")
def human(shop: list[Product]) -> list[Goal]:
    return generator.goals(shop, human=True)


# -- reproducible -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_equal_seeds_make_equal_shops_and_goals_in_every_process(hash_seed):
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    other = subprocess.run([sys.executable, "-c", PRINT_SHOP], env=env, capture_output=True, text=True, check=True).stdout
    here = list(generator.stream(1100, seed=3))
    content = repr((here, generator.goals(here, 3), generator.goals(here, 3, human=True)))
    assert other.strip() == hashlib.sha256(content.encode()).hexdigest()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 3))
def test_an_article_does_not_depend_on_how_many_are_asked_for(index, seed):
    assert next(islice(generator.stream(index + 5, seed), index, None)) == generator.product(index, seed)


def test_other_seeds_make_other_shops_and_other_goals(shop, synthetic):
    assert generator.catalogue(20, seed=1).hash != generator.catalogue(20, seed=0).hash
    assert generator.goals(shop, seed=1) != synthetic


def test_the_catalogue_is_the_stream_in_order(shop):
    catalogue = generator.catalogue()
    assert list(catalogue) == shop == list(generator.stream(generator.SIZE))
    assert [catalogue.index(item.asin) for item in shop] == list(range(len(shop)))


# -- articles ------------------------------------------------------------------------------------------------------------------


def test_article_numbers_are_unique_and_look_like_article_numbers():
    asins = [generator.asin(index) for index in range(200_000)]
    assert len(set(asins)) == len(asins)
    assert all(re.fullmatch("B0[0-9A-Z]{8}", asin) for asin in asins)


def test_the_default_shop_is_broad(shop):
    departments = Counter(item.department for item in shop)
    assert len(shop) >= 1000
    assert len(departments) >= 12
    assert min(departments.values()) >= 20
    types = Counter(ware.department for ware in wares.WARES)
    assert min(types.values()) >= 5
    assert max(types.values()) <= 9
    assert {item.query for item in shop} == set(wares.OF_QUERY)
    assert len(wares.OF_QUERY) == len(wares.WARES)


def test_its_words_are_few(shop):
    texts = [f"{item.title} {item.query} {' '.join(item.attributes)} {item.options}" for item in shop]
    assert len(set(re.findall(r"[a-z0-9]+", " ".join(texts).lower()))) <= 1000


def test_pages_are_as_long_as_they_should_be(shop):
    for item in shop:
        assert 6 <= len(item.title.split()) <= 14
        assert 2 <= len(item.bullets) <= 5
        assert 1 <= item.description.count(".") <= 3
        assert 2 <= len(item.attributes) == len(set(item.attributes)) <= 5
        assert len(set(item.category.split(" › "))) == 3  # noqa: RUF001
        assert not re.search(r"[{}]|  ", repr(item).replace("{'", "").replace("{}", "").replace(")}", ""))


def test_every_attribute_is_told_on_some_page(shop):
    for item in shop:
        pages = " ".join((item.title, *item.bullets)).lower()
        assert [attribute for attribute in item.attributes if attribute not in pages] == []


def test_many_attributes_are_not_told_by_the_title(shop):
    untold = [attribute not in item.title.lower() for item in shop for attribute in item.attributes]
    assert sum(untold) > len(untold) / 2


def test_a_click_on_an_option_is_unambiguous():
    for ware in wares.WARES:
        values = [value for group in ware.options.values() for value in group]
        assert len(values) == len(set(values)), ware.query
        assert not {*values} & BUTTONS
        assert not [value for value in values if value != value.lower().strip() or value.startswith("b0")]


def test_options_keep_the_order_of_the_table(shop):
    for item in shop:
        assert len(item.options) <= 3
        for name, values in item.options.items():
            assert 2 <= len(values) <= 6
            assert [value for value in wares.OF_QUERY[item.query].options[name] if value in values] == list(values)


def test_the_reward_tells_the_values_of_an_option_apart(shop):
    item = shop[0]
    for name, values in {group for ware in wares.WARES for group in ware.options.items()}:
        for wanted in values:
            for options in ({name: wanted}, (wanted,)):
                goal = Goal(item.asin, "", item.query, item.category, item.title, "", item.attributes, options, 1e6)
                met = [value for value in values if reward(item, item.nouns, goal, {name: value}).total == 1.0]
                assert met == [wanted]


def test_nouns_are_the_titles_words_that_are_nouns(shop):
    for item in shop:
        words = re.findall(r"[a-z]+", item.title.lower())
        assert list(item.nouns) == [word for word in words if word not in wares.NOT_NOUNS]
        assert len(item.nouns) >= 3
    assert {word for item in shop for word in re.findall(r"[a-z]+", item.title.lower())} >= wares.NOT_NOUNS


def test_prices_fit_the_tag_and_the_type(shop):
    kinds = Counter[str]()
    for item in shop:
        numbers = [float(number) for number in re.findall(r"\d+\.\d+", item.price_tag)]
        cheap, dear = wares.OF_QUERY[item.query].prices
        if item.price_tag == "$100.0":
            assert item.price == 100.0
            kinds["none"] += 1
        elif len(numbers) == 2:
            assert item.price_tag == f"${numbers[0]} to ${numbers[1]}"
            assert cheap <= numbers[0] <= item.price <= numbers[1] <= 1.5 * dear + 5
            kinds["range"] += 1
        else:
            assert item.price_tag == f"${item.price}"
            assert cheap <= item.price <= dear + 1
            kinds["single"] += 1
    assert 0.01 <= kinds["none"] / len(shop) <= 0.04
    assert 0.25 <= kinds["range"] / len(shop) <= 0.4


def test_large_catalogues_have_more_brands_and_the_default_shop_few(shop):
    few, many = set(wares.BRANDS), set(wares.MORE_BRANDS)
    assert len(few) == 120
    assert not few & many

    def brands(items):
        return {word.strip(",") for item in items for word in item.title.split()} & (few | many)

    assert brands(shop) == few
    assert len(brands(islice(generator.stream(3000), 1000, None))) > 1000


# -- goals ---------------------------------------------------------------------------------------------------------------------


def test_a_synthetic_goal_is_worded_as_officially(synthetic):
    pattern = re.compile(r"Find me .+?( with [a-z]+: [^,]+(, and [a-z]+: [^,]+)*)?(, and price lower than (\d+\.00) dollars)?")
    assert 6000 <= len(synthetic) <= 8000
    for goal in synthetic:
        match = pattern.fullmatch(goal.instruction)
        assert match is not None
        assert (match[4] is None) == (goal.price_upper == NO_PRICE_LIMIT)
        assert match[4] is None or float(match[4]) == goal.price_upper
        assert (match[1] or "") == (
            " with " * bool(goal.options) + ", and ".join(f"{name}: {value}" for name, value in sorted(goal.options.items()))
        )
        assert all(words in goal.instruction for words in (goal.query, *goal.attributes))


def test_attributes_stand_before_the_query_or_after_it_with_their_preposition():
    ware = wares.OF_QUERY["running shoes"]
    attributes = "memory foam", "light weight", "slip resistant"
    assert wording.template(ware, attributes, {"color": "navy", "size": "9"}, 40.0) == (
        "Find me light weight, slip resistant running shoes with memory foam with color: navy, and size: 9"
        ", and price lower than 40.00 dollars"
    )
    assert wording.template(ware, ["sensitive skin"], {}, NO_PRICE_LIMIT) == "Find me running shoes for sensitive skin"


def test_price_limits_are_the_larger_of_two_of_the_next_four_tens(shop, synthetic, human):
    price = {item.asin: item.price for item in shop}
    seen = set()
    for goal in (*synthetic, *human):
        next_tens = [ten for ten in range(10, 1000, 10) if ten > price[goal.asin]][:4]
        if len(next_tens) < 2:
            assert goal.price_upper == NO_PRICE_LIMIT
        else:
            assert goal.price_upper in next_tens[1:]
        seen.add(next_tens.index(goal.price_upper) if len(next_tens) == 4 else len(next_tens) - 5)
    assert {1, 2, 3, -5} <= seen


def test_combinations_of_a_product_share_attributes_and_limit_and_are_at_most_eight(shop, synthetic):
    for item in shop[:200]:
        goals = [goal for goal in synthetic if goal.asin == item.asin]
        combinations = 1
        for values in item.options.values():
            combinations *= len(values)
        assert len({goal.instruction for goal in goals}) == len(goals) == min(combinations, generator.GOALS_PER_PRODUCT)
        assert len({(goal.attributes, goal.price_upper) for goal in goals}) == 1
        assert all(sorted(goal.options) == sorted(item.options) for goal in goals)
        assert 1 <= len(goals[0].attributes) <= 3


def test_weights_are_means_of_inverse_counts(synthetic, human):
    counts = Counter(attribute for goal in synthetic for attribute in goal.attributes)
    for goal in synthetic[:300]:
        assert goal.weight == pytest.approx(sum(1 / counts[attribute] for attribute in goal.attributes) / len(goal.attributes))
    assert {goal.weight for goal in human} == {1.0}


def test_a_part_of_the_goals_is_a_sample_of_the_shop(synthetic, human):
    assert len({goal.asin for goal in synthetic[:500]}) > 300
    assert len({goal.department for goal in human[:100]}) >= 10


def test_people_say_all_that_they_want(shop, human):
    assert len(shop) < len(human) < 2 * len(shop)
    for goal in human:
        text = goal.instruction.lower()
        said = [wares.OF_QUERY[goal.query].name, *(wording.ATTRIBUTES[attribute][0] for attribute in goal.attributes)]
        assert [words for words in (*said, *goal.options) if words not in text] == []
        assert (f"{goal.price_upper:.2f} dollars" in text) == (goal.price_upper != NO_PRICE_LIMIT)
        assert not re.search(r"[{}|]|  | ,|, ?,|^,|,$", text), text


def test_people_word_their_wishes_in_many_ways(human):
    assert len(set(wording.PATTERNS)) >= 40
    shapes = Counter[str]()
    for goal in human:
        text = goal.instruction.lower()
        known = [wares.OF_QUERY[goal.query].name, *(wording.ATTRIBUTES[a][0] for a in goal.attributes), *goal.options]
        for words in sorted(known, key=len, reverse=True):
            text = re.sub(rf"\b{re.escape(words)}\b", "_", text)
        shapes[re.sub(r"\d+\.\d\d", "_", text)] += 1
    assert len(shapes) > 700
    openings = {goal.instruction.lower().removeprefix(hello).split(" ")[0] for goal in human for hello in wording.GREETINGS}
    assert len(openings) > 15
    assert 0.1 < sum(goal.instruction[0].isupper() for goal in human) / len(human) < 0.4


@pytest.mark.parametrize(
    ("query", "adjectives", "asked"),
    [
        ("running shoes", "", "a pair of running shoes"),
        ("ground coffee", "sugar free", "some sugar free ground coffee"),
        ("frying pans", "easy to clean", "an easy to clean frying pan"),
        ("led flashlights", "", "a led flashlight"),
    ],
)
def test_things_are_asked_for_by_their_unit(query, adjectives, asked):
    assert wording.asked_for(wares.OF_QUERY[query], adjectives) == asked


@pytest.mark.parametrize("mode", ["official", "fixed"])
def test_the_own_article_with_the_wanted_options_scores_one(shop, synthetic, human, mode):
    articles = {item.asin: item for item in shop}
    for goal in (*synthetic[::3], *human):
        item = articles[goal.asin]
        assert reward(item, item.nouns, goal, as_clicked(item, goal), mode).total == 1.0


def test_most_goals_are_met_by_few_articles_and_many_by_more_than_one(shop, synthetic, human):
    articles = {item.asin: item for item in shop}
    others = []
    for goal in (*synthetic[:40], *human[:40]):
        nouns = articles[goal.asin].nouns
        cheap = [item for item in shop if item.price <= goal.price_upper and item.asin != goal.asin]
        others.append(sum(reward(item, nouns, goal, as_clicked(item, goal)).total == 1.0 for item in cheap))
    assert sum(count <= 15 for count in others) > 0.9 * len(others)
    assert sum(count >= 1 for count in others) > 0.5 * len(others)


def as_clicked(item: Product, goal: Goal) -> dict[str, str]:
    """The goal's options as far as the article has them."""
    wanted = goal.options.values() if isinstance(goal.options, dict) else goal.options
    return {name: value for name, values in item.options.items() for value in values if value in wanted}


def test_the_lexicon_holds_every_phrase_once_in_order(shop):
    lexicon = generator.lexicon(shop)
    assert lexicon == sorted(set(lexicon))
    assert {item.query for item in shop} <= set(lexicon)
    assert {value for item in shop for values in item.options.values() for value in values} <= set(lexicon)
    assert {attribute for item in shop for attribute in item.attributes} <= set(lexicon)
