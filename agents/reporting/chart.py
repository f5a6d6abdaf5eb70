"""Curves and bars as SVG, in the colors of the page: text that can be read, and lines that follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agents.replay.html import Markup, tag

COLORS = 8
"""Of series; the ninth has the color of the first, and dashes."""
WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 34
MARKED = 60
"""A curve of more points has no dots."""
LIGHT = ("#1d5fa8", "#b4500b", "#0f6b4f", "#8b3f9e", "#8a6a00", "#b3263f", "#3f7f93", "#5d636c")
DARK = ("#6fb4ff", "#ff9a4a", "#5fd0a5", "#d59be6", "#e3c04a", "#ff8298", "#7fc9dd", "#aab1bc")

STYLE = (
    f":root{{{';'.join(f'--s{at}:{color}' for at, color in enumerate(LIGHT))}}}"
    f"@media(prefers-color-scheme:dark){{:root{{{';'.join(f'--s{at}:{color}' for at, color in enumerate(DARK))}}}}}"
    + "".join(f".s{at}{{stroke:var(--s{at});color:var(--s{at})}}" for at in range(COLORS))
    + """
.charts{display:flex;flex-wrap:wrap;gap:18px}
.charts figure{margin:0;flex:0 1 calc(50% - 9px);min-width:0}
.charts figcaption{color:var(--ink);font-weight:600;font-size:13px;margin:0 0 6px}
.chart{width:100%;height:auto}
.grid{stroke:var(--line);stroke-width:1}
.curve{fill:none;stroke-width:2;stroke-linejoin:round}
.again{stroke-dasharray:6 3}
.floor{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:2 4}
.span{stroke-width:1.4;opacity:.45}
.point{fill:var(--card);stroke-width:2;stroke-dasharray:none}
.bar{stroke:none;fill:currentColor}
.whole{fill:var(--line)}
.key{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:12px;color:var(--soft);margin:6px 0 0}
.key i{display:inline-block;width:18px;border-top:3px solid currentColor;vertical-align:4px;margin-right:6px}
.key .again i{border-top-style:dashed}
.key span{color:var(--ink)}
@media(max-width:800px){.charts figure{flex-basis:100%}}
.spark{fill:none;stroke:var(--link);stroke-width:1.4}
"""
)


@dataclass(frozen=True)
class Series:
    """A curve."""

    name: str
    points: Sequence[tuple[float, float]]
    color: int = 0
    dashed: bool = False
    spans: Mapping[float, tuple[float, float]] = field(default_factory=dict)
    """Ends of the interval at an x."""


def curves(
    title: str,
    series: Sequence[Series],
    limits: tuple[float, float] | None = None,
    floor: tuple[str, float] | None = None,
    x_name: str = "iteration",
) -> Markup | None:
    """A figure of curves in common axes; `floor`: a name and a height that all are compared with. None without any point."""
    known = [one for one in series if one.points]
    if not known:
        return None
    xs = [x for one in known for x, _ in one.points]
    ys = [y for one in known for _, y in one.points]
    ys += [end for one in known for ends in one.spans.values() for end in ends] + ([floor[1]] if floor else [])
    area = _Area(min(xs), max(xs), *(limits or (min(0.0, *ys), max(ys))))
    drawn = [*area.axes(x_name)]
    if floor:
        y = area.y(floor[1])
        drawn.append(
            tag("line", tag("title", f"{floor[0]} {floor[1]:.3g}"), x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="floor")
        )
    for one in known:
        drawn += _curve(one, area, _class(one.color, one.dashed))
    names = [(_class(one.color, one.dashed), one.name) for one in known if one.name]
    return _figure(title, drawn, names, None if floor is None else f"dotted: {floor[0]} {floor[1]:.3g}")


def stacked(title: str, parts: Mapping[str, Sequence[tuple[float, float]]]) -> Markup | None:
    """A figure of bars, one an iteration, of seconds of parts above each other; None without any."""
    parts = {name: points for name, points in parts.items() if any(y > 0 for _, y in points)}
    if not parts:
        return None
    heights: dict[float, float] = {}
    for points in parts.values():
        for x, y in points:
            heights[x] = heights.get(x, 0.0) + y
    left, right = min(heights), max(heights)
    area = _Area(left - 0.5, right + 0.5, 0.0, max(heights.values()))
    width = max(0.6, (area.x(left + 1) - area.x(left)) * 0.8)
    below = dict.fromkeys(heights, 0.0)
    drawn = [*area.axes("iteration")]
    for at, (name, points) in enumerate(parts.items()):
        for x, y in points:
            top, foot = area.y(below[x] + y), area.y(below[x])
            below[x] += y
            said = tag("title", f"iteration {x:g}: {name} {y:.3g} s")
            drawn.append(
                tag("rect", said, x=area.x(x) - width / 2, y=top, width=width, height=foot - top, class_=f"bar s{at % COLORS}")
            )
    return _figure(title, drawn, [(_class(at), name) for at, name in enumerate(parts)], None)


def spark(points: Sequence[tuple[float, float]], width: int = 120, height: int = 26) -> Markup:
    """A curve in a line of a table."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    (left, right), (low, high) = (min(xs), max(xs)), (min(ys), max(ys))

    def at(x: float, y: float) -> str:
        across = (x - left) / (right - left) if right > left else 0.5
        up = (y - low) / (high - low) if high > low else 0.5
        return f"{3 + (width - 6) * across:.1f},{height - 4 - (height - 8) * up:.1f}"

    line = tag("polyline", points=" ".join(at(*point) for point in points), class_="spark")
    return tag("svg", line, width=width, height=height, aria_hidden="true")


def share(part: float, width: int = 160, height: int = 12) -> Markup:
    """A part of a whole as a bar."""
    filled = tag("rect", x=0, y=1, width=width * min(1.0, max(0.0, part)), height=height - 2, rx=1, class_="bar s0")
    whole = tag("rect", x=0, y=1, width=width, height=height - 2, rx=1, class_="whole")
    return tag("svg", whole, filled, width=width, height=height, aria_hidden="true")


class _Area:
    """Where a value is drawn."""

    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self._left, self._right = (left, right) if right > left else (left - 1, right + 1)
        self._ticks = ticks(low, high)
        self._low, self._high = min(low, self._ticks[0]), max(high, self._ticks[-1])

    def x(self, value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - self._left) / (self._right - self._left), 1)

    def y(self, value: float) -> float:
        part = (min(self._high, max(self._low, value)) - self._low) / (self._high - self._low)
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part, 1)

    def axes(self, x_name: str) -> list[Markup]:
        """Lines and numbers."""
        drawn = []
        for value in self._ticks:
            y = self.y(value)
            drawn.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
            drawn.append(tag("text", f"{value:.10g}", x=LEFT - 7, y=y + 4, class_="label end"))
        for value in ticks(self._left, self._right, 7):
            if self._left <= value <= self._right and value == int(value):
                drawn.append(tag("text", f"{value:.10g}", x=self.x(value), y=HEIGHT - BOTTOM + 16, class_="label"))
        drawn.append(tag("text", x_name, x=WIDTH - RIGHT, y=HEIGHT - 3, class_="label end"))
        return drawn


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers, about `most`, that reach from below `low` to above `high`."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if span / step <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [at * step for at in range(first, max(last, first + 1) + 1)]


def _class(color: int, dashed: bool = False) -> str:
    return f"s{color % COLORS}" + (" again" if dashed or color >= COLORS else "")


def _curve(one: Series, area: _Area, color: str) -> list[Markup]:
    drawn = [
        tag("line", x1=area.x(x), x2=area.x(x), y1=area.y(low), y2=area.y(high), class_=f"span {color}")
        for x, (low, high) in one.spans.items()
    ]
    path = " ".join(f"{area.x(x)},{area.y(y)}" for x, y in one.points)
    drawn.append(tag("polyline", points=path, class_=f"curve {color}"))
    if len(one.points) <= MARKED:
        for x, y in one.points:
            ends = f" ({one.spans[x][0]:.3f} to {one.spans[x][1]:.3f})" if x in one.spans else ""
            said = tag("title", f"{one.name or 'value'} at {x:g}: {y:.4g}{ends}")
            drawn.append(tag("circle", said, cx=area.x(x), cy=area.y(y), r=3, class_=f"point {color}"))
    return drawn


def _figure(title: str, drawn: Sequence[Markup], names: Sequence[tuple[str, str]], beside: str | None) -> Markup:
    keys = [tag("b", tag("i"), tag("span", name), class_=color) for color, name in names]
    keys += [tag("em", beside)] if beside else []
    svg = tag("svg", *drawn, class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title)
    return tag("figure", tag("figcaption", title), svg, tag("p", *keys, class_="key") if keys else None)
