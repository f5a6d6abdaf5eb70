"""The report's figure, drawn from its numbers: learning curves by temperature above, final success by task type below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which the color-blind tell apart."""
STYLES = ("-", "--", "-.", ":")
"""Once the colors are used up, lines differ in this too."""
AXES = {"env/steps": "environment steps of training", "time/cpu": "CPU seconds after the warm start"}


def draw(report: Mapping[str, Any]) -> Figure:
    """Curves of each temperature over each axis, and a dot with its interval for each arm and task type."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    temperatures = report["temperatures"]
    arms = list(report["cost"])
    widest = max(len(found["types"]) for found in temperatures.values()) + 1
    final = 0.8 + 0.12 * widest * (len(arms) + 1)
    figure = Figure(figsize=(10, 3.3 * len(temperatures) + final), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.3 * len(temperatures), final])
    above, below = parts[:, 0]
    grid = above.subplots(len(temperatures), len(AXES), squeeze=False, sharey=True)
    for line, (temperature, found) in zip(grid, temperatures.items(), strict=True):
        for axes, x in zip(line, AXES, strict=True):
            _curves(axes, found["arms"], x, arms)
        line[0].set_ylabel(f"success at temperature {temperature}\n(IQM over seeds and task types)")
    handles, labels = grid[0][0].get_legend_handles_labels()
    above.legend(handles, labels, loc="outside upper center", ncols=min(6, len(arms)), frameon=False)
    bottom = below.subplots(1, len(temperatures), squeeze=False, sharey=True)[0]
    for axes, (temperature, found) in zip(bottom, temperatures.items(), strict=True):
        _types(axes, found, arms)
        axes.set_xlabel(f"final success at temperature {temperature}")
    return figure


def _look(number: int) -> tuple[str, str]:
    return COLORS[number % len(COLORS)], STYLES[number // len(COLORS) % len(STYLES)]


def _curves(axes: Axes, arms: Mapping[str, Any], x: str, order: Sequence[str]) -> None:
    for number, arm in enumerate(order):
        curve = arms[arm]["curves"][x]
        color, style = _look(number)
        for seed in curve["seeds"]:
            axes.plot(curve["x"], seed, color=color, linewidth=0.6, alpha=0.35)
        if "low" in curve:
            axes.fill_between(curve["x"], curve["low"], curve["high"], color=color, alpha=0.15, linewidth=0)
        axes.plot(curve["x"], curve["iqm"], color=color, linestyle=style, linewidth=1.8, label=arm)
    axes.set(xlabel=AXES[x], ylim=(-0.02, 1.02), xlim=(0, None))
    _plain(axes)


def _types(axes: Axes, found: Mapping[str, Any], order: Sequence[str]) -> None:
    names = [*found["types"], "all tasks"]
    for number, arm in enumerate(order):
        color, _ = _look(number)
        of_arm = found["arms"][arm]
        for place, result in enumerate([*of_arm["types"].values(), of_arm["all"]]):
            y = place + 0.7 * ((number + 0.5) / len(order) - 0.5)
            if result["low"] is not None:
                axes.plot(
                    [result["low"], result["high"]], [y, y], color=color, linewidth=2.4, alpha=0.45, solid_capstyle="butt"
                )
            axes.plot(
                result["seeds"], [y] * len(result["seeds"]), "o", color=color, markersize=2.5, alpha=0.5, markeredgewidth=0
            )
            axes.plot([result["mean"]], [y], "o", color=color, markersize=5)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.axhline(len(names) - 1.5, color="#999", linewidth=0.8)
    axes.set_xlim(-0.02, 1.02)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
