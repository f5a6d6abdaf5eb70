"""A run's curves as PNG files, from metrics.jsonl alone; several runs in one picture for comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.runs.console import EVAL
from agents.runs.metrics import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, Any]]
AXES = {"iteration": "iteration", "time/cpu": "CPU time (s)", "time/wall": "wall-clock time (s)"}
PARTS = ("rollout", "branches", "update", "evaluation")
TRAIN = {"train/success": "success of training episodes", "train/reward": "mean reward of training episodes"}


def plot_run(metrics: Path, folder: Path) -> list[Path]:
    """Draw what `metrics` (metrics.jsonl) has numbers for into `folder`; returns the files."""
    runs = {"": read_metrics(metrics)}
    return compare(runs, folder) + plot_time(runs[""], folder)


def compare(runs: Mapping[str, Rows], folder: Path) -> list[Path]:
    """Success and reward of named runs (their rows of metrics.jsonl) in common axes; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for x in AXES:
        series = {_label(name, key): _points(rows, x, key) for name, rows in runs.items() for key in _evaluated(rows)}
        written += _draw(series, AXES[x], "held-out success", folder / f"eval_success_by_{x.rpartition('/')[2]}.png", (0, 1))
    for key, title in TRAIN.items():
        series = {name: _points(rows, "iteration", key) for name, rows in runs.items()}
        path = folder / f"{key.replace('/', '_')}.png"
        written += _draw(series, "iteration", title, path, (0, 1) if key == "train/success" else None, dots=False)
    return written


def plot_time(rows: Rows, folder: Path) -> list[Path]:
    """Where each iteration's seconds went, stacked; returns the file, if there are such numbers."""
    rows = [row for row in rows if any(row.get(f"time/{part}") is not None for part in PARTS)]
    if not rows:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    axes = _axes("iteration", "seconds")
    x = [row["iteration"] for row in rows]
    below = [0.0] * len(rows)
    for part in [part for part in PARTS if any(row.get(f"time/{part}") is not None for row in rows)]:
        seconds = [row.get(f"time/{part}") or 0.0 for row in rows]
        axes.bar(x, seconds, bottom=below, width=0.9, label=part)
        below = [a + b for a, b in zip(below, seconds)]
    axes.legend(frameon=False)
    return [_save(axes, folder / "time.png")]


def _evaluated(rows: Rows) -> list[str]:
    return sorted({key for row in rows for key in row if key.startswith(EVAL)}, key=lambda key: float(key[len(EVAL) :]))


def _label(run: str, key: str) -> str:
    temperature = f"temperature {key[len(EVAL) :]}"
    return f"{run}, {temperature}" if run else temperature


def _points(rows: Rows, x: str, y: str) -> list[tuple[float, float]]:
    return [(row[x], row[y]) for row in rows if row.get(x) is not None and row.get(y) is not None]


def _draw(
    series: Mapping[str, Sequence[tuple[float, float]]],
    x: str,
    y: str,
    path: Path,
    limits: tuple[float, float] | None,
    dots: bool = True,
) -> list[Path]:
    series = {name: points for name, points in series.items() if points}
    if not series:
        return []
    axes = _axes(x, y)
    for name, points in series.items():
        axes.plot(*zip(*points), marker="o" if dots else None, markersize=4, linewidth=1.6, label=name or None)
    if limits:
        axes.set_ylim(limits[0] - 0.02, limits[1] + 0.02)
    if any(series):
        axes.legend(frameon=False)
    return [_save(axes, path)]


def _axes(x: str, y: str) -> Axes:
    # The object interface needs no display and leaves pyplot's global state alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def _save(axes: Axes, path: Path) -> Path:
    figure = axes.get_figure()
    assert figure is not None
    figure.savefig(path)  # type: ignore[union-attr]
    return path
