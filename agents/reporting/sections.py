"""What the page says of one run: warnings, health, evaluations, episodes, audits; each a heading and what stands below it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from agents.replay.drawing import strip
from agents.replay.html import Markup, join, tag
from agents.replay.view import Episode, Iteration, Scale, scale_of, signed
from agents.reporting import chart, health
from agents.reporting.episodes import Chosen
from agents.reporting.reading import Evaluated, Interval, Run, Separate, Success
from agents.reporting.tables import listed, number, success, table
from envs.common.text import printable

Section = tuple[str, Sequence[Markup | None]]
MOST_LISTED = 12
"""Evaluations of a training in sight; the others are folded."""


def sections(run: Run, chosen: Chosen, place: Path) -> list[Section]:
    """Those that the run has anything for. place: the folder that the page will be in, for its links."""
    found = [_warnings(run), _health(run), _in_training(run), *(_separate(one, place) for one in run.separate)]
    found += [_episodes(chosen, place), _audits(run, place)]
    return [one for one in found if one is not None]


def _warnings(run: Run) -> Section:
    if not run.warnings:
        return "Warnings", [tag("p", "The run gave no warning.", class_="about")]
    return "Warnings", [tag("ul", *(tag("li", line) for line in run.warnings), class_="said")]


def _health(run: Run) -> Section | None:
    rows = []
    for one in health.seen(run):
        values = one.values
        cells = [
            tag("th", one.signal.metric, scope="row"),
            tag("td", chart.spark(one.points)),
            *(tag("td", f"{value:.3g}") for value in (values[0], values[-1], min(values), max(values))),
            tag("td", one.signal.healthy, class_="words"),
            tag("td", tag("span", "look at it", class_="mark") if one.odd else None),
            tag("td", one.signal.meaning, class_="words"),
        ]
        rows.append(tag("tr", *cells, class_="odd" if one.odd else None))
    if not rows:
        return None
    names = ("metric", "", "first", "last", "lowest", "highest", "healthy", "", "what it is")
    note = "What is healthy are rules of thumb; docs/reading-a-run.md says more, docs/it-does-not-learn.md what to do."
    return "Health", [listed(names, rows), tag("p", note, class_="about")]


def _in_training(run: Run) -> Section | None:
    """The evaluations of the training, newest last."""
    if not run.evaluations:
        return None
    before = run.evaluations[:-MOST_LISTED]
    folded = tag("details", tag("summary", f"{len(before)} earlier ones"), _evaluations(before)) if before else None
    split = printable(str(run.config.get("evaluation.split", "unknown")))
    return f"Evaluations in the training, split {split}", [folded, _evaluations(run.evaluations[-MOST_LISTED:])]


def _separate(one: Separate, place: Path) -> Section:
    """An evaluation that was made afterwards."""
    file = tag("a", printable(one.file.name), href=_link(one.file, place))
    shown = [_evaluations(one.results, one.random), tag("p", "From ", file, class_="about")]
    return f"Evaluation on its own, split {printable(one.split)}", shown


def _evaluations(found: Sequence[Evaluated], random: Success | None = None) -> Markup:
    types = list(dict.fromkeys(kind for one in found for kind in one.types))
    cut_off, faults = any(one.cut_off for one in found), any(one.faults for one in found)
    rows = []
    for one in found:
        cells = [tag("td", f"{one.iteration}"), tag("td", printable(one.temperature))]
        cells += [tag("td", success(one.of)), *(tag("td", number(one.types.get(kind), ".2f") or "-") for kind in types)]
        cells += [tag("td", f"{one.cut_off}")] * cut_off + [tag("td", f"{one.faults}")] * faults
        rows.append(tag("tr", *cells))
    if random is not None:
        rows.append(tag("tr", tag("td", "-"), tag("td", "random actions"), tag("td", success(random))))
    names = ["iteration", "temperature", "success", *(printable(kind.replace("_", " ")) for kind in types)]
    return listed([*names, *["cut off, lost"] * cut_off, *["faults"] * faults], rows)


def _episodes(chosen: Chosen, place: Path) -> Section:
    parts: list[Markup | None] = []
    if (iteration := chosen.iteration) is not None:
        won = sum(one.success for one in iteration.episodes)
        about = f"Of iteration {iteration.number}: {len(iteration.episodes)} episodes, {won} won. A click opens the replay."
        parts.append(tag("p", about, class_="about"))
        scale = scale_of([episode for _, episode in chosen.episodes])
        rows = [tag("tr", *_episode(why, one, chosen, iteration, scale, place)) for why, one in chosen.episodes]
        names = ("", "episode", "", "task", "return", "steps", "mean advantage", "advantage of each step")
        parts.append(listed(names, rows))
        parts += [tag("p", note, class_="about") for note in iteration.notes]
    parts.append(tag("p", printable(chosen.note), class_="note") if chosen.note else None)
    parts.append(tag("pre", printable(chosen.command), class_="command") if chosen.command else None)
    return "Episodes to look at", parts


def _episode(why: str, one: Episode, chosen: Chosen, iteration: Iteration, scale: Scale, place: Path) -> list[Markup]:
    page = None if one.number not in chosen.pages else _link(chosen.pages[one.number], place)
    return [
        tag("td", why, class_="words"),
        tag("td", tag("a", f"{one.number}", href=f"{page}#e{one.number}") if page else f"{one.number}"),
        tag("td", tag("span", one.ending, class_=f"outcome {one.outcome}")),
        tag("td", iteration.group_of(one).task, class_="words"),
        tag("td", f"{one.reward:g}"),
        tag("td", f"{len(one.steps)}"),
        tag("td", signed(one.mean_advantage)),
        tag("td", strip(one.steps, scale, page=page)),
    ]


def _audits(run: Run, place: Path) -> Section | None:
    """How true the credit was found to be."""
    if not run.audits:
        return None
    parts: list[Markup | None] = []
    for audit in run.audits:
        rows = {printable(method.method): [_interval(method.all_steps), _interval(method.within)] for method in audit.methods}
        parts.append(table(["method", "correlation with the true advantage, all steps", "within episodes"], rows))
        about = printable(f"Checkpoint of iteration {audit.iteration}, {audit.episodes} episodes: ")
        page = tag("a", "the whole audit", href=_link(audit.page, place)) if audit.page.is_file() else "its page is missing"
        parts.append(tag("p", about, page, class_="about"))
    return "Audits of the credit", parts


def _interval(found: Interval | None) -> Markup | None:
    if found is None:
        return None
    value, low, high = found
    return join(f"{value:.2f}", None if low is None or high is None else tag("small", f"{low:.2f} to {high:.2f}"))


def _link(file: Path, place: Path) -> str:
    """How the page leads there."""
    return quote(Path(os.path.relpath(file.absolute(), place)).as_posix())
