"""The diverging colors of credit: blue above zero, orange below, symmetric around 0, told apart by color-blind readers too.

Numbers become one of 21 levels: a page needs no color in its elements, and each level's text can be checked to be readable.
"""

from __future__ import annotations

from dataclasses import dataclass

STEPS = 10
"""Levels a side; level 0 is no credit either way."""


def level(value: float | None, scale: float) -> int | None:
    """-STEPS .. STEPS; None for no opinion. What is not 0 never looks like 0.

    Levels grow with the square root: a few large credits (the end of a won episode) would else make all others one color.
    """
    if value is None:
        return None
    share = min(1.0, abs(value) / scale) ** 0.5 * STEPS
    return round(max(1.0, share) if value > 0 else min(-1.0, -share)) if value else 0


def stands_for(at: int, scale: float) -> float:
    """The credit in the middle of a level."""
    return (1 if at > 0 else -1) * (at / STEPS) ** 2 * scale


@dataclass(frozen=True)
class Palette:
    """Colors for one brightness of the page, as #rrggbb."""

    below: str
    zero: str
    above: str

    def ground(self, at: int) -> str:
        """Color of a level."""
        end = self.above if at > 0 else self.below
        # The first level begins a quarter of the way, so that a small credit is seen to be one.
        share = 0.25 + 0.75 * (abs(at) - 1) / (STEPS - 1) if at else 0.0
        mixed = (round(a + (b - a) * share) for a, b in zip(_channels(self.zero), _channels(end)))
        return "#" + "".join(f"{channel:02x}" for channel in mixed)

    def ink(self, at: int) -> str:
        """Black or white, whichever is easier to read on that level."""
        return max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, self.ground(at)))

    def style(self, at: int | None) -> str:
        """As a terminal's style, text on ground."""
        return "dim" if at is None else f"{self.ink(at)} on {self.ground(at)}"

    def foreground(self, at: int | None) -> str:
        """As a terminal's style, for text and bars on the terminal's own ground."""
        return self.ground(at) if at else "dim"


LIGHT = Palette(below="#b4500b", zero="#ebebe6", above="#1d5fa8")
DARK = Palette(below="#ff9a4a", zero="#30343b", above="#6fb4ff")


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colors, 1 to 21 (WCAG 2.2, 1.4.3)."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _channels(color))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
