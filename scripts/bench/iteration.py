"""Where an iteration's time goes, and how many tokens are computed against a layout that rebuilds the prompt at every step.

    python scripts/bench/iteration.py [runs/demo] [--json FILE]

Reads a run's metrics.jsonl; medians over its iterations. "rebuild" computes, at every step of an episode, the whole
conversation so far, as trainers do that turn each step into a row of its own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from agents.tracking import read_metrics


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="default: the newest one in runs/")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
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
