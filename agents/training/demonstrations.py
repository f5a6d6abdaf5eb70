"""Demonstrations of an environment's oracle, as texts: played once, and kept for the next run.

What is kept is named by all that it depends on: the environment, its settings and source files, the packages that are
installed, tasks, seed and settings of the warm start. Some of what is found is played again all the same, in case something
else has changed: data files, say. How a model reads the texts is no part of it, so that prompts may change.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import zlib
from collections.abc import Callable, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

from agents.config.secrets import masked
from agents.config.sections import EnvConfig, WarmstartConfig
from agents.rollout.turns import LAST
from envs import answers
from envs.base import NoOracle, TextEnv, Unsolvable
from envs.common.cache import cache_folder, keep, kept
from envs.common.seeding import derive, generator
from envs.common.structured import plain
from envs.common.text import first_line, printable

log = logging.getLogger("stepcredit.warmstart")

PATIENCE = 200
"""Tasks that are tried in vain before a warm start gives up."""
SAMPLE = 4
"""Demonstrations of those kept that are played again."""
LARGE = 1 << 20
"""Bytes; files beside an environment's source that are larger go by size and time."""
_FOREIGN = frozenset(("builtins", "typing", "abc", "gymnasium"))
"""Packages of base classes that are no part of an environment."""

FORM = 2
"""Of what is kept: to be raised whenever it changes."""

Demonstration = list[tuple[str, list[str] | None, bool, str, str]]
"""(observation, admissible actions, whether the last action was valid, action, the subgoal that is reached next) of steps."""


class WrongOracle(RuntimeError):
    """What an oracle demonstrates does not win the task."""


class Place(NamedTuple):
    """Which demonstration it is: the how-manieth round over the split, the task's place in it, whether it is suboptimal."""

    turn: int
    place: int
    dawdles: bool


def demonstrate(env: TextEnv, task_id: str, seed: int, detours: float, suboptimal: bool) -> Demonstration:
    """One oracle episode through the real environment. It wins; a suboptimal one may run out of time instead.

    Raises Unsolvable if the time is too short for one that is not suboptimal, WrongOracle, and what the environment raises.
    """
    rng = generator(seed, "demonstration", task_id)
    actions = env.imperfect_demonstration(task_id, rng, detours, suboptimal)
    observation, info = answers.reset(env, derive(seed, "demonstration", "environment", task_id), task_id)
    played: list[tuple[str, list[str] | None, bool, str]] = []
    reached: list[tuple[str, ...]] = [tuple(info["subgoals"])]
    terminated = truncated = False
    for action in actions:
        played.append((observation, info["admissible_actions"], info["valid"], action))
        observation, _, terminated, truncated, info = answers.step(env, action)
        reached.append(tuple(info["subgoals"]))
        if terminated or truncated:
            break
    if truncated and not suboptimal and not info["success"]:
        raise Unsolvable(
            f"task {task_id} takes its oracle {len(actions)} steps with warmstart.detours={detours:g}, more than "
            f"env.max_steps={env.max_steps}: raise env.max_steps, or lower warmstart.detours"
        )
    if not (info["success"] or truncated):
        raise WrongOracle(f"the oracle of {env.name} does not win task {task_id} within {env.max_steps} steps")
    return [(*step, subgoal) for step, subgoal in zip(played, _pursued(reached), strict=True)]


def _pursued(reached: Sequence[Sequence[str]]) -> list[str]:
    """What each step led to: the first subgoal that it or a later one reached. reached: before each step, and at the end."""
    found: list[str] = []
    for before, after in zip(reached[-2::-1], reached[:0:-1]):
        new = [name for name in after if name not in before]
        found.append(new[0] if new else found[-1] if found else LAST)
    return found[::-1]


def demonstrated(
    env: TextEnv,
    settings: EnvConfig,
    warmstart: WarmstartConfig,
    tasks: Sequence[str],
    count: int,
    root: int,
    on_made: Callable[[int], None] | None = None,
) -> list[Demonstration]:
    """`count` demonstrations on `tasks`, which are of one split, careful ones first: those that are kept, or played now.

    Tasks that cannot be won or have no oracle are passed over; Unsolvable or NoOracle if none of them, or of the first
    PATIENCE, is any better. So are those whose environment fails, with a warning, unless all or PATIENCE in a row do.
    """

    def play(where: Place) -> Demonstration:
        seed = derive(root, "warmstart", where.turn)
        return demonstrate(env, tasks[where.place], seed, warmstart.detours, where.dawdles)

    key = _key(env, settings, warmstart, tasks, count, root)
    file = cache_folder() / "demonstrations" / f"{key}.z" if key else None
    if file and (found := _unpacked(kept(file))) is not None and _are_still_so(found, play):
        if on_made:
            on_made(count)
        return [demonstration for _, demonstration in found]
    made: list[tuple[Place, Demonstration]] = []
    careful, tried = round(count * (1 - warmstart.suboptimal_share)), 0
    failed: dict[str, BaseException] = {}
    in_a_row = 0
    while len(made) < count:
        where = Place(*divmod(tried, len(tasks)), dawdles=len(made) >= careful)
        tried += 1
        try:
            made.append((where, play(where)))
            in_a_row = 0
        except WrongOracle:
            raise
        except (Unsolvable, NoOracle):  # other tasks of the split may have an oracle, and be winnable
            if not made and (where.turn or tried >= PATIENCE):
                raise
            continue
        except (Exception, SystemExit) as error:  # of any environment: rollouts will count it
            failed.setdefault(tasks[where.place], error)
            in_a_row += 1
            if in_a_row >= min(PATIENCE, len(tasks)):
                raise
            continue
        if on_made:
            on_made(len(made))
    if failed:
        task, first = next(iter(failed.items()))
        what = masked(f"{type(first).__name__}: {first_line(first)}")
        log.warning(
            "the environment failed in %d of %d tasks of the warm start, which does without them; the first is %s: %s",
            *(len(failed), len(tasks), printable(task), what),
        )
    elif file:  # what failed once may not fail again
        keep(file, _packed(made))
    return [demonstration for _, demonstration in made]


def _are_still_so(found: Sequence[tuple[Place, Demonstration]], play: Callable[[Place], Demonstration]) -> bool:
    """Whether some of them, the first and the last included, are played today as they are kept."""
    last = len(found) - 1
    for number in {last * n // (SAMPLE - 1) for n in range(SAMPLE)}:
        where, demonstration = found[number]
        try:
            if play(where) != demonstration:
                return False
        except (Exception, SystemExit):  # of any environment
            return False
    return True


# -- what they are kept under -------------------------------------------------------------------------------------------------


def _key(
    env: TextEnv, settings: EnvConfig, warmstart: WarmstartConfig, tasks: Sequence[str], count: int, root: int
) -> str | None:
    """32 hex digits that name everything the demonstrations depend on; None where its source cannot be found."""
    source = _source(type(env))
    if source is None:
        return None
    named = [
        FORM,
        *(env.name, plain(settings.settings), env.max_steps, env.split_hash("train"), list(tasks)),
        *(count, root, warmstart.detours, warmstart.suboptimal_share),
        *(source, sorted({(one.name, one.version) for one in distributions()}), sys.version),
    ]
    return hashlib.sha256(json.dumps(named, sort_keys=True, default=repr).encode()).hexdigest()[:32]


def _source(kind: type[TextEnv]) -> str | None:
    """Hash of the files beside the environment's class and its base classes, and of the Python files below; None without."""
    digest = hashlib.sha256()
    for name in sorted({one.__module__ for one in kind.__mro__ if one.__module__.partition(".")[0] not in _FOREIGN}):
        module = sys.modules.get(name)
        file = Path(getattr(module, "__file__", None) or "")
        if not file.is_file():
            return None
        package = {*file.parent.iterdir(), *file.parent.rglob("*.py")} if getattr(module, "__package__", "") else {file}
        for one in sorted(package):
            if one.is_file():
                state = one.stat()
                content = one.read_bytes() if state.st_size <= LARGE else str((state.st_size, state.st_mtime_ns)).encode()
                digest.update(f"{one.name} {len(content)} ".encode() + content)
    return digest.hexdigest()


# -- how they are kept: each text once, since observations and lists come up again and again -----------------------------------


def _packed(made: Sequence[tuple[Place, Demonstration]]) -> bytes:
    texts: dict[str, int] = {}
    lists: dict[tuple[int, ...], int] = {}

    def text(one: str) -> int:
        return texts.setdefault(one, len(texts))

    def listed(actions: list[str] | None) -> int | None:
        return None if actions is None else lists.setdefault(tuple(map(text, actions)), len(lists))

    steps = [
        [
            where,
            [
                (text(seen), listed(actions), bool(valid), text(action), text(goal))
                for seen, actions, valid, action, goal in shown
            ],
        ]
        for where, shown in made
    ]
    return zlib.compress(json.dumps([list(texts), list(lists), steps]).encode(), 1)


def _unpacked(content: bytes | None) -> list[tuple[Place, Demonstration]] | None:
    if content is None:
        return None
    texts, lists, steps = json.loads(zlib.decompress(content))
    actions: list[list[str]] = [[texts[number] for number in numbers] for numbers in lists]

    def step(observation: int, listed: int | None, valid: bool, action: int, subgoal: int) -> Any:
        return texts[observation], None if listed is None else actions[listed], valid, texts[action], texts[subgoal]

    return [(Place(*where), [step(*one) for one in shown]) for where, shown in steps]
