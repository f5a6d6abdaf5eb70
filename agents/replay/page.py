"""The HTML page: one file without network, outside images or frameworks, that shows one episode at a time by `:target`.

Which one is shown is the browser's own doing, so the page works without scripts; its one script adds keys.
"""

from __future__ import annotations

from pathlib import Path

from agents.replay import html
from agents.replay.card import PROSE, after, card
from agents.replay.drawing import SIGNS, bar, shade, strip, timeline
from agents.replay.html import Markup, tag
from agents.replay.scale import STEPS, stands_for
from agents.replay.segments import of_episode, of_iteration
from agents.replay.style import SCRIPT, STYLE
from agents.replay.view import Episode, Group, Iteration, Scale, scale_of, signed


def place(run: str | Path, iteration: Iteration, chosen: Episode | None) -> Path:
    """Where the page of `document` goes if nothing else is said."""
    name = f"iteration_{iteration.number:06d}" + (f"-episode_{chosen.number}" if chosen else "")
    return Path(run) / "replay" / f"{name}.html"


def document(iteration: Iteration, chosen: Episode | None) -> str:
    """The page of `chosen` and its group, or of all groups with an index that is shown first."""
    groups = iteration.groups if chosen is None else [iteration.group_of(chosen)]
    episodes = [episode for group in groups for episode in group.episodes]
    scale = scale_of(episodes)
    title = f"{iteration.run} · iteration {iteration.number}"
    index = [] if chosen else [_index(iteration, scale)]
    blocks = [_group(iteration, group, chosen, scale, {e.number for e in episodes}) for group in groups]
    bar = _bar(iteration, scale, any(len(step.tokens) > PROSE for e in episodes for step in e.steps), chosen is None)
    return html.document(f"{title} · replay", STYLE, bar, tag("main", *index, *blocks), script=SCRIPT)


def _bar(iteration: Iteration, scale: Scale, prose: bool, whole: bool) -> Markup:
    """What stays in sight: which run this is, the colors' meaning, the keys."""
    swatches = [
        tag("i", class_=f"swatch {shade(value, scale)}", title=f"around {signed(value)}")
        for value in (stands_for(at, scale.color) for at in range(-STEPS, STEPS + 1))
    ]
    home = tag("a", iteration.run, href="#index") if whole else tag("b", iteration.run)
    about = f"iteration {iteration.number} · {iteration.method} · {iteration.environment}"
    numbers = tag("label", Markup('<input type="checkbox" id="numbers">'), " numbers of long responses") if prose else None
    return tag(
        "header",
        tag("p", home, tag("span", about)),
        tag("p", numbers, class_="choice") if prose else None,
        tag(
            "p",
            tag("span", "advantage"),
            tag("b", signed(-scale.color)),
            tag(
                "span",
                *swatches,
                class_="scale",
                title="colors grow with the square root of the advantage, bars in proportion",
            ),
            tag("b", signed(scale.color)),
            class_="legend",
        ),
        tag("p", tag("kbd", "←"), tag("kbd", "→"), " episode ", tag("kbd", "j"), tag("kbd", "k"), " step", class_="keys"),
        class_="top",
    )


def _index(iteration: Iteration, scale: Scale) -> Markup:
    """All groups with their episodes."""
    notes = [tag("p", note, class_="note") for note in iteration.notes]
    groups = [
        tag("section", tag("h2", group.task), tag("p", _about(group), class_="about"), _overview(group, scale), class_="listed")
        for group in iteration.groups
    ]
    won, count = sum(group.won for group in iteration.groups), len(iteration.episodes)
    heading = f"{count} episodes in {len(iteration.groups)} groups, {won} won"
    return tag("section", tag("h1", heading), *notes, of_iteration(iteration, scale), *groups, id="index")


def _group(iteration: Iteration, group: Group, chosen: Episode | None, scale: Scale, present: set[int]) -> Markup:
    shown = "shown" if chosen in group.episodes else ""
    episodes = [_episode(iteration, group, place, chosen, scale, present) for place in range(len(group.episodes))]
    notes = [tag("p", note, class_="note") for note in iteration.notes]
    return tag(
        "article",
        tag("p", _about(group), class_="about"),
        tag("h1", group.task),
        *notes,
        _overview(group, scale),
        *episodes,
        class_=f"group {shown}".strip(),
    )


def _about(group: Group) -> str:
    about = f"{group.episodes[0].task_id} · group {group.id} · {group.won} of {len(group.episodes)} won"
    return f"{about} · {group.left_out}" if group.left_out else about


def _overview(group: Group, scale: Scale) -> Markup:
    true = any(step.truth for episode in group.episodes for step in episode.steps)
    names = ["episode", "", "return", "score", "steps", "mean advantage", "", "advantage of each step"]
    names += ["true advantage of each step"] if true else []
    lines = [
        tag(
            "tr",
            tag("td", tag("a", f"{episode.number}", href=f"#e{episode.number}")),
            tag("td", tag("span", episode.ending, class_=f"outcome {episode.outcome}")),
            tag("td", f"{episode.reward:g}", class_="num"),
            tag("td", f"{episode.score:.2g}", class_="num"),
            tag("td", f"{len(episode.steps)}", class_="num"),
            tag("td", signed(episode.mean_advantage), class_="num"),
            tag("td", bar(episode.mean_advantage, scale, half=40)),
            tag("td", strip(episode.steps, scale)),
            tag("td", strip(episode.steps, scale, true=True)) if true else None,
            data_episode=f"e{episode.number}",
        )
        for episode in group.episodes
    ]
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    return tag("div", tag("table", tag("thead", head), tag("tbody", *lines), class_="overview"), class_="wide")


def _episode(iteration: Iteration, group: Group, place: int, chosen: Episode | None, scale: Scale, present: set[int]) -> Markup:
    episode = group.episodes[place]
    around = {"prev": place - 1, "next": place + 1}
    links = [
        tag("a", {"prev": "← ", "next": ""}[rel] + f"episode {group.episodes[at].number}" + {"prev": "", "next": " →"}[rel],
            href=f"#e{group.episodes[at].number}", rel=rel)
        for rel, at in around.items()
        if 0 <= at < len(group.episodes)
    ]  # fmt: skip
    facts = f"return {episode.reward:g} · score {episode.score:.2g} · {len(episode.steps)} steps · mean advantage "
    happened = "   ".join(f"{sign} {meaning}" for sign, meaning in SIGNS.items())
    happened += "   band: segments and their mean advantage" if episode.segments else ""
    happened += "   line: estimated value before each step" if any("value" in step.credit for step in episode.steps) else ""
    audited = any(step.truth for step in episode.steps)
    happened += "   dots: true advantage with its standard error, by the scale on the right" if audited else ""
    return tag(
        "section",
        tag("nav", *links),
        tag("h2", f"Episode {episode.number} ", tag("span", episode.ending, class_=f"outcome {episode.outcome}")),
        tag("p", facts, tag("b", signed(episode.mean_advantage)), class_="about"),
        None if episode.left_out is None else tag("p", episode.left_out, class_="note"),
        tag("figure", tag("div", timeline(episode, scale), class_="wide"), tag("figcaption", happened)),
        of_episode(episode, scale),
        tag("ol", *(card(step, iteration, scale, present) for step in episode.steps), class_="steps"),
        after(episode),
        class_="episode shown" if episode is chosen else "episode",
        id=f"e{episode.number}",
    )
