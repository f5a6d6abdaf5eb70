"""What can be scored in a shop at all: by the oracle, and by a customer who takes the first result.

    python scripts/webshop_bounds.py [--data DIR] [--human] [--fixed] [--split train] [--goals N]

The simple customer searches for the whole instruction, opens the first article, chooses the options that its page offers and
buys. Whoever learns has to come between the two.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from envs.base import SPLITS, TaskError, Unsolvable
from envs.webshop.config import WebShopConfig
from envs.webshop.env import WebShopEnv
from envs.webshop.oracle import wanted_options
from envs.webshop.queries import suggestions


def main(argv: list[str] | None = None) -> int:
    """Play the goals and print the shares; returns the exit code: 0, or 2 if the shop cannot be opened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of official files, or a store; default: the generated shop")
    parser.add_argument("--human", action="store_true", help="instructions in people's words")
    parser.add_argument("--fixed", action="store_true", help="reward=fixed")
    parser.add_argument("--split", choices=SPLITS, nargs="+", default=["train"], help="default: train")
    parser.add_argument("--goals", type=int, help="the first ones of each split; default: all")
    arguments = parser.parse_args(argv)
    env = WebShopEnv(
        WebShopConfig(
            source="official" if arguments.data else "generated",
            data=str(arguments.data) if arguments.data else None,
            goals="human" if arguments.human else "synthetic",
            reward="fixed" if arguments.fixed else "official",
        )
    )
    try:
        splits = {split: env.tasks(split)[: arguments.goals] for split in arguments.split}
    except TaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = Table("split", "goals", "oracle", "its steps", "first result")
    for column in table.columns[1:]:
        column.justify = "right"
    for split, tasks in splits.items():
        lengths = [length for task in tasks if (length := oracle_steps(env, task))]
        simple = sum(first_result_scores(env, task) for task in tasks)
        steps = f"{np.mean(lengths):.1f}" if lengths else "-"
        shares = (f"{count:,} ({count / max(1, len(tasks)):.3f})" for count in (len(lengths), simple))
        table.add_row(split, f"{len(tasks):,}", next(shares), steps, next(shares))
    Console().print(table)
    return 0


def oracle_steps(env: WebShopEnv, task: str) -> int | None:
    """Steps in which the oracle scores 1.0 in the environment, or None if it cannot within the time limit."""
    try:
        actions = env.demonstration(task, np.random.default_rng(0))
    except Unsolvable:
        return None
    env.reset(seed=0, options={"task": task})
    for step, action in enumerate(actions, start=1):
        _, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return step if info["success"] else None
    return None


def first_result_scores(env: WebShopEnv, task: str) -> bool:
    """Whether buying the first result for the whole instruction scores 1.0."""
    env.reset(seed=0, options={"task": task})
    env.step(f"search[{suggestions(env.session.goal.instruction)[0]}]")
    if not env.session.shown:
        return False
    article = env.session.shown[0]
    env.step(f"click[{article.asin.lower()}]")
    for value in wanted_options(env.session, article).values():
        env.step(f"click[{value}]")
    return bool(env.step("click[buy now]")[4]["success"])


if __name__ == "__main__":
    sys.exit(main())
