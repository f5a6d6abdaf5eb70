"""A measurement of a judge as tables and as a picture, from its results alone (what results.json holds)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents.judges.measuring.measure import ALL, RATIOS
from envs.common.text import printable

COUNTS = ("tp", "fp", "fn", "tn")
COSTS = ("questions", "calls", "cached", "prompt_tokens", "answer_tokens", "broken", "failed", "open")
"""What is shown of a judge's metrics."""
PROPOSED = 12
"""Different proposed subgoals that are shown of a form."""


def show(results: Mapping[str, Any], console: Console) -> None:
    """Print the filter, a table of scores a form, what its proposed subgoals were taken for, and what the judge cost."""
    judge = results["judge"]
    left_out = f"; {results['faults']} more are left out, because a fault cut them off" if results.get("faults") else ""
    name = " ".join(str(judge[key]) for key in ("kind", "model") if judge[key])
    noise = f", {judge['noise']:.0%} noise" if judge["noise"] else ""
    console.print(
        Text(
            f"judge {name}{noise} on {results['environment']}, split {results['split']}: {results['episodes']} episodes of "
            f"{'a random policy' if results['policy'] == 'random' else results['policy']}, {results['won']} won{left_out}"
        )
    )
    kept, transitions = results["kept"], results["transitions"]
    console.print(
        f"asked about {kept} of {transitions} transitions ({kept / max(1, transitions):.1%}), those that changed anything; "
        f"{results['events_lost']} of {results['events']} events are lost by that"
    )
    console.print("95% intervals are from a bootstrap over episodes; with few events they are too narrow", style="dim")
    for number, form in enumerate(results["forms"], 1):
        console.print()
        console.print(_scores(number, form))
        _proposed(form["proposed"], console)
    if any("calls" in form["cost"] for form in results["forms"]):
        console.print()
        console.print(_costs(results["forms"], judge["concurrency"]))


def _scores(number: int, form: Mapping[str, Any]) -> Table:
    table = _table(f"{number}: {form['form']}")
    table.add_column("subgoal", ratio=1, overflow="fold")
    for name in (*RATIOS, "/".join(COUNTS)):
        table.add_column(name, justify="right", no_wrap=True)
    for name, score in form["scores"].items():
        if name == ALL:
            table.add_section()
        counts = "/".join(str(score[count]) for count in COUNTS)
        table.add_row(Text(printable(name)), *(_ratio(score[ratio]) for ratio in RATIOS), counts)
    return table


def _ratio(ratio: Mapping[str, float | None]) -> Text:
    """A value, and its interval without the zeros in front: 0.93 .85-.98."""
    if ratio["value"] is None:
        return Text("-", "dim")
    bounds = "-".join(f"{ratio[end]:.2f}".removeprefix("0") for end in ("low", "high"))
    return Text.assemble(f"{ratio['value']:.2f}", (f" {bounds}", "dim"))


def _proposed(by_task: Mapping[str, Any], console: Console) -> None:
    """Which proposed subgoals count as which of the rules'; equal ones of several tasks once."""
    matches = {(m["proposed"], m["nearest"], m["taken"]): m["likeness"] for found in by_task.values() for m in found}
    for (proposed, nearest, taken), likeness in sorted(matches.items(), key=lambda item: (not item[0][2], item[0]))[:PROPOSED]:
        near = f", nearest: '{nearest}' ({likeness:.0f})" if nearest else ""
        fate = f"counts as '{nearest}' ({likeness:.0f})" if taken else f"is not scored{near}"
        console.print(Text(printable(f"  proposed '{proposed}' {fate}"), "" if taken else "yellow"))
    if len(matches) > PROPOSED:
        console.print(f"  and {len(matches) - PROPOSED} more proposed subgoals; all are in results.json")
    silent = sum(not found for found in by_task.values())
    if silent:
        console.print(Text(f"  {silent} of {len(by_task)} tasks got no proposal: nothing was judged in them", "yellow"))


def _costs(forms: list[dict[str, Any]], concurrency: int) -> Table:
    table = _table(f"what was asked; seconds until a call is answered, with {concurrency} under way (earlier starts included)")
    titles = {"questions": "asked", "prompt_tokens": "tokens in", "answer_tokens": "out"}
    for name in ("form", *(titles.get(cost, cost) for cost in COSTS), "median s", "p95 s"):
        table.add_column(name, justify="right", overflow="fold")
    for number, form in enumerate(forms, 1):
        cost, seconds = form["cost"], form["seconds"]
        times = ["-" if seconds[name] is None else f"{seconds[name]:.2f}" for name in ("median", "p95")]
        table.add_row(str(number), *(f"{cost[name]:g}" for name in COSTS), *times)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE, show_edge=False, padding=(0, 1, 0, 0), expand=True)


def plot(results: Mapping[str, Any], path: Path) -> Path:
    """Draw one panel per subgoal: precision, recall and F1 of each form with their intervals."""
    # The object interface needs no display and leaves pyplot's global state alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    forms = results["forms"]
    names = list(dict.fromkeys(name for form in forms for name in form["scores"]))
    names.sort(key=lambda name: name == ALL)
    columns = min(4, len(names))
    lines = math.ceil(len(names) / columns)
    size = (3.4 + 2.6 * columns, 0.9 + lines * (0.7 + 0.45 * len(forms)))
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, name in zip(panels, names):
        for place, ratio in enumerate(RATIOS):
            found = [form["scores"].get(name, {}).get(ratio, {"value": None}) for form in forms]
            shown = [(at + 0.22 * (place - 1), r) for at, r in enumerate(found) if r["value"] is not None]
            values = [r["value"] for _, r in shown]
            errors = [[r["value"] - r["low"] for _, r in shown], [r["high"] - r["value"] for _, r in shown]]
            heights = [height for height, _ in shown]
            axes.errorbar(values, heights, xerr=errors, fmt="o", markersize=4, capsize=2, linewidth=1.2, label=ratio)
        axes.set_title("all subgoals" if name == ALL else printable(name), fontsize=10)
        axes.set_yticks(range(len(forms)), [form["form"] for form in forms], fontsize=9)
        axes.set_xlim(-0.03, 1.03)
        axes.grid(alpha=0.25)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    first = figure.axes[0]
    first.set_ylim(len(forms) - 0.5, -0.5)
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=len(RATIOS), frameon=False)
    figure.savefig(path)
    return path
