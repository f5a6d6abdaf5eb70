"""The page of a report: one run, or several in common axes and tables. One file, without scripts, network or images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median_high
from typing import Any

from agents.config.overrides import assignment, command_line
from agents.replay import html
from agents.replay.html import Markup, join, tag
from agents.replay.style import STYLE
from agents.reporting import chart, health
from agents.reporting.chart import Series
from agents.reporting.episodes import Chosen
from agents.reporting.reading import Evaluated, Run, spent, steps_per_second
from agents.reporting.sections import sections
from agents.reporting.tables import Cell, duration, number, success, table
from agents.runs.console import RANDOM
from agents.runs.plots import PARTS
from envs.common.text import printable

OWN = """
h2{margin:40px 0 10px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:15px;margin:22px 0 8px}
.plain{margin:8px 0 4px}
.plain td,.plain th{padding:4px 22px 4px 0;vertical-align:top}
.plain thead th{font-size:12px;border-bottom:1px solid var(--line);vertical-align:bottom}
.plain tbody th{color:var(--ink)}
.plain td{font:12.5px var(--mono);white-space:nowrap}
.plain td small,.plain th small{display:block;color:var(--soft);font:11.5px var(--mono);white-space:nowrap}
.plain td.words{font:13px system-ui,sans-serif;color:var(--soft);white-space:normal}
.plain td svg{margin-top:3px}
h1::first-letter,h2::first-letter{text-transform:none}
.plain .inner th{font-weight:400;color:var(--soft);padding-left:16px}
.plain .odd th,.plain .odd td{color:var(--warn)}
.plain .mark{font:600 12px system-ui,sans-serif;color:var(--warn)}
pre.command{background:var(--chip);border-radius:6px;padding:8px 12px;overflow-x:auto;font:12.5px/1.5 var(--mono);
  white-space:pre-wrap;overflow-wrap:anywhere;margin:8px 0}
pre.all{max-height:420px;overflow:auto}
details summary{cursor:pointer;color:var(--link);font-size:13px;margin:8px 0}
.about+.note{margin-top:12px}
ul.said{margin:6px 0;padding-left:20px;font-size:13px}
ul.said li{margin:2px 0;overflow-wrap:anywhere}
"""
ENDED = {"finished": "won", "failed": "lost", "killed": "lost"}
"""Classes of the color that a run's state is shown in."""


def document(runs: Sequence[Run], chosen: Sequence[Chosen], place: Path) -> str:
    """The page of some runs, with the episodes chosen of each. place: the folder that it will be in, for its links."""
    names = _names(runs)
    title = names[0] if len(runs) == 1 else f"{len(runs)} runs"
    top = tag("header", tag("p", tag("b", "report"), tag("span", title)), class_="top")
    parts = [tag("h1", title), *_about(runs, names), _summary(runs, names), _charts(runs, names), _time(runs, names)]
    for run, name, episodes in zip(runs, names, chosen):
        parts += [tag("h2", name)] if len(runs) > 1 else []
        level = "h3" if len(runs) > 1 else "h2"
        parts += [tag("section", tag(level, heading), *inside) for heading, inside in sections(run, episodes, place)]
    parts += [_settings(runs, names), _machines(runs, names), _commands(runs)]
    return html.document(f"{title} · report", STYLE + chart.STYLE + OWN, top, tag("main", *parts))


def _names(runs: Sequence[Run]) -> list[str]:
    """Of the folders; where two are alike, with the way there."""
    names = [run.name for run in runs]
    return [name if names.count(name) == 1 else printable(str(run.folder.named)) for run, name in zip(runs, names)]


def _about(runs: Sequence[Run], names: Sequence[str]) -> list[Markup]:
    """What kind of run each is, where it stands, and what is missing."""
    lines = []
    for run, name in zip(runs, names):
        about = f"{_setting(run, 'algo.name')} on {_setting(run, 'env.name')}, model {_setting(run, 'model.name')}, "
        about += f"seed {_setting(run, 'seed')}"
        lines.append(tag("p", *([tag("b", f"{name}: ")] if len(runs) > 1 else []), about, class_="about"))
        before = f"{name}: " if len(runs) > 1 else ""
        if run.state not in ("finished", "running"):
            reason = printable(str(run.status.get("reason") or ""))
            begun = f"{before}{run.state} after {run.iteration} of {_setting(run, 'iterations')} iterations"
            lines.append(tag("p", f"{begun}{f': {reason}' if reason else ''}", class_="note"))
        elif run.folder.elsewhere:
            host = _plain(run.status.get("host"))
            said = f"{before}{host} says that it runs; whether it still does cannot be seen from here"
            lines.append(tag("p", said, class_="note"))
        lines += [tag("p", before + printable(note), class_="note") for note in run.notes]
    return lines


def _setting(run: Run, key: str) -> str:
    value = run.config.get(key)
    return "unknown" if value is None else printable(str(value))


def _summary(runs: Sequence[Run], names: Sequence[str]) -> Markup:
    """What it came to, in a column a run."""
    temperatures = list(dict.fromkeys(one.temperature for run in runs for one in run.evaluations))
    rows: dict[str, list[Cell]] = {
        "state": [_state(run) for run in runs],
        "iterations": [f"{run.iteration} of {_setting(run, 'iterations')}" for run in runs],
    }
    for temperature in temperatures:
        found = [[one for one in run.evaluations if one.temperature == temperature] for run in runs]
        name = printable(f"held-out success at temperature {temperature}")
        rows[f"{name}: first"] = [success(of[0].of, of[0].iteration) if of else None for of in found]
        rows[f"{name}: last"] = [success(of[-1].of, of[-1].iteration) if len(of) > 1 else None for of in found]
        rows[f"{name}: best before"] = [_better(of) for of in found]
    rows["success of random actions there"] = [number(run.last(RANDOM), ".3f") for run in runs]
    rows["success in training, newest iteration"] = [_trained(run) for run in runs]
    rows["environment steps of training"] = [number(run.last("env/steps"), ",.0f") for run in runs]
    rows["wall-clock time"] = [duration(run.last("time/wall")) for run in runs]
    rows["processor time"] = [duration(run.last("time/cpu")) for run in runs]
    rows["sampled tokens per second"] = [_middle([y for _, y in run.points("tokens_per_s")]) for run in runs]
    rows["environment steps per second"] = [_middle([y for _, y in steps_per_second(run)]) for run in runs]
    rows["weights, and those trained"] = [_size(run) for run in runs]
    rows["warnings"] = [f"{len(run.warnings)}" for run in runs]
    rows["signals to look at"] = [f"{sum(one.odd for one in health.seen(run))}" for run in runs]
    return table(["", *names] if len(runs) > 1 else [], rows)


def _state(run: Run) -> Markup:
    """Where the run stands, and since when."""
    since = run.status.get("time")
    ended = tag("span", run.state, class_=f"outcome {ENDED.get(run.state, '')}".strip())
    return join(ended, tag("small", f"since {_plain(since)}") if since else None)


def _better(found: Sequence[Evaluated]) -> Markup | None:
    """The best evaluation, where it is not the last one."""
    best = max(found, key=lambda one: one.of.value, default=None)
    return None if best is None or best.of.value <= found[-1].of.value else success(best.of, best.iteration)


def _trained(run: Run) -> Markup | None:
    value = run.last("train/success")
    beside = tag("small", f"{run.trained_on} episodes an iteration") if run.trained_on else None
    return None if value is None else join(f"{value:.3f}", beside)


def _middle(values: Sequence[float]) -> Markup | None:
    if not values:
        return None
    return join(f"{median_high(values):,.0f}", tag("small", f"median; {min(values):,.0f} to {max(values):,.0f}"))


def _size(run: Run) -> str | None:
    whole, trained = run.last("model/parameters"), run.last("model/trainable")
    return None if whole is None or trained is None else f"{whole:,.0f}, {trained:,.0f}"


def _charts(runs: Sequence[Run], names: Sequence[str]) -> Markup:
    """Learning curves in common axes."""
    several, held_out = len(runs) > 1, _held_out(runs, names)
    floors = {value for run in runs if (value := run.last(RANDOM)) is not None}
    floor = ("random actions", floors.pop()) if len(floors) == 1 else None
    drawn = [
        chart.curves("Success on held-out tasks", held_out, (0.0, 1.0), floor),
        chart.curves("Success in training", _series(runs, names, "train/success"), (0.0, 1.0)),
        chart.curves("Reward in training, mean of an episode", _series(runs, names, "train/reward")),
        chart.curves("Steps of an episode in training", _series(runs, names, "train/steps")),
        chart.curves("Sampled tokens per second", _series(runs, names, "tokens_per_s")),
    ]
    if not several:
        seconds = {part: runs[0].points(f"time/{part}") for part in PARTS}
        drawn.append(chart.stacked("Seconds of each iteration", seconds))
    intervals = "Vertical lines: 95% intervals (Wilson) for other tasks like these." if not several and held_out else ""
    note = f"{intervals} Point at a dot for its numbers.".strip()
    shown = tag("div", *[one for one in drawn if one is not None], class_="charts")
    return tag("section", tag("h2", "Learning curves"), shown, tag("p", note, class_="about"))


def _held_out(runs: Sequence[Run], names: Sequence[str]) -> list[Series]:
    """A curve a temperature. Of several runs each has a color of its own, and no intervals, which would hide the curves."""
    several, found = len(runs) > 1, []
    temperatures = list(dict.fromkeys(one.temperature for run in runs for one in run.evaluations))
    for at, (run, name) in enumerate(zip(runs, names)):
        for place, temperature in enumerate(temperatures):
            of = {float(one.iteration): one.of for one in run.evaluations if one.temperature == temperature}
            points = [(x, one.value) for x, one in of.items()]
            spans = {x: (one.low, one.high) for x, one in of.items() if one.low is not None and one.high is not None}
            words = printable(f"{name}, temperature {temperature}" if several else f"temperature {temperature}")
            look = (at, place > 0) if several else (place, False)
            found.append(Series(words, points, *look, {} if several else spans))
    return found


def _series(runs: Sequence[Run], names: Sequence[str], metric: str) -> list[Series]:
    return [Series(name if len(runs) > 1 else "", run.points(metric), at) for at, (run, name) in enumerate(zip(runs, names))]


def _time(runs: Sequence[Run], names: Sequence[str]) -> Markup | None:
    """Where the seconds went, a column a run."""
    found = [spent(run) for run in runs]
    if not any(found):
        return None
    rows: dict[str, list[Cell]] = {}
    for part in dict.fromkeys(part for of in found for part in of):
        cells: list[Cell] = []
        for run, of in zip(runs, found):
            seconds, wall = of.get(part), run.last("time/wall")
            if seconds is None or not wall:
                cells.append(None)
            else:
                cells.append(join(f"{duration(seconds)} · {seconds / wall:.1%}", chart.share(seconds / wall)))
        rows[part] = cells
    shown = table(["", *names] if len(runs) > 1 else [], rows, inner="within update: ")
    note = "Wall-clock time since the run began, resumed parts included, and its share."
    return tag("section", tag("h2", "Where the time went"), shown, tag("p", note, class_="about"))


def _settings(runs: Sequence[Run], names: Sequence[str]) -> Markup:
    """What was set, and all settings, folded."""
    keys = list(dict.fromkeys(key for run in runs for key in run.changed))
    rows: dict[str, list[Cell]] = {}
    for key in keys:
        rows[printable(key)] = [_value(run.config[key]) if key in run.config else None for run in runs]
    parts = [tag("h2", "Settings")]
    for run, name in zip(runs, names):
        if run.words:
            parts.append(tag("p", f"{name}: a run like it" if len(runs) > 1 else "A run like this one:", class_="about"))
            parts.append(tag("pre", printable(run.command), class_="command"))
    if rows:
        default = " ".join(runs[0].words) if len(runs) == 1 else "env=... algo=..."
        parts.append(tag("p", f"Settings that are not those of python -m agents.train {printable(default)}:", class_="about"))
        parts.append(table(["", *names] if len(runs) > 1 else [], rows))
    for run, name in zip(runs, names):
        if run.config:
            text = printable("\n".join(f"{key} = {_value(value)}" for key, value in run.config.items()))
            summary = tag("summary", f"All settings of {name}" if len(runs) > 1 else "All settings")
            parts.append(tag("details", summary, tag("pre", text, class_="command all")))
    return tag("section", *parts)


def _value(value: Any) -> str:
    """As one would write it in a configuration."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else printable(str(value))


def _machines(runs: Sequence[Run], names: Sequence[str]) -> Markup:
    """What the runs were computed on, a column a start."""
    starts = [(name, start) for run, name in zip(runs, names) for start in run.starts]
    parts = [tag("h2", "Machine and versions")]
    if not starts:
        parts.append(tag("p", "Not recorded: the run is of an earlier version, or starts.jsonl is missing.", class_="about"))
        return tag("section", *parts)
    first = {id(start) for run in runs for start in run.starts[:1]}
    heads = [f"{name}: " * (len(runs) > 1) + ("started" if id(start) in first else "resumed") for name, start in starts]
    rows: dict[str, list[Cell]] = {
        "when": [_plain(start.get("time")) for _, start in starts],
        "host": [_plain(start.get("host")) for _, start in starts],
        "system": [_plain(start.get("system")) for _, start in starts],
        "processor": [_plain(start.get("processor")) for _, start in starts],
        "cores, memory in GiB": [f"{_plain(start.get('cores'))}, {_plain(start.get('memory_gib'))}" for _, start in starts],
        "GPUs": [_plain(start.get("gpus")) for _, start in starts],
    }
    versions: list[Mapping[str, Any]] = [
        start["versions"] if isinstance(start.get("versions"), dict) else {} for _, start in starts
    ]
    for package in dict.fromkeys(package for of in versions for package in of):
        rows[printable(str(package))] = [_plain(of.get(package)) for of in versions]
    parts.append(table(["", *heads], rows))
    for run, name in zip(runs, names):
        if run.splits:
            hashes = ", ".join(f"{split} {_plain(of.get('hash'))}" for split, of in run.splits.items())
            tasks = f"Tasks of {name}" if len(runs) > 1 else "Tasks"
            parts.append(tag("p", printable(f"{tasks}, by the hash of each split: {hashes}"), class_="about"))
    return tag("section", *parts)


def _plain(value: Any) -> str:
    """Something from a file that should be a text, a number, or a list of these."""
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return "-" if value is None else printable(str(value))


def _commands(runs: Sequence[Run]) -> Markup | None:
    """What to type next."""
    lines = []
    for run in runs:
        folder = run.folder
        if run.state in ("interrupted", "failed", "killed"):
            lines.append(folder.resume_command)
        if folder.checkpoints.exists():
            lines.append(command_line("agents.evaluate", assignment("run", folder.named), "evaluation.split=test"))
            lines.append(command_line("agents.audit", assignment("run", folder.named)))
        if folder.iterations():
            lines.append(command_line("agents.replay", str(folder.named)))
    if not lines:
        return None
    return tag("section", tag("h2", "What to type next"), tag("pre", printable("\n".join(lines)), class_="command"))
