"""The page of an audit: one file without scripts, network or images, in the style of the replay, whose pages it leads to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from agents.auditing import again, measures
from agents.auditing.report import about, number
from agents.auditing.shown import PAGE
from agents.replay import html
from agents.replay.html import Markup, join, tag
from agents.replay.style import STYLE
from envs.common.text import printable

Found = Mapping[str, Any] | None

COLUMNS = {
    "all steps": ("correlation", -1.0),
    "within episodes": ("within", -1.0),
    "policy gradient": ("cosine", -1.0),
    "signs": ("sign", 0.0),
}
"""Measures that are drawn, each with the left end of its axis, whose right end is 1."""
TEXTS = {
    **measures.NUMBERS,
    "cosine": "cosine of the method's policy gradient on these episodes and the one with the true advantages",
    "cosine_corrected": "the same, freed of the truth's error",
    **again.NUMBERS,
}
PLAIN = ("silent", "wasted", "common", "slope", "bias", "deviation")

OWN = """
.audit td,.audit th{padding:7px 18px 7px 0;vertical-align:top}
.audit thead th{border-bottom:1px solid var(--line);font-size:12px}
.audit tbody th{color:var(--ink);font:600 14px var(--mono)}
.audit tbody th a{font:12px system-ui,sans-serif;margin-left:10px}
.audit .part th{font-weight:400;color:var(--soft);padding-left:14px}
.audit b{font:600 13px var(--mono)}
.audit td span{color:var(--soft);font:11.5px var(--mono);margin-left:8px}
.audit small{display:block;color:var(--soft);font:11.5px var(--mono)}
.audit .num{padding-top:8px}
.range{stroke:var(--link);stroke-width:2}
.point{fill:var(--link)}
.raw{fill:none;stroke:var(--soft);stroke-width:1.5}
.curve{fill:none;stroke:var(--link);stroke-width:1.2}
.charts{display:flex;flex-wrap:wrap;gap:18px}
.charts figure{margin:0}
h3{font-size:15px;margin:26px 0 8px}
dl{display:grid;grid-template-columns:170px minmax(0,1fr);gap:4px 18px;font-size:13px;margin:0}
dt{font:600 12.5px var(--mono)}
dd{margin:0;color:var(--soft)}
"""


def document(results: Mapping[str, Any]) -> str:
    """The page of some results, as the JSON file has them."""
    title = f"{printable(results['policy'])} on {printable(results['environment'])} · audit of credit"
    lines = [tag("p", printable(line), class_="about") for line in about(results)]
    sections = [_table("Credit of steps", results["methods"], "steps")]
    if any(method["tokens"] for method in results["methods"]):
        sections.append(_table("Credit of choices within steps", results["methods"], "tokens"))
    top = tag("header", tag("p", tag("b", "audit of credit"), tag("span", title)), class_="top")
    heading = tag("h1", "Credit against the truth")
    main = tag("main", heading, *lines, *sections, _rest(results), _charts(results), _meanings())
    return html.document(title, STYLE + OWN, top, main)


def _table(title: str, methods: list[dict[str, Any]], level: str) -> Markup:
    """A row a method, and one for each part of its credit; a column a measure."""
    columns = {name: of for name, of in COLUMNS.items() if level == "steps" or of[0] != "cosine"}
    rows = []
    for method in methods:
        if method[level] is None:
            continue
        cosine = (method["cosine"] or {}) if level == "steps" else {}
        found = {**method[level]["numbers"], **cosine}
        link = tag("a", "episodes", href=f"{quote(method['name'])}/{PAGE.as_posix()}") if level == "steps" else None
        rows.append(_row(tag("th", printable(method["name"]), link, scope="row"), found, columns))
        for part, measured in (method["parts"] if level == "steps" else {}).items():
            name = tag("th", f"{printable(part)} alone", scope="row")
            rows.append(_row(name, measured["numbers"], columns, class_="part"))
    head = tag("tr", *(tag("th", name, scope="col") for name in ("method", *columns)))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="audit")
    legend = "dot and line: freed of the truth's error, with its 95% interval; circle: as measured"
    return tag("section", tag("h3", title), tag("div", table, class_="wide"), tag("p", legend, class_="about"))


def _row(name: Markup, found: Mapping[str, Any], columns: Mapping[str, tuple[str, float]], class_: str | None = None) -> Markup:
    cells = [_cell(found.get(f"{key}_corrected"), found.get(key), low) for key, low in columns.values()]
    return tag("tr", name, *cells, class_=class_)


def _cell(found: Found, raw: Found, low: float) -> Markup:
    value = None if found is None else found["value"]
    measured = None if raw is None else raw["value"]
    if value is None and measured is None:
        return tag("td", "-")
    ends = "" if found is None or found["low"] is None else f"{found['low']:.2f} to {found['high']:.2f}"
    said = join(tag("b", number(value)), tag("span", ends), tag("small", f"measured {number(measured)}"))
    return tag("td", _interval(found, measured, low), said)


def _interval(found: Found, raw: float | None, low: float, width: int = 150) -> Markup:
    def at(value: float) -> float:
        return 5 + (width - 10) * min(1.0, max(0.0, (value - low) / (1 - low)))

    middle = at((1 + low) / 2 if low == 0 else 0.0)
    known = found is not None and found["value"] is not None
    drawn = [
        tag("line", x1=at(low), x2=at(1.0), y1=9, y2=9, class_="axis"),
        tag("line", x1=middle, x2=middle, y1=3, y2=15, class_="axis"),
    ]
    if found is not None and found["low"] is not None:
        drawn.append(tag("line", x1=at(found["low"]), x2=at(found["high"]), y1=9, y2=9, class_="range"))
    if raw is not None:
        drawn.append(tag("circle", cx=at(raw), cy=9, r=3.5, class_="raw"))
    if found is not None and known:
        drawn.append(tag("circle", cx=at(found["value"]), cy=9, r=3.5, class_="point"))
    return tag("svg", *drawn, width=width, height=18, aria_hidden="true")


def _rest(results: Mapping[str, Any]) -> Markup:
    rows = []
    for method in results["methods"]:
        numbers = {**method["steps"]["numbers"], **(method["again"] or {})}
        cells = []
        for name in PLAIN:
            one = numbers.get(name) or {"value": None, "low": None}
            ends = None if one["low"] is None else tag("small", f"{number(one['low'])} to {number(one['high'])}")
            cells.append(tag("td", tag("b", number(one["value"])), ends))
        cells.append(tag("td", tag("b", number(method["cost"]["share"]))))
        rows.append(tag("tr", tag("th", printable(method["name"]), scope="row"), *cells))
    head = tag("tr", *(tag("th", name, scope="col") for name in ("method", *PLAIN, "tokens")))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="audit")
    return tag("section", tag("h3", "Where credit goes, and what it is made of"), tag("div", table, class_="wide"))


def _charts(results: Mapping[str, Any]) -> Markup:
    charts = [_chart(printable(method["name"]), method["steps"]["calibration"]) for method in results["methods"]]
    text = "a dot is about a tenth of the steps, those that were credited alike; its line is the 95% interval of their mean"
    return tag(
        "section",
        tag("h3", "Calibration: true advantage by credit"),
        tag("div", *charts, class_="charts"),
        tag("p", text, class_="about"),
    )


def _chart(name: str, bins: list[dict[str, Any]], width: int = 250, height: int = 170) -> Markup:
    """Mean true advantage of steps that were credited alike."""
    ends = [x for one in bins for x in (one["true"]["value"], one["true"]["low"], one["true"]["high"]) if x is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    left, right = min([0.0, *(one["credited"] for one in bins)]), max([0.0, *(one["credited"] for one in bins)])

    def x(value: float) -> float:
        return 44 + (width - 60) * (value - left) / ((right - left) or 1.0)

    def y(value: float) -> float:
        return height - 24 - (height - 44) * (value - low) / ((high - low) or 1.0)

    drawn = [
        tag("line", x1=x(left), x2=x(right), y1=y(0), y2=y(0), class_="axis"),
        tag("line", x1=x(0), x2=x(0), y1=y(low), y2=y(high), class_="axis"),
        tag("text", number(high), x=38, y=y(high) + 4, class_="label end"),
        tag("text", number(low), x=38, y=y(low) + 4, class_="label end") if low else None,
        tag("text", number(right), x=x(right), y=height - 6, class_="label"),
        tag("text", number(left), x=x(left), y=height - 6, class_="label") if left else None,
        tag("polyline", points=" ".join(f"{x(o['credited']):.1f},{y(o['true']['value']):.1f}" for o in bins), class_="curve"),
    ]
    for one in bins:
        at, true = x(one["credited"]), one["true"]
        if true["low"] is not None:
            drawn.append(tag("line", x1=at, x2=at, y1=y(true["low"]), y2=y(true["high"]), class_="range"))
        drawn.append(tag("circle", tag("title", f"{one['count']} steps"), cx=at, cy=y(true["value"]), r=3, class_="point"))
    return tag("figure", tag("figcaption", name), tag("svg", *drawn, width=width, height=height))


def _meanings() -> Markup:
    terms = [part for name, text in TEXTS.items() for part in (tag("dt", name), tag("dd", text))]
    terms += [tag("dt", "tokens"), tag("dd", "tokens that models computed for this credit, per sampled token")]
    return tag("section", tag("h3", "What the numbers are"), tag("dl", *terms))
