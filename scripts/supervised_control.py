"""The control of a run: the same CPU seconds spent on more supervised training instead of reinforcement learning.

    python scripts/supervised_control.py runs/demo

Goes on from the run's own warm start, cloning fresh demonstrations until the CPU time of the run's iterations is used up: once
with the run's share of suboptimal demonstrations, once without any, which are better demonstrations than the run had.
Evaluates on the run's own split and temperatures.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from agents.config.commands import TrainConfig
from agents.config.loading import load
from agents.config.overrides import assignment, command_line
from agents.rollout.build import fresh_policy, make_env, open_sampler
from agents.rollout.planner import evaluation_episodes
from agents.runs.evaluation import Rate, rate
from agents.runs.metrics import read_metrics
from agents.training.packing import laid_out
from agents.training.warmstart import clone, demonstrations, warm_start
from agents.training.weights import WeightStore
from envs.trajectory import Trajectory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    config = load([assignment("resume", options.run)])
    metrics = read_metrics(options.run / "metrics.jsonl")
    keys = {f"eval/success@{t:g}": t for t in config.evaluation.temperature}
    if not metrics or any(key not in metrics[-1] for key in keys):
        finish = command_line("agents.train", assignment("resume", options.run))
        raise SystemExit(f"{options.run} has not been evaluated after its last iteration; finish it: {finish}")
    budget = metrics[-1]["time/cpu"] - metrics[0]["time/cpu"]
    policy, env = fresh_policy(config), make_env(config)
    sampler, held_out = open_sampler(config, policy), evaluation_episodes(config.evaluation, env, config.seed)
    store = WeightStore(policy, [sampler.player.engine])

    def shown(settings: TrainConfig, count: int, seed: int) -> list[Trajectory]:
        settings = replace(settings, seed=seed)
        return demonstrations(env, sampler.player.dialogue, sampler.player.prompt, settings, env.tasks("train"), count)

    warm_start(policy, shown(config, config.warmstart.demonstrations, config.seed), config.warmstart, config.seed)
    warm = copy.deepcopy(policy.model.state_dict())

    async def played() -> dict[float, Rate]:
        await store.publish(0)
        return {t: rate(await sampler.play(held_out, t)) for t in config.evaluation.temperature}

    def evaluate() -> dict[float, float]:
        found = asyncio.run(played())
        for t, one in found.items():
            if one.faults or one.out_of_context:
                print(
                    f"temperature {t:g}: {one.out_of_context} of {one.episodes} episodes outgrew the context and are lost; "
                    f"{one.faults} more were cut off by a fault and are in no rate"
                )
        return {t: one.success for t, one in found.items()}

    def supervise(suboptimal: float) -> tuple[dict[float, float], int, float]:
        """Success, steps and CPU seconds after spending the budget on demonstrations with this share of suboptimal ones."""
        settings = replace(config, warmstart=replace(config.warmstart, suboptimal_share=suboptimal))
        # A short run tells how many steps the budget pays for, fresh demonstrations included: the schedule needs their number.
        began = time.process_time()
        trial = [row for one in shown(settings, 200, config.seed + 1) for row in laid_out(one)]
        per_demonstration = (time.process_time() - began) / 200
        began = time.process_time()
        clone(policy, trial, replace(settings.warmstart, steps=50), config.seed + 1)
        per_step = (time.process_time() - began) / 50
        policy.model.load_state_dict(warm)
        began = time.process_time()
        wanted = max(config.warmstart.batch, min(config.warmstart.demonstrations, int(0.2 * budget / per_demonstration)))
        fresh = [row for one in shown(settings, wanted, config.seed + 2) for row in laid_out(one)]
        steps = max(1, int((budget - (time.process_time() - began)) / per_step))
        clone(policy, fresh, replace(settings.warmstart, steps=steps), config.seed + 2)
        spent = time.process_time() - began
        return evaluate(), steps, spent

    start = evaluate()
    controls = {f"suboptimal {share:g}": supervise(share) for share in dict.fromkeys((config.warmstart.suboptimal_share, 0.0))}
    sampler.close()

    table = Table(title=f"{options.run.name}: {budget:.0f} CPU s after the warm start, {config.evaluation.split} split")
    for column in ("temperature", "warm start", "reinforcement learning"):
        table.add_column(column, justify="right")
    for name, (_, steps, spent) in controls.items():
        table.add_column(f"supervised, {name}: {steps} steps, {spent:.0f} CPU s", justify="right")
    for key, t in keys.items():
        ends = [f"{success[t]:.3f}" for success, _, _ in controls.values()]
        table.add_row(f"{t:g}", f"{start[t]:.3f}", f"{metrics[-1][key]:.3f}", *ends)
    Console().print(table)
    found = {
        "budget_cpu_s": budget,
        "warm_start": start,
        "reinforcement_learning": {t: metrics[-1][key] for key, t in keys.items()},
        "supervised": {
            name: {"success": success, "steps": steps, "cpu_s": spent} for name, (success, steps, spent) in controls.items()
        },
    }
    (options.run / "supervised_control.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
