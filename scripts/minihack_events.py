"""The rule judge and its change filter against an independent replay of random episodes.

    python scripts/minihack_events.py [KeyRoom-S5 LockedDoor River ...] [--episodes 400]

Plays random episodes of each level, lets judge=rules judge them, and plays the same actions again in MiniHack itself, where
events are told by other evidence than the rules use: keys by the object number in the inventory's glyphs, doors and stairs by
their symbol numbers on the map, boulders in the water by the message, the win by NLE's end status. Prints events and what
differs, and the share of the steps that the filter leaves for a judge. Exit codes: 0 all equal, 1 a difference or a lost event,
2 no such level.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from agents.judges.measuring.measure import filtered
from agents.judges.measuring.playing import at_random
from agents.judges.rules import Rules
from envs.minihack.config import MiniHackConfig
from envs.minihack.env import MiniHackEnv
from envs.minihack.game import Seeds, load
from envs.minihack.subgoals import names
from envs.trajectory import Trajectory

COMPASS = ["north", "east", "south", "west"]
DIAGONALS = ["northeast", "southeast", "southwest", "northwest"]
LEVELS = {
    "KeyRoom-S5": [*COMPASS, "pickup", "apply"],
    "LockedDoor": [*COMPASS, "kick"],
    "River": [*COMPASS, *DIAGONALS],
    "Room-Dark-15x15": [*COMPASS, *DIAGONALS],
}
"""Levels and the actions drawn in them."""
KEYS = {
    **dict(zip([*COMPASS, *DIAGONALS], b"kljhunby")),
    **dict(zip(["pickup", "apply", "kick"], b",a\x04")),
    **dict(zip(["wait", "down", "esc"], b".>\x1b")),  # further answers to the direction of a kick
}
"""NetHack's own keys for the actions."""
CLOSED, OPENED, STAIRS = {15, 16}, {12, 13, 14}, {24}
"""NetHack's numbers (defsym.h) of the symbols of a closed door, of a broken or open one, and of stairs down."""
SKELETON_KEY = 196
"""NetHack's number of the object."""
WIN = "reach the stairs"

Shown = dict[str, Any]
Event = tuple[int, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Play, judge, replay, compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("levels", nargs="*", default=["KeyRoom-S5"], help=f"default: KeyRoom-S5; known: {', '.join(LEVELS)}")
    parser.add_argument("--episodes", type=int, default=400, help="of each level (default 400)")
    arguments = parser.parse_args(argv)
    for level in arguments.levels:
        if level not in LEVELS:
            print(f"error: nothing else tells the events of level '{level}'; known: {', '.join(LEVELS)}", file=sys.stderr)
            return 2
    return max(compare(level, arguments.episodes, Console(highlight=False)) for level in arguments.levels)


def compare(level: str, number: int, console: Console) -> int:
    """Play, judge and replay episodes of a level, and print what came of it; returns the exit code."""
    env = MiniHackEnv(MiniHackConfig([level], actions=LEVELS[level], max_steps=100, train_tasks=number))
    tasks = track(env.tasks("train"), f"{level}, random episodes", console=console, transient=True)
    episodes = [at_random(env, "stepcredit/MiniHack-v0", task, n, "train", n) for n, task in enumerate(tasks)]
    judged = asyncio.run(Rules(env.subgoals).judge(episodes))
    replay = Replay(level)
    found, expected, unequal = Counter[str](), Counter[str](), 0
    for episode, verdicts in zip(track(episodes, f"{level}, replayed", console=console, transient=True), judged):
        told = [(step, name) for step, names in enumerate(verdicts) for name in names]
        seen = replay.events(episode)
        found.update(name for _, name in told)
        expected.update(name for _, name in seen)
        if sorted(told) != sorted(seen):
            unequal += 1
            console.print(f"{episode.task_id}: the judge says {told}, the replay {seen}", markup=False)
    table = Table("level", "event", "replay", "judge")
    for name in names(level):
        table.add_row(level, name, str(expected[name]), str(found[name]))
    console.print(table)
    counts = filtered(episodes, [env.subgoals(episode.task_id) for episode in episodes])
    console.print(
        f"{len(episodes)} episodes, {unequal} with a difference. Filter: {counts['kept']:,} of {counts['transitions']:,} steps "
        f"kept ({counts['kept'] / counts['transitions']:.1%}), {counts['events_lost']} of {counts['events']} events lost.",
    )
    return int(bool(unequal or counts["events_lost"]))


class Replay:
    """MiniHack itself: of the environment only the seeds of a task, and the names of milestones."""

    def __init__(self, level: str) -> None:
        keys = ("glyphs", "blstats", "inv_glyphs", "inv_strs", "inv_letters", "message", "screen_descriptions")
        made = load().make(f"MiniHack-{level}-v0", disable_env_checker=True, observation_keys=keys, fix_moon_phase=True)
        self._env: Any = made.unwrapped
        self._env._max_episode_steps = 10**6
        numbers = {int(key): number for number, key in enumerate(self._env.actions)}
        self._numbers = {action: numbers[key] for action, key in KEYS.items() if key in numbers}
        self._wanted = names(level)

    def events(self, episode: Trajectory) -> list[Event]:
        """(step, what happened) of the episode's actions, each event once."""
        self._env.seed(*Seeds.of(episode.task_id), reseed=False)
        before = _kept(self._env.reset()[0])
        found: dict[str, int] = {}
        for step, taken in enumerate(episode.steps):
            shown, _, over, _, info = self._env.step(self._numbers[taken.action])
            after = _kept(shown)
            if over:
                new = [WIN] if int(info["end_status"]) == 2 else []
            else:
                new = [name for name in self._wanted if name != WIN and EVIDENCE[name](before, after)]
            for name in new:
                found.setdefault(name, step)
            before = after
        return [(step, name) for name, step in found.items()]


def _kept(shown: Shown) -> Shown:
    """A copy: NLE's arrays change with the next step."""
    return {key: array.copy() for key, array in shown.items()}


def _gets_the_key(before: Shown, after: Shown) -> bool:
    return _has_key(after) and not _has_key(before)


def _has_key(shown: Shown) -> bool:
    from nle import nethack

    return any(nethack.glyph_is_object(g) and nethack.glyph_to_obj(g) == SKELETON_KEY for g in shown["inv_glyphs"].tolist())


def _opens_a_door(before: Shown, after: Shown) -> bool:
    return bool((_places(before, CLOSED) & _places(after, OPENED)).any())


def _sees_stairs(before: Shown, after: Shown) -> bool:
    return bool(_places(after, STAIRS).any() and not _places(before, STAIRS).any())


def _fills_the_water(before: Shown, after: Shown) -> bool:
    return b"Now you can cross it!" in after["message"].tobytes()


EVIDENCE: dict[str, Callable[[Shown, Shown], bool]] = {
    "pick up the key": _gets_the_key,
    "open the door": _opens_a_door,
    "see the stairs": _sees_stairs,
    "push a boulder into the water": _fills_the_water,
}


def _places(shown: Shown, symbols: set[int]) -> np.ndarray:
    """Bool [21, 79]: where one of the symbols is on the map."""
    from nle import nethack

    return np.isin(shown["glyphs"] - nethack.GLYPH_CMAP_OFF, list(symbols))


if __name__ == "__main__":
    sys.exit(main())
