"""Determinism: equal keys have equal futures; equal seed, task and actions give equal episodes wherever they are played."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from envs.base import SPLITS, TextEnv
from envs.checker.playing import Play, Record, in_fresh_process, replay
from envs.checker.problems import Problems, short


def check_keys(env: TextEnv, plays: list[Play], records: list[list[Record]], problems: Problems) -> None:
    """Equal keys mean equal futures: within a task, the same action in a state of the same key has the same outcome."""
    states: dict[tuple[str, str], tuple[str, Any]] = {}
    outcomes: dict[tuple[str, str, str], tuple[str, Any]] = {}
    for play, found in zip(plays, records):
        for number, record in enumerate(found):
            where, info = f"{play}, step {number}", record["info"]
            ended = number and (record["terminated"] or record["truncated"])
            task, key = str(info.get("task_id")), str(info.get("state_key"))
            allowed = info.get("admissible_actions")
            first, known = states.setdefault((task, key), (where, allowed))
            if not ended and known != allowed:
                problems.add(
                    f"two states with key {key!r} have different admissible actions ({first}; {where})",
                    "put into the state key all that decides what is possible and what happens next",
                )
            if not number or env.stochastic or record["truncated"]:
                continue
            before = str(found[number - 1]["info"].get("state_key"))
            outcome = (key, record["reward"], record["terminated"], info.get("valid"))
            first, same = outcomes.setdefault((task, before, record["action"]), (where, outcome))
            if same != outcome:
                problems.add(
                    f"{record['action']!r} in the state with key {before!r} has different outcomes ({first}; {where})",
                    "put into the state key all that decides what happens next; if chance decides, say `stochastic = True` "
                    "in the class",
                )


def check_repeats(
    maker: Callable[[], TextEnv],
    one: TextEnv,
    two: TextEnv,
    plays: list[Play],
    records: list[list[Record]],
    problems: Problems,
) -> None:
    """The same seed, task and actions give the same episode: in a used instance, in a fresh one, in a fresh process."""
    seeds = "draw all chance from the generator that start() gets"
    fixes = {
        "when it is played in another instance": f"{seeds}; keep nothing on the class or in the module",
        "when it is played again in the same instance": "set all that an episode changes in start()",
        "in a fresh process": "depend on nothing of the process: order of sets or files, hash(), id(), time",
    }
    (other, again, process) = fixes
    for play, found in zip(plays, records):
        with problems.on(f"{play}: cannot be played {other}", fixes[other]):
            compare(play, found, replay(two, play), other, fixes[other], problems)
    for play, found in zip(plays, records):
        with problems.on(f"{play}: cannot be played {again}", fixes[again]):
            replay(one, replace(play, actions=(play.actions or ())[:1]))  # a reset in the middle of an episode
            compare(play, found, replay(one, play), again, fixes[again], problems)
    if problems.found:  # what already differs here will differ there, and tells nothing new
        return
    try:
        luggage = pickle.dumps((maker, plays))
    except Exception as error:
        problems.add(f"it cannot be sent to another process: {error}", "make the configuration of plain values (picklable)")
        return
    answer = in_fresh_process(luggage)
    if isinstance(answer, str):
        problems.add(f"it does not work {process}: {answer}", fixes[process])
        return
    splits, replayed = answer
    for split in SPLITS:
        if splits[split] != list(one.tasks(split)):
            problems.add(f"split '{split}' differs {process}", fixes[process])
    for play, found, found_there in zip(plays, records, replayed):
        compare(play, found, found_there, process, fixes[process], problems)


def compare(play: Play, first: list[Record], second: list[Record], how: str, fix: str, problems: Problems) -> None:
    for number, (a, b) in enumerate(zip(first, second)):
        for key in a:
            pairs = (
                [(f"info['{k}']", a[key].get(k), b[key].get(k)) for k in a[key]] if key == "info" else [(key, a[key], b[key])]
            )
            for name, left, right in pairs:
                if left != right:
                    problems.add(
                        f"{play}, step {number}: {name} differs {how}: first {short(left)}, then {short(right)}",
                        fix,
                    )
                    return
