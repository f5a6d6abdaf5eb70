"""Parts of tables: numbers in words, cells with a second line, rows under a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agents.replay.html import Markup, join, tag
from agents.reporting.reading import Success

Cell = Markup | str | None


def table(head: Sequence[str], rows: Mapping[str, Sequence[Cell]], inner: str = "\0") -> Markup:
    """A row a name; rows without any value are left out. Names that begin with `inner` stand below the one before."""
    body = [
        tag(
            "tr",
            tag("th", name.removeprefix(inner), scope="row"),
            *(tag("td", "-" if cell is None else cell) for cell in cells),
            class_="inner" if name.startswith(inner) else None,
        )
        for name, cells in rows.items()
        if any(cell is not None for cell in cells)
    ]
    return listed(head, body)


def success(of: Success, iteration: int | None = None) -> Markup:
    """A rate, and below it its 95% interval, the number of episodes, and when it was measured."""
    known = [] if of.low is None or of.high is None else [f"{of.low:.3f} to {of.high:.3f}"]
    known += [] if of.episodes is None else [f"{of.episodes} episodes"]
    known += [] if iteration is None else [f"iteration {iteration}"]
    return join(f"{of.value:.3f}", tag("small", ", ".join(known)) if known else None)


def number(value: float | None, form: str) -> str | None:
    """In a format; None where there is none."""
    return None if value is None else format(value, form)


def duration(seconds: float | None) -> str | None:
    """In seconds below a minute, else in hours, minutes and seconds."""
    if seconds is None:
        return None
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}" if whole >= 60 else f"{seconds:.1f} s"


def listed(names: Sequence[str], rows: Sequence[Markup]) -> Markup:
    """Rows under the names of their columns, if these have any."""
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    return tag("div", tag("table", head if names else None, tag("tbody", *rows), class_="plain"), class_="wide")
