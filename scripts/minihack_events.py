"""The rule judge and its change filter against an independent replay of random episodes of KeyRoom-S5.

    python scripts/minihack_events.py [--episodes 400] [--level KeyRoom-S5]

Plays random episodes with the six actions of env=minihack/keyroom, lets judge=rules judge them, and plays the same actions
again in MiniHack itself, where events are told by other evidence than the rules use: the key by the object number in the
inventory's glyphs, the door by its symbol number on the map, the win by NLE's end status. Prints events and differences, and
what share of the steps the filter leaves for a judge. Exit codes: 0 all equal, 1 a difference or a lost event, 2 no such level.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from agents.judges.rules import Rules
from agents.judging.measure import filtered
from agents.judging.playing import at_random
from envs.base import TaskError
from envs.minihack.env import MiniHackConfig, MiniHackEnv
from envs.minihack.game import Seeds
from envs.trajectory import Trajectory

ACTIONS = ["north", "east", "south", "west", "pickup", "apply"]
KEYS = {"north": "k", "east": "l", "south": "j", "west": "h", "pickup": ",", "apply": "a"}
"""NetHack's own keys for the actions."""
CLOSED, OPENED = {15, 16}, {12, 13, 14}
"""NetHack's numbers (defsym.h) of a closed door's symbols, and of a broken and an open one's."""
SKELETON_KEY = 196
"""NetHack's number of the object (objects.c)."""
KEY, DOOR, WIN = "pick up the key", "open the door", "reach the stairs"

Event = tuple[int, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Play, judge, replay, compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=400)
    parser.add_argument("--level", default="KeyRoom-S5", help="a level of the keyroom family")
    arguments = parser.parse_args(argv)
    console = Console()
    try:
        config = MiniHackConfig([arguments.level], actions=ACTIONS, max_steps=100, train_tasks=arguments.episodes)
        env = MiniHackEnv(config)
        replay = Replay(arguments.level)
    except TaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tasks = list(track(env.tasks("train"), "random episodes", console=console, transient=True))
    episodes = [at_random(env, "stepcredit/MiniHack-v0", task, n, "train", n) for n, task in enumerate(tasks)]
    judge = Rules(env.subgoals)
    judged = judge.judge(episodes)
    found, expected, unequal = Counter[str](), Counter[str](), 0
    for episode, verdicts in zip(track(episodes, "replayed", console=console, transient=True), judged):
        told = [(step, name) for step, names in enumerate(verdicts) for name in names]
        seen = replay.events(episode)
        found.update(name for _, name in told)
        expected.update(name for _, name in seen)
        if sorted(told) != sorted(seen):
            unequal += 1
            console.print(f"{episode.task_id}: the judge says {told}, the replay {seen}", markup=False)
    table = Table("event", "replay", "judge")
    for name in (KEY, DOOR, WIN):
        table.add_row(name, str(expected[name]), str(found[name]))
    console.print(table)
    counts = filtered(episodes, [env.subgoals(episode.task_id) for episode in episodes])
    console.print(
        f"{len(episodes)} episodes, {unequal} with a difference. Filter: {counts['kept']:,} of {counts['transitions']:,} steps "
        f"kept ({counts['kept'] / counts['transitions']:.1%}), {counts['events_lost']} of {counts['events']} events lost.",
        highlight=False,
    )
    return int(bool(unequal or counts["events_lost"]))


class Replay:
    """MiniHack itself, without anything of the environment but the seeds of a task."""

    def __init__(self, level: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import gymnasium
            import minihack  # noqa: F401

            keys = ("glyphs", "blstats", "inv_glyphs", "inv_strs", "inv_letters", "screen_descriptions")
            made = gymnasium.make(
                f"MiniHack-{level}-v0",
                disable_env_checker=True,
                observation_keys=keys,
                max_episode_steps=10**6,
                fix_moon_phase=True,
            )
        self._env: Any = made.unwrapped
        self._numbers = {chr(int(action)): number for number, action in enumerate(self._env.actions)}

    def events(self, episode: Trajectory) -> list[Event]:
        """(step, what happened) of the episode's actions."""
        self._env.seed(*Seeds.of(episode.task_id), reseed=False)
        shown, _ = self._env.reset()
        doors: set[tuple[int, int]] = set()
        had_key, opened = _has_key(shown), False
        events: list[Event] = []
        for step, taken in enumerate(episode.steps):
            doors |= _places(shown, CLOSED)
            shown, _, over, _, info = self._env.step(self._numbers[KEYS[taken.action]])
            if over and int(info["end_status"]) == 2:
                events.append((step, WIN))
            if over:
                break
            if _has_key(shown) and not had_key:
                events.append((step, KEY))
                had_key = True
            if doors & _places(shown, OPENED) and not opened:
                events.append((step, DOOR))
                opened = True
        return events


def _has_key(shown: dict[str, Any]) -> bool:
    from nle import nethack

    return any(nethack.glyph_is_object(g) and nethack.glyph_to_obj(g) == SKELETON_KEY for g in shown["inv_glyphs"].tolist())


def _places(shown: dict[str, Any], symbols: set[int]) -> set[tuple[int, int]]:
    """Where one of the symbols is on the map."""
    from nle import nethack

    found = np.argwhere(np.isin(shown["glyphs"] - nethack.GLYPH_CMAP_OFF, list(symbols)))
    return {(row, column) for row, column in found.tolist()}


if __name__ == "__main__":
    sys.exit(main())
