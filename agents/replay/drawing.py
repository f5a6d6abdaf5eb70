"""Credit as small drawings (SVG): a bar, a strip of cells, and an episode's timeline. All share the page's scale."""

from __future__ import annotations

from collections.abc import Sequence

from agents.replay.html import Markup, join, tag
from agents.replay.scale import level
from agents.replay.view import Episode, Scale, Step, named, signed
from algorithms.segments import Credit, SubgoalSegment

WIDTH = 1066
"""Of a timeline whose steps have room, in pixels."""
HALF = 52
"""Height of the longest bar of a timeline."""
BAND = 24
"""Height of the row of segments."""
LETTER = 6.7
"""Width of a character of their names."""


def shade(value: float | None, scale: Scale) -> str:
    """Class name of a credit's color."""
    at = level(value, scale.color)
    return "u" if at is None else f"p{at}" if at > 0 else f"n{-at}" if at < 0 else "z"


def anchor(step: Step) -> str:
    """Name of a step's place on the page."""
    return f"e{step.episode}s{step.number}"


def bar(value: float | None, scale: Scale, half: int = 60, height: int = 12, error: float | None = None) -> Markup:
    """One credit as a bar from the middle, with a line for its standard error if it has one."""
    length = min(1.0, abs(value or 0.0) / scale.length) * half
    left = half - length if (value or 0.0) < 0 else half
    around = [] if error is None else [half * (1 + max(-1.0, min(1.0, x / scale.length))) for x in _ends(value, error)]
    return tag(
        "svg",
        tag("line", x1=half, x2=half, y1=0, y2=height, class_="axis"),
        tag("rect", x=left, y=1, width=length, height=height - 2, rx=1, class_=f"fill {shade(value, scale)}"),
        tag("line", x1=around[0], x2=around[1], y1=height / 2, y2=height / 2, class_="error") if around else None,
        class_="bar",
        width=2 * half,
        height=height,
        aria_hidden="true",
    )


def _ends(value: float | None, error: float) -> tuple[float, float]:
    return (value or 0.0) - error, (value or 0.0) + error


def strip(steps: Sequence[Step], scale: Scale, true: bool = False, page: str | None = "") -> Markup:
    """A cell a step, in the color of its credit or of its true advantage, each leading to it on `page`; None: to nothing."""
    scale = scale.of_truth if true else scale
    width = max(4, min(16, 420 // max(1, len(steps))))
    cells = [
        tag(
            "a",
            tag(
                "rect",
                tag("title", _said(step)),
                x=place * width,
                y=0,
                width=width - 1,
                height=16,
                class_=f"fill {shade(_shown(step, true), scale)}",
            ),
            href=None if page is None else f"{page}#{anchor(step)}",
        )
        for place, step in enumerate(steps)
    ]
    return tag("svg", *cells, class_="strip", width=width * max(1, len(steps)), height=16)


def _shown(step: Step, true: bool) -> float | None:
    return step.advantage if not true else None if step.truth is None else step.truth.value


def timeline(episode: Episode, scale: Scale) -> Markup:
    """A bar a step, with what happened there above it, the segments below, and estimated values below these."""
    count = len(episode.steps)
    each = max(18.0, min(92.0, WIDTH / max(1, count)))
    top, left = 20, 44
    middle = top + HALF
    foot = middle + HALF + 14
    values = [step.credit.get("value") for step in episode.steps]
    known = [value for value in values if value is not None]
    below = foot + (BAND + 8 if episode.segments else 0)
    height = below + (52 if known else 4)
    right = left + each * count
    drawn: list[Markup] = [
        tag("line", x1=left, x2=right, y1=middle, y2=middle, class_="axis"),
        *(
            tag("text", label, x=left - 6, y=y + 4, class_="label end")
            for label, y in ((signed(scale.length), top), ("0", middle), (signed(-scale.length), middle + HALF))
        ),
    ]
    drawn += [_column(step, scale, left + place * each, each, middle, foot) for place, step in enumerate(episode.steps)]
    if any(step.truth for step in episode.steps):
        dots = (_true(step, scale, left + (place + 0.5) * each, middle) for place, step in enumerate(episode.steps))
        drawn += [dot for dot in dots if dot is not None]
        ends = ((signed(scale.truth), top), (signed(-scale.truth), middle + HALF))
        drawn += [tag("text", label, x=right + 6, y=y + 4, class_="label true") for label, y in ends]
        right += 44
    drawn += [_segment(segment, credit, episode, scale, left, each, foot + 8) for segment, credit in episode.segments]
    if known:
        drawn.append(_curve(values, known, left, each, below + 10))
    return tag("svg", *drawn, class_="timeline", width=right + 8, height=height)


def _column(step: Step, scale: Scale, x: float, width: float, middle: float, foot: float) -> Markup:
    value = step.advantage or 0.0
    length = max(2.0, min(1.0, abs(value) / scale.length) * HALF)
    gap = min(6.0, width * 0.12)
    center = x + width / 2
    return tag(
        "a",
        tag("title", _said(step)),
        tag("rect", x=x, y=0, width=width, height=foot, class_="hit"),
        tag(
            "rect",
            x=x + gap,
            y=middle - (length if value > 0 else 0 if value < 0 else length / 2),
            width=width - 2 * gap,
            height=length,
            rx=2,
            class_=f"fill {shade(step.advantage, scale)}",
        ),
        tag("text", "".join(signs(step)), x=center, y=12, class_="signs"),
        tag("text", str(step.number), x=center, y=foot, class_="label"),
        href=f"#{anchor(step)}",
    )


def _true(step: Step, scale: Scale, x: float, middle: float) -> Markup | None:
    """The true advantage of a step as a dot, with a line for its standard error."""
    if step.truth is None:
        return None
    y, *ends = (
        middle - max(-1.0, min(1.0, value / scale.truth)) * HALF
        for value in (step.truth.value, *_ends(step.truth.value, step.truth.error))
    )
    return tag(
        "g",
        tag("line", x1=x, x2=x, y1=ends[0], y2=ends[1], class_="error"),
        tag("circle", cx=x, cy=y, r=3.5, class_="dot"),
    )


def _segment(
    segment: SubgoalSegment, credit: Credit, episode: Episode, scale: Scale, left: float, each: float, top: float
) -> Markup:
    """A segment as a bar under its steps, in the color of its mean advantage."""
    x, width = left + segment.first * each + 1, (segment.last - segment.first + 1) * each - 2
    name, room = named(segment.name), int((width - 8) / LETTER)
    shown = name if len(name) <= room else f"{name[: room - 1]}…" if room > 2 else ""
    color = shade(credit.advantage, scale)
    title = f"{name}\nsteps {segment.first + 1} to {segment.last + 1}\nmean advantage {signed(credit.advantage)}"
    return tag(
        "a",
        tag("title", title),
        tag("rect", x=x, y=top, width=width, height=BAND - 4, rx=3, class_=f"fill {color}"),
        tag("text", shown, x=x + width / 2, y=top + 14, class_=f"name {'z' if segment.name is None else color}"),
        href=f"#{anchor(episode.steps[segment.last])}",
    )


def signs(step: Step) -> list[str]:
    """What happened at a step, a character each; `SIGNS` says what they mean."""
    happened = {
        "✕": "invalid" in step.marks,
        "◆": bool(step.shaped),
        "★": bool(step.reward),
        "⚑": bool(step.reached),
    }
    return [sign for sign, true in happened.items() if true]


SIGNS = {"✕": "invalid action", "◆": "shaping paid", "★": "reward of the environment", "⚑": "subgoal reached"}


def _curve(values: Sequence[float | None], known: Sequence[float], left: float, each: float, top: float) -> Markup:
    low, high = min(known), max(known)
    points = " ".join(
        f"{left + (place + 0.5) * each:.1f},{top + 30 - 30 * (value - low) / (high - low or 1):.1f}"
        for place, value in enumerate(values)
        if value is not None
    )
    return join(
        tag("text", f"{high:.2f}", x=left - 6, y=top + 4, class_="label end"),
        tag("text", f"{low:.2f}", x=left - 6, y=top + 34, class_="label end"),
        tag("polyline", tag("title", "estimated value before each step"), points=points, class_="value"),
    )


def _said(step: Step) -> str:
    more = "; ".join([*step.marks, *(f"{name} paid {signed(paid)}" for name, paid in step.shaped.items())])
    true = f"\ntrue advantage {step.truth}" if step.truth else ""
    return f"step {step.number}: {step.action}\nadvantage {signed(step.advantage)}{true}" + (f"\n{more}" if more else "")
