"""The report as one HTML file that needs nothing else: no script, no network, the figure inside."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from agents.config.differences import MISSING

from .figure import draw

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
p { max-width: 62rem; margin: .4rem 0; } .quiet, caption { color: #666; font-size: .87rem; }
img { width: 100%; } .wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #e3e3e3; vertical-align: top; }
th { border-bottom: 1.5px solid #555; font-weight: 600; vertical-align: bottom; }
td:first-child, th:first-child, table.text td, table.text th { text-align: left; }
caption { text-align: left; padding-bottom: .3rem; caption-side: top; }
small { display: block; color: #666; font-size: .78rem; white-space: nowrap; }
code, pre { font: .82rem/1.5 ui-monospace, monospace; } pre { background: #f6f6f6; padding: .6rem .8rem; overflow-x: auto; }
.failed { border-left: 4px solid #c33; padding: .1rem .8rem; background: #fdf1f1; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } details > * { display: block; } }
"""


def page(report: Mapping[str, Any]) -> str:
    """The whole page."""
    arms = ", ".join(report["arms"])
    title = f"{report['environment']}: {arms}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet"><code>{escape(report["command"])}</code></p>',
        _failures(report),
        _setting(report),
        "<h2>Learning curves and final success</h2>",
        f'<img alt="learning curves and final success of {escape(arms)}" src="data:image/svg+xml;base64,{_figure(report)}">',
        _caption(report),
        _final(report),
        _pairs(report["temperatures"]),
        _cost(report["cost"]),
        _settings(report),
        "<h2>Notes</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in report["notes"]) + "</ul>",
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style></head><body>'
        + "\n".join(parts)
        + "</body></html>\n"
    )


def _figure(report: Mapping[str, Any]) -> str:
    from matplotlib import rc_context

    drawn = io.BytesIO()
    # Without a date and with ids that are no chance, equal numbers give equal files.
    with rc_context({"svg.hashsalt": "stepcredit"}):
        draw(report).savefig(drawn, format="svg", metadata={"Date": None})
    return base64.b64encode(drawn.getvalue()).decode()


def _failures(report: Mapping[str, Any]) -> str:
    if not report["failed"]:
        return ""
    rows = [f"<p><b>{escape(f['arm'])}, seed {f['seed']}, failed:</b> {escape(f['reason'])}</p>" for f in report["failed"]]
    return f'<div class="failed">{"".join(rows)}</div>'


def _setting(report: Mapping[str, Any]) -> str:
    budget = report["budget"]
    length = f"{budget:,} environment steps a run" if budget else "an equal number of iterations"
    hashes = ", ".join(f"{name} {value}" for name, value in report["splits"].items())
    seeds = ", ".join(map(str, report["seeds"]))
    return f"""<p>{len(report["arms"])} arms, seeds {seeds}; model {escape(report["model"])}. Budget: {length}
        ({escape(report["budget_source"])}); a run ends with the iteration that reaches it. Runs of a seed begin with the same
        weights: their evaluations before training are compared. All runs have the same tasks (splits: {escape(hashes)});
        success is measured on the split {escape(report["split"])}.</p>"""


def _caption(report: Mapping[str, Any]) -> str:
    level, resamples = report["bootstrap"]["level"], report["bootstrap"]["resamples"]
    return f"""<p class="quiet">Above: interquartile mean (IQM) of success over seeds and task types. Of all values, one for
        each seed and type, the middle half is averaged: every type weighs the same, however many tasks it has, and single
        outliers nothing. Thin lines: the same for each seed alone. A run is evaluated every few iterations; in between it is
        interpolated linearly, and a curve goes as far as the shortest of its runs. Bands: {level:.0%} percentile intervals of
        {resamples:,} stratified bootstrap resamples, at each place for itself (pointwise): that a whole curve stays within its
        band is less likely. Task types are the strata: all of them are in every resample, and within
        each of them as many seeds as there are are drawn with replacement, independently of the other types (Agarwal et al.
        2021, arXiv 2108.13264). Seconds are processor time after the evaluation before training, later evaluations included.
        Below: large dots are means over seeds, small ones the seeds, bars the interval of the mean over resampled seeds.</p>"""


def _final(report: Mapping[str, Any]) -> str:
    repeats = report["repeats"]
    source = f"an evaluation of its own, {repeats} episodes a task" if repeats > 1 else "the run's last evaluation"
    equal = report["equal_steps"]
    caption = f"""From {source}. Types and all tasks: mean over seeds; all tasks weighs every task the same, the IQM every type.
        In brackets 95% bootstrap intervals: of resampled seeds; for the IQM stratified by type as in the curves, and in the
        last column with a seed's types kept together, which is wider where a good seed is good at everything."""
    if equal is not None:
        caption += f""" All tasks at {equal:,.0f} steps: a run missed the budget by more than 5%, so this is success where every
            run had as many environment steps, interpolated between the evaluations of the training."""
    tables: list[str] = []
    for temperature, found in report["temperatures"].items():
        kinds = [f"{escape(kind.replace('_', ' '))}{_small(report['tasks'].get(kind))}" for kind in found["types"]]
        every = f"all tasks{_small(sum(report['tasks'].values()))}"
        rows = []
        for arm, of_arm in found["arms"].items():
            iqm = of_arm["iqm"]
            cells = [_mean(result) for result in [of_arm["start"], *of_arm["types"].values(), of_arm["all"]]]
            cells += [] if equal is None else [_mean(of_arm["at_equal_steps"])]
            cells += [_cell(iqm["value"], iqm["stratified"]), _cell(iqm["value"], iqm["whole_seeds"])]
            rows.append([escape(arm), *cells])
        head = [f"temperature {escape(temperature)}", f"start{every.removeprefix('all tasks')}"]
        head += [*kinds, every, *([] if equal is None else [f"all tasks at {equal:,.0f} steps"])]
        tables.append(_table([*head, "IQM", "IQM, whole seeds"], rows, "" if tables else caption))
    return "<h2>Final success</h2>" + "".join(tables)


def _small(tasks: int | None) -> str:
    return "" if tasks is None else f"<small>{tasks:,} task{'s' * (tasks != 1)}</small>"


def _pairs(temperatures: Mapping[str, Any]) -> str:
    rows = []
    for temperature, found in temperatures.items():
        for pair in found["pairs"]:
            arms, difference = f"{escape(pair['first'])} against {escape(pair['second'])}", pair["difference"]
            chance = _cell(pair["improvement"], pair["improvement_interval"])
            rows.append([arms, escape(temperature), chance, _mean(difference, signed=True) if difference else MISSING])
    if not rows:
        return ""
    caption = """Probability of improvement: that a run of the first arm beats one of the second at a task type, ties counting
        half, mean over types; the interval is stratified by type and takes all runs as independent, though those of a seed
        share their warm start. Difference: of success over all tasks, seed by seed (equal start), mean and interval over
        seeds."""
    head = ["", "temperature", "probability of improvement", "difference of success"]
    return "<h2>Arm against arm</h2>" + _table(head, rows, caption)


def _cost(cost: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(next(iter(cost.values())))
    rows = [[escape(arm), *(f"{of_arm[name]['mean']:,.0f}" for name in names)] for arm, of_arm in cost.items()]
    caption = """A run's, mean over seeds, after the evaluation before training (the warm start is common to all arms). Seconds
        of rollout, update and evaluation are wall-clock and depend on how many runs shared the machine. Tokens are those that
        models computed: in the rollout the policy, in the update policy, critic and reward models. Out of context:
        episodes that outgrew what the model can read, which count as lost. Faults: episodes cut off by a crash or a hang, which
        are in no rate. Both in training and evaluation."""
    return "<h2>Cost</h2>" + _table(["arm", *names], rows, caption)


def _settings(report: Mapping[str, Any]) -> str:
    arms, settings = report["arms"], report["settings"]
    rows = [
        [f"<code>{escape(key)}</code>", *(f"<code>{escape(_value(row[arm]))}</code>" for arm in arms)]
        for key, row in settings["differing"].items()
    ]
    rows.insert(0, ["<b>as given</b>", *(f"<code>{escape(arm['overrides'])}</code>" for arm in arms.values())])
    common = "\n".join(f"{key} = {_value(value)}" for key, value in settings["common"].items())
    commands = "\n".join(command for arm in arms.values() for command in arm["commands"])
    return (
        "<h2>Settings</h2>"
        + _table(
            ["key", *map(escape, arms)], rows, f"What differs between the arms; {MISSING}: the arm has no such setting.", "text"
        )
        + f"<details><summary>Settings that all arms share</summary><pre>{escape(common)}</pre></details>"
        + f"<details><summary>Commands of the runs</summary><pre>{escape(commands)}</pre></details>"
    )


def _value(value: Any) -> str:
    """As one would write it in a configuration."""
    return value if isinstance(value, str) else json.dumps(value)


def _mean(result: Mapping[str, Any], signed: bool = False) -> str:
    return _cell(result["mean"], None if result["low"] is None else (result["low"], result["high"]), signed)


def _cell(value: float, interval: Sequence[float] | None, signed: bool = False) -> str:
    form = "+.2f" if signed else ".2f"
    between = f"<small>[{interval[0]:{form}}, {interval[1]:{form}}]</small>" if interval else ""
    return f"{value:{form}}{between}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str, kind: str = "") -> str:
    """A table of cells that are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    text = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table class="{kind}">{text}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
