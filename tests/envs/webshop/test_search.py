"""The search: terms and result lists are Lucene's own, and an index is built once, by one process, whole."""

from __future__ import annotations

import gzip
import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.base import TaskError
from envs.common import cache
from envs.webshop import official
from envs.webshop.products import Product
from envs.webshop.search import Index, document, lucene, open_index
from envs.webshop.search.analyzer import MAX_WORD, STOP_WORDS, terms, words
from envs.webshop.search.porter import stem
from envs.webshop.store import ListCatalogue
from tests.envs.webshop.shops import product

RECORDED = ("golden_official_1k_synth.jsonl.gz", "golden_official_1k_human.jsonl.gz", "agenttraj_webshop_103.jsonl.gz")
WORDS = ["red", "blue", "shirt", "shoe", "tea", "women's", "x-large", "7.5", "the"]
STEMS = (
    "caresses:caress ponies:poni ties:ti cats:cat feed:feed agreed:agre plastered:plaster bled:bled motoring:motor sing:sing "
    "conflated:conflat troubled:troubl sized:size hopping:hop tanned:tan falling:fall hissing:hiss fizzed:fizz failing:fail "
    "filing:file happy:happi sky:sky relational:relat conditional:condit rational:ration digitizer:digit formaliti:formal "
    "sensibiliti:sensibl triplicate:triplic formative:form hopeful:hope goodness:good revival:reviv replacement:replac "
    "adoption:adopt lion:lion effective:effect probate:probat rate:rate cease:ceas controll:control roll:roll ion:ion yyy:yyi "
    "possibly:possibl archaeology:archaeolog is:is aed:a \U0001d41as:\U0001d41a"
)
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join), min_size=1, max_size=12)


class Counted(ListCatalogue):
    """A catalogue that knows how often all of it was read."""

    readings = 0

    def __iter__(self) -> Iterator[Product]:
        self.readings += 1
        return super().__iter__()


def catalogue(*texts: str) -> Counted:
    return Counted(product(f"B{place:05d}", title=text) for place, text in enumerate(texts))


def index(folder: Path, texts: list[str], numbers: list[str] | None = None) -> Index:
    folder.mkdir()
    lucene.build(folder, zip(numbers or [f"B{place:05d}" for place in range(len(texts))], texts))
    return Index(folder)


# -- terms ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("description:solid wood's x-large", ["description:solid", "wood's", "x", "large"]),
        (
            "7.8 1,000 3.5mm 5'7\" 9:30 v1.2 a.b use.package",
            ["7.8", "1,000", "3.5mm", "5'7", "9", "30", "v1.2", "a.b", "use.package"],
        ),
        ("a_b _a_ __ don\u2019t rock'n'roll'", ["a_b", "_a_", "don\u2019t", "rock'n'roll"]),
        ("日本語 ひら カタカナ 한국어", ["日", "本", "語", "ひ", "ら", "カタカナ", "한국어"]),
        ("tea☕️★★ 👩‍🚀👍🏽 🇩🇪🇫🇷 #️⃣ 1️⃣ ©", ["tea", "☕️", "★", "★", "👩‍🚀", "👍🏽", "🇩🇪", "🇫🇷", "#️⃣", "1️⃣", "©"]),
        (
            "\u2139️info \u2139‍❤ café cafe\u0301 soft\xadhyphen กินข้าว",
            ["\u2139️info", "\u2139‍❤", "café", "cafe\u0301", "soft\xadhyphen", "กินข้าว"],
        ),
        ("א\"ב ג'", ['א"ב', "ג'"]),
        ("【new】 ! ~ \u200d", ["new"]),
    ],
)
def test_words_end_where_lucene_ends_them(text, expected):
    assert list(words(text)) == expected


def test_long_words_are_cut():
    assert [len(word) for word in words("a" * (MAX_WORD + 1) + ".5")] == [MAX_WORD, 1, 1]


def test_stop_words_possessives_and_capitals_are_no_terms():
    assert terms(" ".join(STOP_WORDS)) == []
    assert terms("The WOMEN'S shoes\u2019S AND it's") == ["women", "shoe"]


def test_stems_are_porters_own_examples_and_his_later_changes():
    expected = dict(pair.split(":") for pair in STEMS.split())
    assert {word: stem(word) for word in expected} == expected


@given(st.text(st.characters()))
def test_any_text_has_words_that_stand_in_it_in_order(text):
    place = 0
    for word in words(text):
        place = text.index(word, place) + len(word)
    assert all(terms(text))


# -- scores --------------------------------------------------------------------------------------------------------------------


@given(TEXTS, st.lists(st.sampled_from(WORDS), min_size=1, max_size=6))
def test_scores_are_bm25_with_equal_ones_in_the_order_of_article_numbers(tmp_path_factory, texts, query):
    numbers = [f"B{(7 * place) % 13:05d}" for place in range(len(texts))]
    found = index(tmp_path_factory.mktemp("search") / "index", texts, numbers).search(" ".join(query), k=20)

    counts = [Counter(terms(text)) for text in texts]
    filled = sum(1 for count in counts if count)
    average = sum(count.total() for count in counts) / max(1, filled)
    scores = [0.0] * len(texts)
    for term, times in Counter(terms(" ".join(query))).items():
        holders = sum(1 for count in counts if term in count)
        idf = math.log(1 + (filled - holders + 0.5) / (holders + 0.5))
        for place, count in enumerate(counts):
            length = int(lucene.stored(np.array([count.total()]))[0])
            scores[place] += (
                times * idf * count[term] / (count[term] + 0.9 * (0.6 + 0.4 * length / average)) if count[term] else 0
            )
    expected = sorted((place for place in range(len(texts)) if scores[place]), key=lambda p: (-round(scores[p], 5), numbers[p]))
    assert found == expected


def test_a_word_typed_twice_weighs_twice(tmp_path):
    shop = index(tmp_path / "index", ["red shirt", "blue shoe", "blue shirt", "green shoe"])
    assert shop.search("red shoe")[0] == 0
    assert shop.search("red shoe shoe shoe")[0] == 1


def test_a_search_finds_at_most_k_and_nothing_without_a_known_word(tmp_path):
    shop = index(tmp_path / "index", ["red shirt"] * 80)
    assert shop.search("red") == list(range(50))
    assert shop.search("red", k=3) == [0, 1, 2]
    assert shop.search("the") == shop.search("") == shop.search("purple") == []


def test_the_best_of_many_are_the_first_of_all(tmp_path):
    draws = Random(0)
    shop = index(tmp_path / "index", [" ".join(draws.choices(WORDS, k=draws.randrange(9))) for _ in range(1000)])
    for query in ("red", "tea shirt", "blue shoe x-large 7.5", "purple", ""):
        found = shop.search(query, k=1000)
        assert [shop.search(query, k) for k in (1, 2, 10, 14, 15, 50)] == [found[:k] for k in (1, 2, 10, 14, 15, 50)]


def test_lengths_are_kept_in_a_byte():
    lengths = np.array([0, 1, 39, 40, 41, 57, 107, 1000, 1_000_000])
    assert lucene.stored(lengths).tolist() == [0, 1, 39, 40, 40, 56, 104, 984, 983064]


@given(st.text(st.characters()))
def test_any_text_can_be_a_product_and_a_query(tmp_path_factory, text):
    found = index(tmp_path_factory.mktemp("search") / "index", [text, "tea"]).search(text)
    assert bool(found) == bool(terms(text))
    assert found[:1] != [1] or "tea" in terms(text)


def test_blocks_leave_no_trace_in_the_files(tmp_path, monkeypatch):
    texts = [" ".join(WORDS[place % 5 : place % 7 + 2]) for place in range(20)]
    index(tmp_path / "one", texts)
    monkeypatch.setattr(lucene, "_BLOCK", 3)
    index(tmp_path / "many", texts)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "many" / file.name).read_bytes()


# -- what is searched, and where the index lies --------------------------------------------------------------------------------


def test_title_description_first_bullet_and_options_are_searched():
    article = product(
        "B1", title="Tea", description="From CHINA", bullets=("Hot", "Cold"), options={"size": ("s", "m"), "color": ("red",)}
    )
    assert document(article) == "tea from china hot size: s, m, and color: red"
    assert document(product("B1", title="Tea")) == "tea  "


def test_an_index_is_built_once_and_then_only_opened(tmp_path):
    shop = catalogue("red shirt", "blue shirt")
    assert open_index(shop, tmp_path / "cache").search("blue shirt") == [1, 0]
    assert open_index(shop, tmp_path / "cache").search("blue shirt") == [1, 0]
    assert shop.readings == 1
    assert open_index(catalogue("red shoe"), tmp_path / "cache").search("shoe") == [0]


def test_of_many_at_once_one_builds_and_the_others_wait(tmp_path):
    shop = catalogue(*["red shirt"] * 300)
    with ThreadPoolExecutor(8) as pool:
        found = [job.result() for job in [pool.submit(open_index, shop, tmp_path) for _ in range(8)]]
    assert shop.readings == 1
    assert all(one.search("red", k=2) == [0, 1] for one in found)


@pytest.mark.fault("damaged caches", lost="the time to make them again")
@pytest.mark.parametrize("name", ["keys", "idf", "starts", "documents", "divisors", "ranks"])
@pytest.mark.parametrize("damage", ["lost", "flipped"])
def test_a_damaged_index_is_built_anew_by_the_next_process(tmp_path, monkeypatch, name, damage):
    shop = catalogue("red shirt", "blue shirt")
    open_index(shop, tmp_path)
    (file,) = tmp_path.glob(f"lucene-*/{name}.npy")
    if damage == "lost":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    monkeypatch.setattr(cache, "_opened", {})
    assert open_index(shop, tmp_path).search("blue shirt") == [1, 0]
    assert shop.readings == 2


def test_a_cache_that_cannot_be_written_costs_the_cache_and_not_the_shop(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert open_index(catalogue("red shirt"), tmp_path / "file" / "cache").search("red") == [0]
    assert "STEPCREDIT_CACHE names another folder" in caplog.text


def test_an_index_that_can_be_written_nowhere_is_said_with_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(TaskError, match=r"1 products cannot be written.*STEPCREDIT_CACHE"):
        open_index(catalogue("red shirt"), tmp_path / "file" / "cache")


# -- the official shop ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_shop(webshop_data: Path) -> ListCatalogue:
    return ListCatalogue(official.read(webshop_data)[0])


@pytest.mark.data
def test_terms_and_lengths_are_those_of_lucenes_own_index(webshop_data, small_shop):
    rows = (webshop_data / "lucene_termvectors_1k.tsv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == len(small_shop) == 1000
    for row in rows:
        asin, norm, *pairs = row.split("\t")
        place = small_shop.index(asin)
        assert place is not None
        found = Counter(terms(document(small_shop[place])))
        assert found == {term: int(count) for term, count in (pair.split("\x01") for pair in pairs)}, asin
        digits, shift = (int(norm) - 24) & 7, ((int(norm) - 24) >> 3) - 1
        length = int(norm) if int(norm) < 24 else 24 + (digits if shift < 0 else (digits | 8) << shift)
        assert lucene.stored(np.array([found.total()])) == length, asin


@pytest.mark.data
@pytest.mark.parametrize("name", RECORDED)
def test_result_pages_list_what_the_official_shop_lists(webshop_data, small_shop, tmp_path, name):
    shop = open_index(small_shop, tmp_path)
    pages = 0
    for query, page, total, shown in recorded_pages(webshop_data / name):
        found = shop.search(query)
        assert (len(found), [small_shop[place].asin for place in found[10 * page - 10 : 10 * page]]) == (total, shown), query
        pages += 1
    assert pages > 15


def recorded_pages(file: Path) -> Iterator[tuple[str, int, int, list[str]]]:
    """(query, number of the page, results in all, article numbers shown) of every result page in a file of episodes."""
    with gzip.open(file) as lines:
        episodes = [json.loads(line) for line in lines]
    for episode in episodes:
        query = ""
        for step in episode.get("steps", ()):
            searched = re.match(r"search\[(.+)\]", step.get("action") or "")
            if searched:
                query = searched[1].lower()
            _, heading, rest = (step.get("text") or step.get("obs") or "").partition("[SEP] Page ")
            if heading:
                page, total = map(int, re.findall(r"\d+", rest)[:2])
                yield (
                    query,
                    page,
                    total,
                    [part for part in rest.split(" [SEP] ") if re.fullmatch(r"B[0-9A-Z]{9}|\d{9}[\dX]", part)],
                )
