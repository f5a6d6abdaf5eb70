"""The study's figures: truth by setting and stage, learning curves, and truth against learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from comparison.figure import COLORS, STYLES

from .plan import REFERENCE, Study
from .results import Results
from .summary import MEASURES, Learned, ahead, audits_of, interval, methods_of, pooled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 25
"""Points of a curve; a bin's value is the mean over the iterations in it."""


def truth(study: Study, results: Results, measure: str) -> Figure:
    """A panel a setting: for each method its measure at each stage, over seeds."""
    settings = [one for one in study.settings if any(audits_of(study, results, one.name, stage) for stage in one.stages)]
    methods = methods_of(study, results)
    figure = _figure(2.4 + 2.6 * len(settings), 1.3 + 0.22 * len(methods))
    panels = figure.subplots(1, len(settings), squeeze=False, sharey=True)[0]
    for axes, setting in zip(panels, settings, strict=True):
        for number, stage in enumerate(setting.stages):
            audits = audits_of(study, results, setting.name, stage)
            shift = 0.22 * (number - (len(setting.stages) - 1) / 2)
            for place, method in enumerate(methods):
                found = pooled(audits, method, measure)
                if found is not None:
                    axes.plot([found.low, found.high], [place + shift] * 2, color=COLORS[number], linewidth=1, alpha=0.5)
                    axes.plot(found.value, place + shift, "o", markersize=3.5, color=COLORS[number])
            if audits:
                reached = np.mean([audit["success"] for audit in audits])
                axes.plot([], [], "o", markersize=3.5, color=COLORS[number], label=f"success {reached:.2f}")
        axes.axvline(0, color="0.7", linewidth=0.8)
        axes.set_title(setting.title, fontsize=9)
        axes.set_xlim(-0.35, 1.15)
        axes.legend(fontsize=7, frameon=False, loc="lower right")
        _plain(axes)
    panels[0].set_yticks(range(len(methods)), methods, fontsize=8)
    panels[0].set_ylim(len(methods) - 0.4, -0.6)
    figure.supxlabel(f"agreement with the true advantage: {MEASURES[measure]}", fontsize=9)
    return figure


def learning(arms: Mapping[str, Learned]) -> Figure:
    """Success in training over environment steps: an arm's mean over seeds, and each seed."""
    figure = _figure(9, 4.5)
    axes = figure.subplots()
    for number, (arm, found) in enumerate(arms.items()):
        color, style = COLORS[number % len(COLORS)], STYLES[number // len(COLORS) % len(STYLES)]
        curves = [_binned(x, y) for x, y in zip(found.steps, found.success)]
        for x, y in curves if len(curves) > 1 else []:
            axes.plot(x, y, color=color, linestyle=style, linewidth=0.5, alpha=0.3)
        x, y = (np.mean([curve[part] for curve in curves], axis=0) for part in (0, 1))
        axes.plot(x, y, color=color, linestyle=style, linewidth=1.8, label=f"{arm} ({len(curves)})")
    axes.set(xlabel="environment steps of training", ylabel="success of the episodes played for training")
    axes.legend(frameon=False, fontsize=8, title="arm (seeds)", title_fontsize=8)
    _plain(axes)
    return figure


def against(study: Study, results: Results, arms: Mapping[str, Learned]) -> Figure:
    """Learning against truth, a point a method, for each measure."""
    figure = _figure(10, 3.6)
    audits = [audit for one in study.settings if one.name == study.learns for audit in audits_of(study, results, one.name)]
    for axes, (measure, title) in zip(figure.subplots(1, len(MEASURES), sharey=True), MEASURES.items(), strict=True):
        for arm in arms:
            found, faster = pooled(audits, arm, measure), ahead(arms, arm)
            if found is None or not len(faster):
                continue
            low, high = interval(faster)
            axes.plot([found.low, found.high], [faster.mean()] * 2, color="0.75", linewidth=1)
            axes.plot([found.value] * 2, [low, high], color="0.75", linewidth=1)
            axes.plot(found.value, faster.mean(), "o", color=COLORS[0], markersize=4)
            axes.annotate(arm, (found.value, faster.mean()), xytext=(4, 3), textcoords="offset points", fontsize=7)
        axes.axhline(0, color="0.7", linewidth=0.8)
        axes.set_xlabel(f"true advantage: {title}", fontsize=9)
        _plain(axes)
    figure.axes[0].set_ylabel(f"mean success in training, above {REFERENCE}", fontsize=9)
    return figure


def _binned(steps: Any, success: Any) -> tuple[Any, Any]:
    edges = np.linspace(0, steps[-1], BINS + 1)
    bins = np.clip(np.searchsorted(edges, steps, side="left") - 1, 0, BINS - 1)
    known = [number for number in range(BINS) if (bins == number).any()]
    middle = (edges[:-1] + edges[1:]) / 2
    filled = np.interp(middle, middle[known], [success[bins == number].mean() for number in known])
    return middle, filled


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
