"""The control of a run: the same CPU seconds spent on more supervised training instead of reinforcement learning.

    python scripts/supervised_control.py runs/demo

Takes the run's own warm start (same data, same seed), goes on cloning fresh demonstrations at a constant tenth-to-full rate
until the CPU time of the run's iterations is used up, and evaluates on the run's own panel and temperatures.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from agents.assembly import assemble
from agents.config import load
from agents.evaluation import rate
from agents.packing import rows
from agents.rollout import panel_episodes
from agents.tracking import read_metrics
from agents.warmstart import clone, demonstrations, warm_start
from envs.seeding import derive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    config = load([f"resume={options.run}"])
    metrics = read_metrics(options.run / "metrics.jsonl")
    budget = metrics[-1]["time/cpu"] - metrics[0]["time/cpu"]
    parts = assemble(config)
    panel = list(parts.env.tasks("train"))
    first = demonstrations(parts, config, panel, config.warmstart.demonstrations)
    warm_start(parts.policy, first, config.warmstart, config.seed)

    def success(temperature: float) -> float:
        seed = derive(config.seed, "evaluation", config.evaluation.panel)
        tasks = list(parts.env.tasks(config.evaluation.panel))[: config.evaluation.episodes]
        episodes = panel_episodes(seed, tasks, config.evaluation.repeats, config.evaluation.panel)
        parts.engine.update_weights(parts.policy, 0)
        return rate(parts.play(parts.rollout(temperature), episodes)).success

    start = {t: success(t) for t in config.evaluation.temperature}
    # A short run tells how many steps the budget pays for, fresh demonstrations included: the schedule needs their number.
    began = time.process_time()
    trial = demonstrations(parts, config, panel, 200, seed=config.seed + 1)
    per_demonstration = (time.process_time() - began) / 200
    began = time.process_time()
    probe = replace(config.warmstart, steps=50)
    clone(parts.policy, rows(trial, [0] * len(trial), 0), probe, config.seed + 1)
    per_step = (time.process_time() - began) / 50
    wanted = min(8 * config.warmstart.demonstrations, 20_000)
    steps = int((budget - wanted * per_demonstration) / per_step)
    began = time.process_time()
    fresh = demonstrations(parts, config, panel, wanted, seed=config.seed + 2)
    warm_start(parts.policy, first, config.warmstart, config.seed)
    clone(parts.policy, rows(fresh, [0] * len(fresh), 0), replace(config.warmstart, steps=max(1, steps)), config.seed + 2)
    spent = time.process_time() - began
    end = {t: success(t) for t in config.evaluation.temperature}
    parts.close()

    table = Table(title=f"{options.run.name}: {budget:.0f} CPU s after the warm start")
    supervised = f"{steps} more supervised steps ({spent:.0f} CPU s)"
    for column in ("temperature", "warm start", "reinforcement learning", supervised):
        table.add_column(column, justify="right")
    results = {}
    for t in config.evaluation.temperature:
        learned = metrics[-1][f"eval/success@{t:g}"]
        table.add_row(f"{t:g}", f"{start[t]:.3f}", f"{learned:.3f}", f"{end[t]:.3f}")
        results[f"{t:g}"] = {"warm_start": start[t], "reinforcement_learning": learned, "supervised": end[t]}
    Console().print(table)
    found = {"budget_cpu_s": budget, "spent_cpu_s": spent, "steps": steps, "success": results}
    (options.run / "supervised_control.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
