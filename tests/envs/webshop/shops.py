"""A small shop for tests, with every oddity that a catalogue can have, and goals for it."""

# ruff: noqa: RUF001 - categories are joined by this sign

from __future__ import annotations

from typing import Any

from envs.webshop.engine import Session
from envs.webshop.products import Goal, Product
from envs.webshop.store import ListCatalogue

SHIRT, TEA, ODD, PLAIN, SIGNS = "B0SHIRT001", "B0TEA00001", "B0ODD00001", "B0PLAIN001", '<i x="&">'


def product(asin: str, **changes: Any) -> Product:
    """An article without anything special but `changes`."""
    fields: dict[str, Any] = {
        "asin": asin,
        "title": f"Thing {asin}",
        "description": "",
        "bullets": (),
        "department": "garden",
        "query": "things",
        "category": "Home › Things",
        "price": 10.0,
        "price_tag": "$10.0",
        "options": {},
        "attributes": (),
        "nouns": ("thing",),
    }
    return Product(**fields | changes)


PRODUCTS = [
    product(
        SHIRT,
        title="Blue Cotton Shirt for Summer",
        description="A shirt that is easy to iron.",
        bullets=("100% cotton ", "Machine wash warm"),
        department="fashion",
        query="shirts",
        category="Clothing › Men › Shirts",
        price=17.5,
        price_tag="$15.0 to $20.0",
        options={"color": ("red", "navy blue", "one"), "size": ("small", "x-large", "one")},
        attributes=("easy care", "long sleeve"),
        nouns=("cotton", "shirt", "summer"),
        image="https://pictures.example/shirt.jpg",
    ),
    product(
        TEA,
        title="Green Tea 50 Bags",
        description="  \n ",
        bullets=("", "\n", "\xa0", "sugar free"),
        department="grocery",
        query="tea",
        category="Grocery › Beverages › Tea",
        options={"flavor name": ("café", 'the "best"', "5' x 7\" <tag> & more")},
        attributes=("sugar free",),
        nouns=("tea", "tea", "bags"),
    ),
    product(
        ODD,
        title='<script>alert("x")</script> &amp; more',
        description="  spaces\n and <b>tags</b> &lt;kept&gt;  ",
        options={
            "Style": ("description", "buy now", "< prev", "search", "next >", "back to search", "attributes", "plain"),
            "color": ("color", "[red]", "a\nb", "blue"),
        },
    ),
    product(PLAIN),
    product(SIGNS, title="Signs"),
] + [product(f"B0MORE{i:04d}") for i in range(20)]
CATALOGUE = ListCatalogue(PRODUCTS)


def find(query: str) -> list[int]:
    """Places of articles that have a word of the query in their title, in the catalogue's order."""
    words = set(query.split())
    return [place for place, found in enumerate(CATALOGUE) if words & set(found.title.lower().split())]


def goal(**changes: Any) -> Goal:
    """To buy the shirt, blue and x-large."""
    shirt = PRODUCTS[0]
    fields: dict[str, Any] = {
        "asin": SHIRT,
        "department": shirt.department,
        "query": shirt.query,
        "category": shirt.category,
        "title": shirt.title,
        "instruction": "Find me long sleeve shirts with color: navy blue, and size: x-large, and price lower than 30.0 dollars",
        "attributes": ("long sleeve",),
        "options": {"color": "navy blue", "size": "x-large"},
        "price_upper": 30.0,
    }
    return Goal(**fields | changes)


def session(*actions: str, **settings: Any) -> Session:
    """A visit in which these actions were taken; each must have been possible."""
    visit = Session(CATALOGUE, find, settings.pop("goal", goal()), settings.pop("name", "7"), **settings)
    for action in actions:
        assert visit.act(action).valid, action
    return visit
