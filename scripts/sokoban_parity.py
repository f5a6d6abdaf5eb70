"""Compares the rules of Sokoban here with those of gym-sokoban, over random play on levels of both generators.

    python scripts/sokoban_parity.py [--episodes 40] [--steps 40]

Needs the packages `gym-sokoban`, `imageio` and `requests`, best in an environment of their own, since gym-sokoban needs the old
`gym`. After every move the whole board, the reward and whether the level is solved must be equal. Prints how many moves, pushes
and rewards of each kind were compared; the exit code is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from envs.sokoban import board
from envs.sokoban.board import ACTIONS, Level
from envs.sokoban.config import SokobanConfig
from envs.sokoban.env import SokobanEnv
from envs.sokoban.search import pushed_from

SIZES = ((6, 6, 1), (7, 7, 2), (8, 6, 2), (8, 8, 3))
"""Rows, columns, boxes."""
CODES = "".join((board.WALL, board.FLOOR, board.TARGET, board.PLACED, board.BOX, board.PLAYER))
"""Symbols by gym-sokoban's numbers. It has none of its own for a player on a target."""


def main(arguments: Sequence[str]) -> int:
    """Play, compare and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=40, help="of each size, half of them on levels made by gym-sokoban")
    parser.add_argument("--steps", type=int, default=40, help="moves of an episode at most")
    options = parser.parse_args(arguments)
    try:
        from gym_sokoban.envs.sokoban_env import SokobanEnv as Theirs
    except ImportError as error:
        print(f"gym-sokoban is not installed: pip install gym-sokoban imageio requests ({error})")
        return 2
    seen: Counter[str] = Counter()
    for height, width, boxes in SIZES:
        for number in range(options.episodes):
            random.seed(f"{height} {width} {number}")  # gym-sokoban draws from both
            np.random.seed(number)
            theirs = Theirs(dim_room=(height, width), max_steps=options.steps + 1, num_boxes=boxes, reset=number % 2 == 1)
            config = SokobanConfig(
                height=height, width=width, boxes=boxes, longest=30, max_steps=options.steps + 1, all_actions=True
            )
            differs = _compared(theirs, SokobanEnv(config), number, options.steps, seen)
            if differs:
                print(f"{height}x{width}, {boxes} boxes, episode {number}: {differs}")
                return 1
    print(", ".join(f"{count:,} {what}" for what, count in sorted(seen.items())))
    return 0


def _compared(theirs: Any, ours: SokobanEnv, number: int, steps: int, seen: Counter[str]) -> str | None:
    """What differs in one episode, if anything does."""
    ours.reset(options={"task": ours.tasks("train")[number]})
    assert ours._task is not None
    if number % 2:  # a level of theirs is put into ours
        level = Level.read(_drawn(theirs))
        ours._task, ours._position = replace(ours._task, level=level, known=None, dead=0), level.start
    else:
        _put(theirs, ours._task.level)
    for step in range(steps):
        room, position = ours._task.level.room, ours._position
        pushes = [action for action, _ in pushed_from(room, *position)]
        action = random.choice(pushes if pushes and random.random() < 0.5 else ACTIONS)  # else it would hardly ever push
        _, reward, done, info = theirs.step(1 + ACTIONS.index(action), observation_mode="tiny_rgb_array")
        _, own, terminated, _, _ = ours.step(action)
        mine = room.drawn(ours._position)
        seen["moves"] += 1
        seen["pushes"] += bool(info["action.moved_box"])
        seen[f"rewards of {reward:+.1f}"] += 1
        if mine != _drawn(theirs) or abs(own - reward) > 1e-9 or terminated != done:
            return f"step {step + 1}, {action}: {mine!r} {own} {terminated} here, {_drawn(theirs)!r} {reward} {done} there"
        if done:
            break
    return None


def _drawn(theirs: Any) -> str:
    """Their board with our symbols."""
    rows = []
    for state, fixed in zip(theirs.room_state.tolist(), theirs.room_fixed.tolist()):
        symbols = [CODES[int(code)] for code in state]
        rows.append("".join(board.PLAYER_ON_TARGET if s == board.PLAYER and f == 2 else s for s, f in zip(symbols, fixed)))
    return "\n".join(rows)


def _put(theirs: Any, level: Level) -> None:
    """Let them begin with a level of ours."""
    drawing = level.room.drawn(level.start)
    player = board.PLAYER_ON_TARGET
    state = [[CODES.index(board.PLAYER if symbol == player else symbol) for symbol in line] for line in drawing.split("\n")]
    theirs.room_state = np.array(state)
    fixed = level.room.drawn((0, 0)).replace("@", "#")
    theirs.room_fixed = np.array([[CODES.index(symbol) for symbol in line] for line in fixed.split("\n")])
    theirs.player_position = np.argwhere(theirs.room_state == 5)[0]
    theirs.num_env_steps = theirs.reward_last = theirs.boxes_on_target = 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
