"""How many different starts the tasks of a MiniHack level have, and how many of those held out look like one of training.

    python scripts/minihack_starts.py [KeyRoom-S5 KeyRoom-S15 ...] [--held-out]

--held-out   with env.held_out_starts=true

A start is the map as it is first seen, and the agent's place. A task of which training has seen the start is no test of
generalization. Exit codes: 0, or 2 if there is no such level.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import track
from rich.table import Table

from envs.base import Split, TaskError
from envs.minihack.config import MiniHackConfig
from envs.minihack.env import MiniHackEnv
from envs.minihack.game import Game
from envs.minihack.looks import Place
from envs.minihack.starts import start


def main(argv: Sequence[str] | None = None) -> int:
    """Begin every task of the train and eval splits and print the counts; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("levels", nargs="*", default=["KeyRoom-S5", "KeyRoom-S15"], help="default: KeyRoom-S5 KeyRoom-S15")
    parser.add_argument("--tasks", type=int, default=10_000, help="training tasks (default 10000)")
    parser.add_argument("--held-out", action="store_true", help="with env.held_out_starts=true")
    arguments = parser.parse_args(argv)
    console = Console()
    table = Table("level", "training tasks", "different starts", "eval tasks", "of these seen in training")
    for level in arguments.levels:
        try:
            config = MiniHackConfig([level], train_tasks=arguments.tasks, held_out_starts=arguments.held_out)
            env, game = MiniHackEnv(config), Game(level)
        except TaskError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        seen, held_out = set(starts(env, game, "train", console)), starts(env, game, "eval", console)
        counts = (arguments.tasks, len(seen), len(held_out), sum(start in seen for start in held_out))
        table.add_row(level, *(f"{count:,}" for count in counts))
        game.close()
    console.print(table)
    return 0


def starts(env: MiniHackEnv, game: Game, split: Split, console: Console) -> list[tuple[bytes, Place]]:
    """What is first seen of each task of a split."""
    tasks = track(env.tasks(split), f"{game.level}, {split}", console=console, transient=True)
    return [start(game.reset(env.seeds(game, task))) for task in tasks]


if __name__ == "__main__":
    sys.exit(main())
