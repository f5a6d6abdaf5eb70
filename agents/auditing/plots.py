"""The results of an audit as pictures: correlations with their intervals, and credited against true advantages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.common.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = {
    "correlation_corrected": "correlation with the truth,\nall steps",
    "within_corrected": "within episodes",
    "cosine_corrected": "cosine of the\npolicy gradients",
    "sign_corrected": "signs at\ndecisive steps",
}


def plot(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the pictures into `folder`; returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_agreement(results, folder / "agreement.png"), _calibration(results, folder / "calibration.png")]


def _agreement(results: Mapping[str, Any], path: Path) -> Path:
    """A panel a measure: each method's value with its interval, and as a hollow mark what was measured before correction."""
    methods = results["methods"]
    figure = _figure((2.2 + 2.2 * len(SHOWN), 1.3 + 0.4 * len(methods)))
    panels = figure.subplots(1, len(SHOWN), sharey=True, squeeze=False)[0]
    for axes, (key, title) in zip(panels, SHOWN.items()):
        for at, method in enumerate(methods):
            numbers = {**method["steps"]["numbers"], **(method["cosine"] or {})}
            found, plain = numbers.get(key), numbers.get(key.removesuffix("_corrected"))
            if plain and plain["value"] is not None:
                axes.plot(plain["value"], at, "o", markersize=5, markerfacecolor="none", color="0.55")
            if found and found["value"] is not None:
                axes.plot(found["value"], at, "o", markersize=5, color="C0")
                if found["low"] is not None:  # an interval need not hold the value: it is one of resamples
                    axes.plot([found["low"], found["high"]], [at, at], "|-", markersize=5, linewidth=1.3, color="C0")
        axes.axvline(0.5 if key.startswith("sign") else 0.0, color="0.6", linewidth=0.8)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
        _plain(axes)
    panels[0].set_yticks(range(len(methods)), [printable(method["name"]) for method in methods])
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    figure.savefig(path)
    return path


def _calibration(results: Mapping[str, Any], path: Path) -> Path:
    """A panel a method: the mean true advantage of steps that were credited alike."""
    methods = results["methods"]
    columns = min(4, len(methods))
    lines = math.ceil(len(methods) / columns)
    figure = _figure((1 + 2.6 * columns, 0.6 + 2.3 * lines))
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
    for axes, method in zip(panels, methods):
        bins = method["steps"]["calibration"]
        x, y = [one["credited"] for one in bins], [one["true"]["value"] for one in bins]
        low, high = (
            [one["true"][end] if one["true"][end] is not None else one["true"]["value"] for one in bins]
            for end in ("low", "high")
        )
        axes.axhline(0, color="0.7", linewidth=0.8)
        axes.axvline(0, color="0.7", linewidth=0.8)
        axes.plot(x, y, "o-", markersize=4, linewidth=1.2, color="C0")
        axes.vlines(x, low, high, linewidth=1.2, color="C0")
        axes.set_title(printable(method["name"]), fontsize=10)
        axes.set_xlabel("credit", fontsize=9)
        axes.tick_params(labelsize=8)
        _plain(axes)
    for axes in panels[len(methods) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("true advantage", fontsize=9)
    figure.savefig(path)
    return path


def _figure(size: tuple[float, float]) -> Figure:
    # The object interface needs no display and leaves pyplot's global state alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
