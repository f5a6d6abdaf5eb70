"""What an episode must not depend on, and must not touch: the process's random generators, other instances, other threads, and
who reads while it is played."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from envs.base import SPLITS, TextEnv
from envs.checker.determinism import compare
from envs.checker.playing import Play, Record, replay, replaying
from envs.checker.problems import Problems

ROUNDS = 3
"""How often the episodes are played in threads, all at once."""
SWITCH = 1e-5
"""Seconds after which Python goes on with another thread, so that races show."""


class Global(NamedTuple):
    """One of the process's random generators."""

    name: str
    get: Callable[[], Any]
    set: Callable[[Any], object]
    seed: Callable[[int], object]


def check_global_random(
    maker: Callable[[], TextEnv], plays: list[Play], records: list[list[Record]], problems: Problems
) -> None:
    """However the process's generators were seeded, the same seed gives the same episode and splits; and they are let alone."""
    how = "when random, numpy.random and torch were seeded otherwise before"
    own = (
        "draw all chance from the rng that start() gets (and splits from envs.common.seeding.generator), never from random.*, "
        "numpy.random.* or torch.*"
    )
    alone = (
        "never draw from the process's generators: others draw from them too, and episodes are played side by side. Where a "
        "library does so, give it a state of the episode's own and put the process's back (random.getstate, random.setstate)"
    )
    splits: dict[str, list[str]] = {}
    with generators_restored() as generators:
        for play, found in zip(plays, records):
            ends: list[dict[str, bytes]] = []
            used: set[str] = set()
            for seed in (1, 2):
                for one in generators:
                    one.seed(seed)
                before = {one.name: _bytes(one.get()) for one in generators}
                with problems.on(f"{play}: cannot be played {how}", own):
                    env = maker()
                    for split in SPLITS:
                        tasks = list(env.tasks(split))
                        if splits.setdefault(split, tasks) != tasks:
                            problems.add(f"split '{split}' differs {how}", own)
                    compare(play, found, replay(env, play), how, own, problems)
                ends.append({one.name: _bytes(one.get()) for one in generators})
                used |= {name for name, state in ends[-1].items() if state != before[name]}
            for name in sorted(used):
                does = "seeds" if ends[0][name] == ends[1][name] else "draws from"
                problems.add(f"{play}: it {does} the process's generator {name}", alone)


def check_company(maker: Callable[[], TextEnv], plays: list[Play], records: list[list[Record]], problems: Problems) -> None:
    """Instances that play in turns, and in threads at once, play as each does alone."""
    how = "when other instances play in between"
    fix = "keep nothing on the class or in a module that an episode changes: many instances play side by side"
    with problems.on(f"episodes cannot be played {how}", fix):
        episodes = [replaying(maker(), play) for play in plays]
        answers: list[list[Record]] = [[] for _ in plays]
        for _ in range(max(len(found) for found in records)):
            for answer, episode in zip(answers, episodes):
                answer.extend(record for record in [next(episode, None)] if record is not None)
        for play, found, answer in zip(plays, records, answers):
            compare(play, found, answer, how, fix, problems)
    if problems.found:  # what differs in turns will differ at once, and tells nothing new
        return
    how = "in threads, while others play"
    fix = (
        "guard by a lock what instances share (a library's state, a file, a cache). It plays with env.pool.mode=processes "
        "as it is, not with threads"
    )
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        with problems.on(f"episodes cannot be played {how}", fix), ThreadPoolExecutor(len(plays)) as threads:
            for _ in range(ROUNDS):
                for play, found, answer in zip(plays, records, threads.map(lambda play: replay(maker(), play), plays)):
                    compare(play, found, answer, how, fix, problems)
    finally:
        sys.setswitchinterval(interval)


def check_reading(env: TextEnv, play: Play, found: list[Record], problems: Problems) -> None:
    """What was answered stays as it was, and asking about tasks does not change the episode."""
    fix = "answer the same whoever asks meanwhile: tasks, task_type, subgoals, answer and split_hash change nothing"
    kept = "make a new list for every StepResult: what was answered may still be read when the episode has gone on"
    with problems.on(f"{play}: cannot be played when somebody reads its tasks meanwhile", fix):
        given: list[tuple[dict[str, Any], dict[str, Any]]] = []
        answer: list[Record] = []
        for record in replaying(env, play, given):
            answer.append(record)
            for split in SPLITS:
                env.tasks(split)
            task = str(found[0]["info"]["task_id"])
            env.task_type(task), env.subgoals(task), env.answer(task), env.split_hash("train")
        compare(play, found, answer, "when somebody reads its tasks meanwhile", fix, problems)
        for number, (info, then) in enumerate(given):
            for name in (name for name in then if info[name] != then[name]):
                problems.add(f"{play}, step {number}: info['{name}'] changes when the episode goes on", kept)


def _globals() -> list[Global]:
    """Those that there are: torch's only where something has imported it."""
    found = [
        Global("random", random.getstate, random.setstate, random.seed),
        Global("numpy.random", np.random.get_state, np.random.set_state, np.random.seed),
    ]
    if torch := sys.modules.get("torch"):
        found.append(Global("torch", torch.get_rng_state, torch.set_rng_state, torch.manual_seed))
    return found


def _bytes(state: Any) -> bytes:
    """Equal for equal states: those are tuples, with arrays in them, or a tensor."""
    return b"".join(map(_bytes, state)) if isinstance(state, tuple) else np.asarray(copy.copy(state)).tobytes()


@contextmanager
def generators_restored() -> Iterator[list[Global]]:
    """The process's generators, which are afterwards as they were."""
    generators = _globals()
    states = [one.get() for one in generators]
    try:
        yield generators
    finally:
        for one, state in zip(generators, states):
            one.set(state)
