from __future__ import annotations

import multiprocessing
import os
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.base import TaskError
from envs.webshop import generator, official
from envs.webshop.products import NO_PRICE_LIMIT, Goal, Product
from envs.webshop.store import ListCatalogue, Store, content_hash, write
from scripts import webshop_store
from tests.envs.webshop.test_official import article, asking, write_files

TEXTS = st.lists(st.text(), max_size=3).map(tuple)
PRICES = st.floats(0, 1e6)
OPTIONS = st.dictionaries(st.text(), TEXTS, max_size=3)
ASINS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=10)
PRODUCT = st.builds(
    Product, ASINS, *[st.text()] * 2, TEXTS, *[st.text()] * 3, PRICES, st.text(), OPTIONS, TEXTS, TEXTS, st.text()
)
PRODUCTS = st.lists(PRODUCT, min_size=1, max_size=5, unique_by=lambda product: product.asin)
GOAL = st.builds(Goal, *[st.text()] * 6, TEXTS, st.dictionaries(st.text(), st.text()) | TEXTS, PRICES, PRICES)


def product(asin: str, **changes: object) -> Product:
    bare = Product(
        asin, "Lamp", "", ("Bright.",), "home", "lamps", "Home", 12.5, "$12.5", {"color": ("red",)}, ("dim",), ("lamp",)
    )
    return replace(bare, **changes)  # type: ignore[arg-type]


def goal(asin: str) -> Goal:
    return Goal(asin, "home", "lamps", "Home", "Lamp", "Find me a lamp", ("dim",), {"color": "red"}, NO_PRICE_LIMIT)


LAMPS = [product("LAMP3"), product("LAMP10"), product("LAMP2")]
WANTED = [goal("LAMP2"), replace(goal("LAMP3"), options=("red",)), goal("LAMP3")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "store", LAMPS, WANTED)
    return tmp_path / "store"


# -- reading what was written --------------------------------------------------------------------------------------------------


@given(products=PRODUCTS, goals=st.lists(GOAL, max_size=3))
def test_a_store_holds_what_was_written(tmp_path_factory, products, goals):
    folder = tmp_path_factory.mktemp("round") / "store"
    write(folder, iter(products), goals)
    stored, listed = Store(folder), ListCatalogue(products)
    assert list(stored) == list(listed) == products
    assert [stored[place] for place in range(len(stored))] == products
    assert list(stored.goals) == goals
    assert all(stored.index(p.asin) == listed.index(p.asin) == place for place, p in enumerate(products))
    assert stored.hash == listed.hash == content_hash(products)
    assert stored.goals_hash == content_hash(goals)


def test_options_keep_the_order_of_the_page(tmp_path):
    options = {"size": ("s",), "color": ("red", "blue")}
    write(tmp_path / "store", [product("A", options=options)], [])
    assert list(Store(tmp_path / "store")[0].options.items()) == list(options.items())


@pytest.mark.parametrize("asin", ["", "LAMP", "LAMP1", "LAMP4", "lamp2", "ZZZZZZZZZZ", "LAMP2\0", "LAMP2000000", "LÄMP2"])
def test_a_number_that_the_shop_does_not_have_has_no_place(folder, asin):
    assert Store(folder).index(asin) is None
    assert ListCatalogue(LAMPS).index(asin) is None


def test_places_count_from_either_end_and_end_there(folder):
    store = Store(folder)
    assert store[-1] == store[2] == LAMPS[2]
    assert store.goals[1:] == store.goals[-2:] == WANTED[1:]
    for place in (3, -4):
        with pytest.raises(IndexError):
            store[place]
        with pytest.raises(IndexError):
            store.goals[place]


def test_hot_products_are_decoded_once(folder):
    store = Store(folder)
    assert store[1] is store[1]


def test_hashes_name_content_and_order():
    hashes = [
        content_hash(products)
        for products in (
            LAMPS,
            LAMPS[::-1],
            LAMPS[:2],
            [*LAMPS[:2], product("LAMP4")],
            [*LAMPS[:2], product("LAMP2", price=12.51)],
            [*LAMPS[:2], product("LAMP2", nouns=("la", "mp"))],
            [*LAMPS[:2], product("LAMP2", nouns=("lamp", ""))],
        )
    ]
    assert len(set(hashes)) == len(hashes)
    assert {len(name) for name in hashes} == {16}


def test_hashes_are_equal_on_every_machine():
    assert content_hash(LAMPS) == "94d04ecddfdac1a6"


# -- sharing -------------------------------------------------------------------------------------------------------------------


def visit(folder: Path) -> tuple[int, str, list[Product], list[Goal], int | None]:
    store = Store(folder)
    return os.getpid(), store.hash, list(store), list(store.goals), store.index("LAMP2")


def test_two_processes_read_one_store(folder):
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as one, context.Pool(1) as other:
        visits = [pool.apply_async(visit, (folder,)) for pool in (one, other)]
        (first, *seen), (second, *seen_too) = [each.get(60) for each in visits]
    assert first != second
    assert seen == seen_too == [ListCatalogue(LAMPS).hash, LAMPS, WANTED, 2]


def private_bytes() -> int:
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no /proc/self/smaps_rollup here")
def test_an_opened_store_is_mapped_and_not_copied(tmp_path):
    folder = tmp_path / "store"
    write(
        folder, (product(f"LAMP{i}", description="long " * 2000) for i in range(2000)), (goal("LAMP1") for _ in range(20_000))
    )
    assert sum(file.stat().st_size for file in folder.iterdir()) > 20_000_000
    before = private_bytes()
    store = Store(folder)
    assert (len(store), len(store.goals), store[1999].asin, store.index("LAMP1999")) == (2000, 20_000, "LAMP1999", 1999)
    assert private_bytes() - before < 2_000_000


def test_a_store_that_is_open_outlives_its_replacement(folder):
    old = Store(folder)
    write(folder, [product("NEW")], [], replace=True)
    assert (list(old), list(old.goals), old.index("LAMP2")) == (LAMPS, WANTED, 2)
    assert [p.asin for p in Store(folder)] == ["NEW"]


# -- all or nothing ------------------------------------------------------------------------------------------------------------


def breaking_off() -> Iterator[Product]:
    yield LAMPS[0]
    raise KeyboardInterrupt


@pytest.mark.fault("Ctrl-C while a shop's store is written", lost="the store")
def test_what_breaks_off_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "store", breaking_off(), WANTED)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("Ctrl-C while a shop's store is written", lost="the new store")
def test_what_breaks_off_leaves_the_old_store_in_place(folder):
    with pytest.raises(KeyboardInterrupt):
        write(folder, breaking_off(), WANTED, replace=True)
    assert list(Store(folder)) == LAMPS
    assert list(folder.parent.iterdir()) == [folder]


def test_nothing_is_overwritten_unasked(folder):
    with pytest.raises(TaskError, match="store is there already: name another folder, or --force"):
        write(folder, LAMPS[:1], [])
    assert len(Store(folder)) == 3


def test_only_a_store_is_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(TaskError, match="is there and is no store"):
        write(tmp_path, LAMPS, WANTED, replace=True)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("products", "message"),
    [
        ([product("A"), product("B"), product("A")], "article number 'A' stands for two products"),
        ([product("A B")], "article number 'A B': expected at most 10 letters and digits"),
        ([product("ABCDEFGHIJK")], "article number 'ABCDEFGHIJK': expected at most 10"),
        ([product("")], "article number '': expected at most 10"),
        ([product("A", title="half a \ud83d")], "Product with asin 'A' cannot be written"),
    ],
)
def test_products_that_cannot_be_found_again_are_refused(tmp_path, products, message):
    with pytest.raises(TaskError, match=message):
        write(tmp_path / "store", products, [])
    assert list(tmp_path.iterdir()) == []


def test_a_list_refuses_two_products_of_one_number():
    with pytest.raises(TaskError, match="'A' stands for two products"):
        ListCatalogue([product("A"), product("B"), product("A")])


# -- broken stores -------------------------------------------------------------------------------------------------------------

PARTS = ["asins.npy", "goals.jsonl", "goals.npy", "places.npy", "products.jsonl", "products.npy"]


def test_the_broken_parts_below_are_all_there_are(folder):
    assert sorted(file.name for file in folder.iterdir()) == sorted([*PARTS, "meta.json"])


@pytest.mark.fault("a damaged store of a shop", lost="the store, which says so")
@pytest.mark.parametrize("part", PARTS)
def test_a_store_that_was_cut_off_is_refused(folder, part):
    whole = (folder / part).read_bytes()
    (folder / part).write_bytes(whole[:-1])
    with pytest.raises(TaskError, match=rf"{part}: has [\d,]+ bytes of [\d,]+: cut off or changed; write it .* --force"):
        Store(folder)


@pytest.mark.parametrize("part", PARTS)
def test_a_store_that_lacks_a_part_is_refused(folder, part):
    (folder / part).unlink()
    with pytest.raises(TaskError, match=rf"{part}: has 0 bytes of"):
        Store(folder)


@pytest.mark.parametrize("part", [part for part in PARTS if part.endswith(".npy")])
def test_a_table_of_the_right_length_that_is_none_is_refused(folder, part):
    (folder / part).write_bytes(b"x" * (folder / part).stat().st_size)
    with pytest.raises(TaskError, match=rf"{part}: broken .*; write it .* --force"):
        Store(folder)


def test_what_is_no_store_is_said_to_be_none(tmp_path):
    assert not Store.is_store(tmp_path)
    with pytest.raises(TaskError, match=r"no store there .* scripts/webshop_store\.py --data DIR --out DIR"):
        Store(tmp_path)


@pytest.mark.fault("a damaged store of a shop", lost="the store, which says so")
@pytest.mark.parametrize("length", [0, 1, 40, 100])
def test_a_table_of_contents_that_was_cut_off_is_refused(folder, length):
    assert Store.is_store(folder)
    (folder / "meta.json").write_bytes((folder / "meta.json").read_bytes()[:length])
    with pytest.raises(TaskError, match=r"meta\.json: broken"):
        Store(folder)


@pytest.mark.parametrize("key", ["format", "hash", "goals_hash", "bytes"])
def test_a_table_of_contents_that_lacks_a_key_is_refused(folder, key):
    meta = orjson.loads((folder / "meta.json").read_bytes())
    del meta[key]
    (folder / "meta.json").write_bytes(orjson.dumps(meta))
    with pytest.raises(TaskError, match=rf"meta\.json: broken \('{key}'\)"):
        Store(folder)


@pytest.mark.parametrize("lengths", [[], None, "7", {}, dict.fromkeys(PARTS, "7"), dict.fromkeys([*PARTS, "meta.json"], 7)])
def test_a_table_of_contents_without_the_lengths_of_all_parts_is_refused(folder, lengths):
    meta = orjson.loads((folder / "meta.json").read_bytes())
    (folder / "meta.json").write_bytes(orjson.dumps(meta | {"bytes": lengths}))
    with pytest.raises(TaskError, match=r"meta\.json: 'bytes' is .*; expected the lengths of asins\.npy, .* --force"):
        Store(folder)


def test_a_store_of_another_format_is_refused(folder):
    meta = orjson.loads((folder / "meta.json").read_bytes())
    (folder / "meta.json").write_bytes(orjson.dumps(meta | {"format": 99}))
    with pytest.raises(TaskError, match=r"format 99 is not read here, only 1; write it .* --force"):
        Store(folder)


@pytest.mark.fault("a damaged store of a shop", lost="the article, which is named")
@pytest.mark.parametrize("change", [(b'{"asin":"LAMP10"', b'{"asin":LAMP10""'), (b'"nouns"', b'"nuons"')])
def test_a_broken_line_is_named_when_it_is_read(folder, change):
    lines = (folder / "products.jsonl").read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(*change)
    (folder / "products.jsonl").write_bytes(b"".join(lines))
    store = Store(folder)
    assert store[0] == LAMPS[0]
    with pytest.raises(TaskError, match=r"products\.jsonl, line 2: broken .*; write it .* --force"):
        store[1]


# -- the script ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    people = {"B": [{"instruction": "a lamp", "instruction_attributes": ["dim"], "instruction_options": ["red"]}]}
    (tmp_path / "data").mkdir()
    items = [article("A", pricing="$10.00 - $20.00"), article("B"), article("C")]
    return write_files(tmp_path / "data", items, {"A": asking("dim"), "C": asking("warm")}, people)


def convert(data: Path, *options: str) -> int:
    return webshop_store.main(["--data", str(data), "--out", str(data.parent / "store"), *options])


@pytest.mark.parametrize(
    ("options", "arguments"),
    [([], {}), (["--human"], {"human": True}), (["--size", "2"], {"size": 2}), (["--seed", "5"], {"seed": 5})],
)
def test_the_script_writes_what_is_read_from_the_files(data, capsys, options, arguments):
    assert convert(data, *options) == 0
    store = Store(data.parent / "store")
    assert (list(store), list(store.goals)) == official.read(data, **arguments)
    shown = capsys.readouterr().out
    assert f"{len(store)} products ({store.hash}), {len(store.goals)} goals ({store.goals_hash})" in " ".join(shown.split())
    assert "products.jsonl" in shown


def test_the_script_overwrites_only_when_forced(data, capsys):
    assert [convert(data), convert(data, "--human"), len(Store(data.parent / "store").goals)] == [0, 2, 2]
    assert "store is there already" in capsys.readouterr().err
    assert [convert(data, "--human", "--force"), len(Store(data.parent / "store").goals)] == [0, 1]


def test_the_script_says_in_a_line_what_is_wrong_with_the_data(data, capsys):
    (data / "items_shuffle.json").unlink()
    assert convert(data) == 2
    assert "error: " in (shown := capsys.readouterr().err)
    assert "set WEBSHOP_DATA" in shown
    assert not (data.parent / "store").exists()


@pytest.mark.parametrize(("options", "human"), [([], False), (["--human"], True)])
def test_the_script_writes_the_generated_shop(tmp_path, options, human):
    assert webshop_store.main(["--generated", "30", "--out", str(tmp_path / "store"), *options]) == 0
    store, products = Store(tmp_path / "store"), generator.catalogue(30)
    assert (list(store), list(store.goals)) == (list(products), generator.goals(products, human=human))


@pytest.mark.parametrize(
    ("options", "wrong"),
    [(["--generated", "0"], "at least 1"), (["--generated", "9", "--seed", "5"], "of the official files"), ([], "required")],
)
def test_the_script_refuses_what_does_not_go_together(tmp_path, capsys, options, wrong):
    with pytest.raises(SystemExit):
        webshop_store.main([*options, "--out", str(tmp_path / "store")])
    assert wrong in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.data
def test_the_official_catalogue_is_the_same_from_a_store(webshop_data, tmp_path):
    products, goals = official.read(webshop_data)
    write(tmp_path / "store", products, goals)
    store = Store(tmp_path / "store")
    assert (list(store), list(store.goals)) == (products, goals)
    assert store.hash == ListCatalogue(products).hash
