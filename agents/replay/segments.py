"""Subgoal segments on the page: what those of an episode got, and those of one name on average over an iteration."""

from __future__ import annotations

from collections.abc import Sequence

from agents.replay.drawing import anchor, bar
from agents.replay.html import Markup, tag
from agents.replay.view import Episode, Iteration, Scale, named, signed, spanned
from algorithms.segments import Credit


def of_episode(episode: Episode, scale: Scale) -> Markup | None:
    """A row a segment, in their order."""
    found = [
        (segment.name, [tag("a", spanned(segment), href=f"#{anchor(episode.steps[segment.last])}")], credit)
        for segment, credit in episode.segments
    ]
    return _table(["segments", "steps"], found, scale)


def of_iteration(iteration: Iteration, scale: Scale) -> Markup | None:
    """A row a name: means over all episodes that were trained on."""
    return _table(["segments, averaged", "episodes", "steps"], iteration.averages, scale)


def _table(names: list[str], found: Sequence[tuple[str | None, Sequence[str], Credit]], scale: Scale) -> Markup | None:
    """A row a segment, if there is one: its name, what is said of it in the columns `names`, what its steps got."""
    if not found:
        return None
    sources = list(dict.fromkeys(source for _, _, credit in found for source in credit.shaped))
    head = [*names, "mean advantage", "", "environment reward", *(f"{source} paid" for source in sources)]
    rows = [
        tag(
            "tr",
            tag("th", named(name), scope="row", class_="rest" if name is None else None),
            *(tag("td", value, class_="num") for value in (*before, signed(credit.advantage))),
            tag("td", bar(credit.advantage, scale, half=40)),
            tag("td", f"{credit.reward:.3g}", class_="num"),
            *(tag("td", signed(credit.shaped.get(source, 0.0)), class_="num") for source in sources),
        )
        for name, before, credit in found
    ]
    columns = tag("tr", *(tag("th", column, scope="col") for column in head))
    return tag("div", tag("table", tag("thead", columns), tag("tbody", *rows), class_="segments"), class_="wide")
