"""Where an iteration's time goes, and how many tokens are computed against a layout that rebuilds the prompt at every step.

    python scripts/bench/iteration.py [runs/demo] [--json FILE]
    python scripts/bench/iteration.py --formats [key=value ...]

Reads a run's metrics.jsonl; medians over its iterations. "rebuild" computes, at every step of an episode, the whole
conversation so far, as trainers do that turn each step into a row of its own.

--formats trains SmolLM2 for one small iteration in float32 and in bfloat16 on this processor, with the same seed, and shows
both beside each other; other settings as for agents.train. CPU seconds tell most where other work runs beside it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from agents.runs.metrics import read_metrics

FORMATS = ("float32", "bfloat16")
SMALL = [
    *("env=alfworld", "algo=gigpo", "model=smollm2", "engine.constrained=admissible", "env.max_steps=3", "threads=1"),
    *("rollout.groups=1", "rollout.group_size=2", "loss.skip_zero=false", "iterations=1", "tracker=console"),
    *("evaluation.before=false", "evaluation.after=false", "evaluation.every=0"),
]
"""One iteration of two episodes of three steps."""


def measure(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over iterations: seconds by part, tokens computed and what a rebuilding layout would compute."""
    trained = [row for row in rows if row["iteration"] > 0 and "time/update" in row]
    if not trained:
        raise SystemExit("this run has no finished iteration yet")

    def middle(key: str) -> float:
        return median(row[key] for row in trained)

    return {
        "iterations": len(trained),
        "rollout_s": middle("time/rollout"),
        "update_s": middle("time/update"),
        "credit_s": middle("time/credit"),
        "evaluation_s": median([row["time/evaluation"] for row in trained if "time/evaluation" in row] or [0.0]),
        "rollout_tokens": middle("tokens/rollout"),
        "rollout_tokens_rebuilt": middle("tokens/rebuild_rollout"),
        "update_tokens": middle("tokens/update"),
        "update_tokens_rebuilt": middle("tokens/rebuild_update"),
        "skipped_rows_share": median(
            row["update/skipped_rows"] / max(1, row["update/rows"] + row["update/skipped_rows"]) for row in trained
        ),
        "padding_share": median(1 - row["update/computed_tokens"] / max(1, row["update/padded_tokens"]) for row in trained),
    }


def formats(overrides: list[str]) -> dict[str, dict[str, float]]:
    """The same iteration in each number format: seconds, CPU seconds and tokens."""
    from agents.config.loading import load
    from agents.train import train

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            train(load([*SMALL, *overrides, f"model.dtype={name}", f"out={folder}", f"run={name}"]))
            rows = read_metrics(Path(folder, name, "metrics.jsonl"))
            found[name] = measure(rows) | {"cpu_s": rows[1]["time/cpu"] - rows[0]["time/cpu"]}
    return found


def show_formats(found: dict[str, dict[str, float]]) -> None:
    """Both formats beside each other, and how many times as long the second takes for a token."""
    table = Table(title="one iteration of SmolLM2")
    for column in ("", *FORMATS, "bfloat16 takes"):
        table.add_column(column, justify="left" if not column else "right")
    tokens = {name: {part: found[name][f"{part}_tokens"] for part in ("rollout", "update")} for name in FORMATS}
    for part in ("rollout", "update"):
        table.add_row(f"{part}, tokens", *(f"{tokens[name][part]:,.0f}" for name in FORMATS), "")
        seconds = [found[name][f"{part}_s"] for name in FORMATS]
        each = [found[name][f"{part}_s"] / tokens[name][part] for name in FORMATS]
        table.add_row(f"{part}, seconds", *(f"{one:.2f}" for one in seconds), f"{each[1] / each[0]:.1f}x a token")
    each = [found[name]["cpu_s"] / sum(tokens[name].values()) for name in FORMATS]
    table.add_row(
        "both, CPU seconds", *(f"{found[name]['cpu_s']:.2f}" for name in FORMATS), f"{each[1] / each[0]:.1f}x a token"
    )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="default: the newest one in runs/")
    parser.add_argument("--formats", nargs="*", metavar="key=value", help="train in float32 and in bfloat16 instead")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.formats is not None:
        found_formats = formats(options.formats)
        show_formats(found_formats)
        if options.json:
            options.json.write_text(json.dumps(found_formats, indent=1))
        return
    if options.run is None:
        newest = max(Path("runs").glob("*/metrics.jsonl"), key=lambda file: file.stat().st_mtime, default=None)
        if newest is None:
            print("no run in runs/ to measure: train one first, for example by make demo")
            return
        options.run = newest.parent
    found = measure(read_metrics(options.run / "metrics.jsonl"))
    whole = found["rollout_s"] + found["update_s"]
    table = Table(title=f"{options.run.name}: medians of {found['iterations']:.0f} iterations")
    for column in ("part", "seconds", "share", "tokens computed", "tokens if rebuilt", "ratio"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for part in ("rollout", "update"):
        seconds, tokens, rebuilt = (found[f"{part}_{what}"] for what in ("s", "tokens", "tokens_rebuilt"))
        table.add_row(
            part, f"{seconds:.2f}", f"{seconds / whole:.0%}", f"{tokens:,.0f}", f"{rebuilt:,.0f}", f"{rebuilt / tokens:.1f}x"
        )
    table.add_row("of it: credit", f"{found['credit_s']:.4f}", f"{found['credit_s'] / whole:.2%}", "", "", "")
    table.add_row("evaluation", f"{found['evaluation_s']:.2f}", "when due", "", "", "")
    Console().print(table)
    Console().print(f"episodes skipped in the update: {found['skipped_rows_share']:.0%}; padding: {found['padding_share']:.1%}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
