"""Rollouts that overlap updates against rollouts and updates that take turns: throughput, waiting, staleness, success.

    python scripts/bench/overlap.py [--seeds N] [--arms 0,1,2:between:drop] [--out FOLDER] [--json FILE] [key=value ...]

An arm is rollout.overlap, then rollout.weights and rollout.late where they are not the defaults. Every arm is trained with the
seeds 0 to N - 1 in the shape of the demo, unless told otherwise small enough for some minutes. Further settings are those of
agents.train, for example those of the whole demo: iterations=50 rollout.groups=32 warmstart.steps=3300
warmstart.demonstrations=8000 evaluation.every=5. Beside each mean stand the lowest and the highest seed.

Seconds are wall-clock from the first rollout to the last update, evaluations in between included, so nothing else should run
beside it; CPU seconds are those of the whole training. The learner waits while it has not enough groups, the sampler while no
episode is played because its samples would be too old. An engine in this process shares the processor with the update: overlap
can then only fill what one of them leaves idle (give it two cores: threads=1).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from agents.config.loading import load
from agents.runs.metrics import read_metrics
from agents.train import train

ARMS = ["0", "1", "1:between", "2", "2:between"]
SMALL = [
    *("env=alfworld", "algo=gigpo", "iterations=8", "rollout.groups=8", "optim.warmup=2", "warmstart.steps=800"),
    *(
        "warmstart.demonstrations=1600",
        "evaluation.every=4",
        "evaluation.episodes=60",
        "evaluation.temperature=[1]",
        "threads=1",
    ),
]
MEASURES = {
    "episodes_per_hour": "episodes/h",
    "learner_waits": "learner waits",
    "sampler_waits": "sampler waits",
    "cpu_s": "CPU s",
    "stale_mean": "age, mean",
    "stale_max": "age, most",
    "too_old": "groups too old",
    "env_steps": "env steps",
    "train_success": "success, training",
    "success": "success, held out",
}


def settings(arm: str) -> list[str]:
    """The settings of an arm by its name."""
    overlap, *others = arm.split(":")
    keys = {"in_flight": "weights", "between": "weights", "wait": "late", "drop": "late"}
    if unknown := [one for one in others if one not in keys]:
        raise SystemExit(f"arm {arm}: '{unknown[0]}' is none of {', '.join(keys)}")
    return [f"rollout.overlap={overlap}", *(f"rollout.{keys[one]}={one}" for one in others)]


def measure(rows: list[dict[str, Any]], episodes: int) -> dict[str, Any]:
    """Of a finished run's metrics; `episodes` an iteration."""
    start, done = rows[0], rows[1:]
    seconds = done[-1]["time/wall"] - start["time/wall"] - done[-1].get("time/evaluation", 0.0)

    def total(key: str) -> float:
        return sum(row[key] for row in done if row.get(key) is not None)

    overlaps = "time/sampler_idle" in done[0]
    return {
        "seconds": seconds,
        "episodes_per_hour": 3600 * episodes * len(done) / seconds,
        "learner_waits": total("time/rollout") / seconds,
        "sampler_waits": total("time/sampler_idle" if overlaps else "time/update") / seconds,
        "cpu_s": done[-1]["time/cpu"] - start["time/cpu"],
        "stale_mean": total("update/stale_mean") / len(done),
        "stale_max": max(row["update/stale_max"] for row in done),
        "too_old": total("train/too_old"),
        "env_steps": done[-1]["env/steps"],
        "train_success": mean(row["train/success"] for row in done[-3:]),
        "success": done[-1]["eval/success@1"],
        "curve": [(row["env/steps"], row["eval/success@1"]) for row in rows if row.get("eval/success@1") is not None],
    }


def spread(values: list[float]) -> str:
    """Mean, and lowest and highest where there are several."""
    form = ",.0f" if max(map(abs, values)) >= 10 else ".2f"
    return f"{mean(values):{form}}" + (f" ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key=value")
    parser.add_argument("--arms", type=lambda text: text.split(","), default=ARMS, help=f"default: {','.join(ARMS)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep the runs here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_intermixed_args()
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in options.arms}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(options.seeds):
            for arm in options.arms:  # side by side in time, so that what else the machine does meets all of them
                name = f"{arm.replace(':', '-')}_seed-{seed}"
                config = load(
                    [
                        *SMALL,
                        *options.settings,
                        *settings(arm),
                        f"seed={seed}",
                        f"out={options.out or temporary}",
                        f"run={name}",
                    ]
                )
                folder = train(config)
                episodes = config.rollout.groups * config.rollout.group_size
                found[arm].append({"seed": seed, **measure(read_metrics(folder.metrics), episodes)})
    table = Table(title=f"{options.seeds} seeds of each" if options.seeds > 1 else "one seed")
    table.add_column("overlap")
    for arm in found:
        table.add_column(arm, justify="right")
    for key, title in MEASURES.items():
        table.add_row(title, *(spread([run[key] for run in runs]) for runs in found.values()))
    Console(width=None if Console().is_terminal else 200).print(table)
    if options.json:
        options.json.write_text(json.dumps({"settings": [*SMALL, *options.settings], "arms": found}, indent=1))


if __name__ == "__main__":
    main()
