"""Tokens that continuations of an episode take, against whole episodes.

    python scripts/bench/branching.py [--count K] [--json FILE] [key=value ...]

An episode of the first train task is continued K times from some of its steps, from every step, and from every step without
anything held for those that begin alike. Beside it stand K whole episodes. Tokens are counted, not seconds: computed is what
went through the model, sampled are the tokens of responses. Settings are those of agents.train; the model is not trained, so
that episodes last to their time limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agents.config.loading import load
from agents.rollout.branching import continued
from agents.rollout.build import fresh_policy, make_env, open_sampler
from agents.rollout.planner import branches_at, group_episodes
from agents.rollout.sampler import Sampler
from envs.trajectory import Trajectory

SMALL = ["env=alfworld", "algo=gigpo", "env.max_steps=20", "env.pool.mode=inline", "threads=1"]
COUNTED = ("episodes", "steps", "replayed", "sampled", "prefill", "computed", "reused")


async def branched(sampler: Sampler, parent: Trajectory, steps: list[int], count: int, temperature: float) -> dict[str, int]:
    """What `count` continuations from each of some steps take."""
    await continued(sampler, [one for step in steps for one in branches_at(0, parent, step, count)], temperature)
    return sampler.branched.take()


async def measure(sampler: Sampler, task: str, count: int, temperature: float) -> tuple[int, dict[str, dict[str, int]]]:
    """Steps of the episode, and counts of each row of the table."""
    engine = sampler.player.engine
    played = await sampler.play(group_episodes(0, "train", 1, [task], count, "train"), temperature)
    whole = engine.stats.take() | {"episodes": count, "steps": sum(len(one.steps) for one in played), "replayed": 0}
    parent = max(played, key=lambda one: len(one.steps))
    length = len(parent.steps)
    every = list(range(length))
    rows = {f"{count} whole episodes": whole}
    for step in sorted({0, length // 4, length // 2, 3 * length // 4, length - 1}):
        rows[f"{count} from step {step}"] = await branched(sampler, parent, [step], count, temperature)
    rows[f"{count} from every step"] = await branched(sampler, parent, every, count, temperature)

    async def hold(session: str, ids: Any) -> None:
        pass

    engine.hold = hold  # type: ignore[method-assign]
    rows["the same, nothing held"] = await branched(sampler, parent, every, count, temperature)
    return length, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key=value")
    parser.add_argument("--count", type=int, default=8, help="continuations from a step (default 8)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_intermixed_args()
    config = load([*SMALL, *options.settings])
    with closing(open_sampler(config, fresh_policy(config))) as sampler:
        task = make_env(config).tasks("train")[0]
        length, rows = asyncio.run(measure(sampler, task, options.count, config.engine.temperature))
    table = Table(title=f"env={config.env.name} env.context={config.env.context}: an episode of {length} steps")
    table.add_column("")
    for name in COUNTED:
        table.add_column(name, justify="right")
    for row, counts in rows.items():
        table.add_row(row, *(f"{counts[name]:,}" for name in COUNTED))
    Console(width=None if Console().is_terminal else 140).print(table)
    if options.json:
        options.json.write_text(json.dumps({"settings": [*SMALL, *options.settings], "steps": length, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
