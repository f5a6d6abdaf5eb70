"""How long credit assignment takes: GiGPO's against the same formulas evaluated in plain Python, and every method's.

    python scripts/bench/advantages.py [--json FILE] [--repeats N]

The batch: 16 tasks x 32 episodes x 50 steps = 25,600 steps, with states drawn so that step groups are as uneven as in household
games, and 20 words of text for each state of a task. Two plain versions of Eq. 3 and 5-8 are timed on the same flat data as
lists: `per row` evaluates each equation for each step as it is written (a step's return is its sum, its statistics are those of
its group's members); `one pass` computes every group's statistics once, as careful Python would. All three must agree to 1e-9.
What is timed is advantages per step, from a batch that stands; building the batch from trajectories is timed apart.

The other methods are those that need nothing beyond the episodes. Their seconds are those of the processor, which other work on
the machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from agents.training.columns import columns
from algorithms import base
from algorithms.base import Batch
from algorithms.gigpo import GiGPO
from envs.trajectory import Step, Trajectory

GROUPS, EPISODES, STEPS = 16, 32, 50
WORDS = 200
"""Different words of a task's observations."""
Lists = dict[str, list[int] | list[float]]


def play(seed: int = 0) -> list[Trajectory]:
    """Synthetic episodes: the task's states are visited with Zipf-like frequency, one episode in three succeeds."""
    draw = np.random.default_rng(seed)
    chance = 1.0 / np.arange(1, 401)
    chance /= chance.sum()
    trajectories = []
    for group in range(GROUPS):
        words = draw.integers(0, WORDS, (400, 20)).tolist()
        seen = ["You see " + ", ".join(f"thing{word}" for word in of_state) for of_state in words]
        for _ in range(EPISODES):
            states = [0, *draw.choice(400, STEPS, p=chance).tolist()]
            won = draw.random() < 1 / 3
            steps = [
                Step(
                    seen[state],
                    f"go to {states[t + 1]}",
                    10.0 * (won and t == STEPS - 1),
                    state_key=f"state {state}",
                    response_ids=[1, 2, 3],
                )
                for t, state in enumerate(states[:-1])
            ]
            played = Trajectory("bench", f"task {group}", f"task {group}", 0, "train", steps=steps, success=won)
            played.final_state_key, played.final_observation = f"state {states[-1]}", seen[states[-1]]
            trajectories.append(played)
    return trajectories


def per_row(data: Lists, gamma: float, epsilon: float) -> list[float]:
    """Every equation for every step, as it is written."""
    group, episode, state, reward = (data[name] for name in ("group", "episode", "state", "reward"))
    steps_of: dict[float, list[int]] = defaultdict(list)
    episodes_of: dict[float, dict[float, None]] = defaultdict(dict)
    members_of: dict[float, list[int]] = defaultdict(list)
    for row in range(len(group)):
        steps_of[episode[row]].append(row)
        episodes_of[group[row]][episode[row]] = None
        members_of[state[row]].append(row)
    place = {row: t for rows in steps_of.values() for t, row in enumerate(rows)}

    def step_return(row: int) -> float:  # Eq. 5
        return sum(gamma**k * reward[later] for k, later in enumerate(steps_of[episode[row]][place[row] :]))

    returns = [step_return(row) for row in range(len(group))]
    totals = {name: sum(reward[row] for row in rows) for name, rows in steps_of.items()}
    values = []
    for row in range(len(group)):
        compared = [totals[name] for name in episodes_of[group[row]]]
        own = normal(totals[episode[row]], compared, epsilon)  # Eq. 3
        values.append(own + normal(returns[row], [returns[member] for member in members_of[state[row]]], epsilon))  # Eq. 7, 8
    return values


def normal(value: float, members: list[float], epsilon: float) -> float:
    """(value - mean) / (std + epsilon); 0 where all members are equal."""
    mean = sum(members) / len(members)
    if len(members) == 1 or min(members) == max(members):
        return 0.0
    return (value - mean) / (math.sqrt(sum((one - mean) ** 2 for one in members) / (len(members) - 1)) + epsilon)


def one_pass(data: Lists, gamma: float, epsilon: float) -> list[float]:
    """Careful Python: returns backwards, every group's statistics once."""
    group, episode, state, reward = (data[name] for name in ("group", "episode", "state", "reward"))
    rows = len(group)
    returns = [0.0] * rows
    totals: dict[float, float] = defaultdict(float)
    for row in range(rows - 1, -1, -1):
        follows = row + 1 < rows and episode[row + 1] == episode[row]
        returns[row] = reward[row] + (gamma * returns[row + 1] if follows else 0.0)
        totals[episode[row]] += reward[row]
    tasks: dict[float, dict[float, float]] = defaultdict(dict)
    members: dict[float, list[float]] = defaultdict(list)
    for row in range(rows):
        tasks[group[row]][episode[row]] = totals[episode[row]]
        members[state[row]].append(returns[row])
    episode_stats = {name: mean_and_scale(list(scores.values()), epsilon) for name, scores in tasks.items()}
    step_stats = {name: mean_and_scale(values, epsilon) for name, values in members.items()}
    values = []
    for row in range(rows):
        mean, scale = episode_stats[group[row]]
        step_mean, step_scale = step_stats[state[row]]
        values.append((totals[episode[row]] - mean) * scale + (returns[row] - step_mean) * step_scale)
    return values


def mean_and_scale(members: list[float], epsilon: float) -> tuple[float, float]:
    """Mean and 1 / (std + epsilon), or a scale of 0 where all members are equal."""
    mean = sum(members) / len(members)
    if len(members) == 1 or min(members) == max(members):
        return mean, 0.0
    return mean, 1 / (math.sqrt(sum((one - mean) ** 2 for one in members) / (len(members) - 1)) + epsilon)


def median_seconds(work: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median time of some calls, after one that is not counted; `clock`: wall time, or another."""
    work()
    spent = []
    for _ in range(repeats):
        began = clock()
        work()
        spent.append(clock() - began)
    return statistics.median(spent)


def of_methods(repeats: int) -> dict[str, float]:
    """Median CPU seconds of each method with its own settings, by name."""
    batch = Batch(**columns(play()))
    batch.logprobs = np.full(int(batch.tokens.sum()), -1.0)
    methods = {name: base.get(name)() for name in base.names()}
    plain = {name: method for name, method in methods.items() if not method.needs and not method.reads_shaping}
    return {
        name: median_seconds(lambda method=method: method.advantages(batch), repeats, time.process_time)  # type: ignore[misc]
        for name, method in plain.items()
    }


def measure(repeats: int) -> dict[str, float]:
    """Median seconds of each version. Raises AssertionError if their results differ."""
    trajectories, method = play(), GiGPO()
    batch = Batch(**columns(trajectories))
    data: Lists = {name: getattr(batch, name).tolist() for name in ("group", "episode", "state", "reward")}
    found = method.advantages(batch).values
    for plain in (per_row, one_pass):
        np.testing.assert_allclose(plain(data, method.gamma, method.epsilon), found, rtol=0, atol=1e-9)
    few = max(3, repeats // 10)
    return {
        "steps": len(found),
        "vectorized_s": median_seconds(lambda: method.advantages(batch), repeats),
        "per_token_s": median_seconds(lambda: method.advantages(batch).per_token(batch), repeats),
        "batch_s": median_seconds(lambda: Batch(**columns(trajectories)), few),
        "one_pass_s": median_seconds(lambda: one_pass(data, method.gamma, method.epsilon), few),
        "per_row_s": median_seconds(lambda: per_row(data, method.gamma, method.epsilon), 3),
    }


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(
        description="Time advantages at 25,600 steps: GiGPO's against plain Python, and every method's."
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--repeats", type=int, default=50, metavar="N", help="timed calls of the vectorized version (default 50)"
    )
    arguments = parser.parse_args()
    figures = measure(arguments.repeats)
    fast = figures["vectorized_s"]
    figures["ratio_per_row"], figures["ratio_one_pass"] = figures["per_row_s"] / fast, figures["one_pass_s"] / fast
    table = Table(title=f"GiGPO advantages of {figures['steps']:,.0f} steps (median wall time)")
    for heading in ("version", "ms", "times vectorized"):
        table.add_column(heading, justify="left" if heading == "version" else "right")
    names = {
        "vectorized_s": "vectorized (algorithms/gigpo.py)",
        "one_pass_s": "plain Python, one pass",
        "per_row_s": "plain Python, per row",
        "per_token_s": "vectorized, one value a token as tensors",
        "batch_s": "building the batch from trajectories",
    }
    for key, name in names.items():
        table.add_row(name, f"{figures[key] * 1e3:,.2f}", f"{figures[key] / fast:,.0f}")
    Console().print(table)
    apart = Table(title="all methods that need nothing beyond the episodes (median CPU time)")
    apart.add_column("method")
    apart.add_column("ms", justify="right")
    methods = of_methods(max(3, arguments.repeats // 5))
    for key, seconds in methods.items():
        apart.add_row(key, f"{seconds * 1e3:,.2f}")
    Console().print(apart)
    if arguments.json:
        arguments.json.write_text(json.dumps({**figures, "methods_cpu_s": methods}, indent=1) + "\n")


if __name__ == "__main__":
    main()
