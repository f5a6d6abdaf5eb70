"""The contract: splits, types and meaning of the answers, end of an episode, nonsense, time limit, unknown task."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from envs.base import SPLITS, StepResult, TaskError, TextEnv
from envs.checker.playing import Play, Record, replay, spread
from envs.checker.problems import Problems, short
from envs.common.seeding import generator

SURROGATE = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs, which are no Unicode text."""

NONSENSE = "xyzzy the plugh"
TAGS = ("<action>", "</action>", "<think>", "</think>")
STARTS = 24
"""Tasks of each split that are started, and first actions that are tried."""
AFTER_THE_END = "leave step() to TextEnv, which refuses it"


def check_splits(one: TextEnv, two: TextEnv, problems: Problems) -> None:
    if not isinstance(one, TextEnv):
        problems.add(f"it is a {type(one).__name__}, no TextEnv", "derive the class from envs.TextEnv")
        return
    if not isinstance(getattr(one, "name", None), str):
        problems.add("it has no name", 'give the class a name: `name = "..."`, the one it is registered under')
        return
    owner: dict[str, str] = {}
    for split in SPLITS:
        with problems.on(f"tasks('{split}') fails", "return the ids of the splits train, eval and test"):
            tasks = list(one.tasks(split))
            if not tasks:
                problems.add(f"split '{split}' is empty", "give each of the splits train, eval and test at least one task")
            if not all(isinstance(task, str) and task for task in tasks):
                problems.add(f"split '{split}' holds a task id that is no text", "name tasks by non-empty strings")
            if len(set(tasks)) < len(tasks):
                problems.add(f"split '{split}' holds a task twice", "list each task of a split once")
            for task in tasks:
                if owner.setdefault(task, split) != split:
                    problems.add(
                        f"task {task!r} is in split '{owner[task]}' and in '{split}'",
                        "make the splits disjoint, or an evaluation measures what was trained on",
                    )
            if list(one.tasks(split)) != tasks:
                problems.add(
                    f"split '{split}' differs when it is asked for again", "list splits in an order that depends on nothing"
                )
            if list(two.tasks(split)) != tasks:
                problems.add(
                    f"split '{split}' differs between two instances", "list splits in an order that depends on nothing"
                )


def check_records(play: Play, records: list[Record], problems: Problems) -> None:
    """Types and meaning of everything that the episode answered."""
    allowed: list[str] | None = None
    for number, record in enumerate(records):
        where = f"{play}, " + (f"step {number} ({record['action']!r})" if number else "reset")
        check_info(where, play, record, problems)
        info = record["info"]
        if number:
            for key, kind in (("reward", float), ("terminated", bool), ("truncated", bool)):
                if type(record[key]) is not kind:
                    problems.add(f"{where}: {key} is {record[key]!r}", f"return {key} as a {kind.__name__}, as TextEnv does")
            if isinstance(record["reward"], float) and not math.isfinite(record["reward"]):
                problems.add(f"{where}: the reward is {record['reward']}", "give finite rewards")
            if record["terminated"] and record["truncated"]:
                problems.add(
                    f"{where}: both terminated and truncated", "end an episode in one way: a time limit is truncated only"
                )
            if record["truncated"] and not info.get("reason"):
                problems.add(f"{where}: truncated without info['reason']", "say in info['reason'] why an episode was cut off")
            if allowed is not None and record["action"] in allowed and info.get("valid") is False:
                problems.add(f"{where}: listed as admissible, but answered as invalid", "list only actions that are possible")
        if info.get("success") and not (number and record["terminated"]):
            problems.add(
                f"{where}: success, though the episode goes on or was cut off",
                "report success only in the StepResult that terminates the episode; a time limit is never a success",
            )
        allowed = info.get("admissible_actions")
        if isinstance(allowed, list):
            check_actions(where, [action for action in allowed if isinstance(action, str)], problems)
            if not allowed and not (number and (record["terminated"] or record["truncated"])):
                problems.add(
                    f"{where}: no action is admissible, though the episode goes on",
                    "list an action until the episode is over, or None where they cannot be listed",
                )


def check_actions(where: str, listed: list[str], problems: Problems) -> None:
    """Listed actions are such as a model can write."""
    for action in listed:
        if action != " ".join(action.split()):
            problems.add(
                f"{where}: the listed action {short(action)} has white space that answers do not keep",
                "list actions with single blanks between words: no tab, line break or no-break space, and none around them",
            )
        if any(tag in action for tag in TAGS):
            problems.add(
                f"{where}: the listed action {short(action)} holds a tag that ends or begins an answer",
                f"list no actions with {', '.join(TAGS)} in them",
            )
    if twice := [action for action, times in Counter(" ".join(action.split()) for action in listed).items() if times > 1]:
        problems.add(f"{where}: the action {short(twice[0])} is listed twice", "list each action once")


def check_info(where: str, play: Play, record: Record, problems: Problems) -> None:
    if not isinstance(record["observation"], str) or not isinstance(record["info"], dict):
        problems.add(f"{where}: observation and info are no text and dict", "return the observation as str and info as dict")
        record["info"] = {}
        return
    if SURROGATE.search(record["observation"]):
        seen = ascii(record["observation"])[:80]
        problems.add(
            f"{where}: the observation holds half of a surrogate pair, which no tokenizer reads: {seen}",
            "replace such characters: text.encode('utf-8', 'replace').decode()",
        )
    info = record["info"]
    wanted: dict[str, Callable[[Any], bool]] = {
        "task_id": lambda v: isinstance(v, str) and (play.task is None or v == play.task),
        "state_key": lambda v: isinstance(v, str) and v != "",
        "admissible_actions": lambda v: v is None or (isinstance(v, list) and all(isinstance(a, str) and a for a in v)),
        "valid": lambda v: isinstance(v, bool),
        "success": lambda v: isinstance(v, bool),
        "score": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v <= 1,
        "subgoals": lambda v: isinstance(v, tuple) and all(isinstance(name, str) for name in v),
    }
    optional: dict[str, Callable[[Any], bool]] = {
        "changed": lambda v: isinstance(v, bool),
        "frame": lambda v: isinstance(v, str),
    }
    wanted |= {key: good for key, good in optional.items() if key in info}
    meaning = {
        "task_id": "the id of the task that was asked for",
        "state_key": "a non-empty text that names the state",
        "admissible_actions": "a list of texts, or None where they cannot be listed",
        "valid": "True or False",
        "success": "True or False",
        "score": "a number from 0 to 1",
        "subgoals": "a tuple of names",
        "changed": "True or False (StepResult.changed may be None: as the state keys say)",
        "frame": "a text (StepResult.frame may be None)",
    }
    for key, good in wanted.items():
        if key not in info:
            problems.add(f"{where}: info lacks '{key}'", f"info['{key}'] must be {meaning[key]}")
        elif not good(info[key]):
            problems.add(f"{where}: info['{key}'] is {short(info[key])}", f"info['{key}'] must be {meaning[key]}")


def check_end(env: TextEnv, plays: list[Play], records: list[list[Record]], problems: Problems) -> None:
    for play, found in zip(plays, records):
        if len(found) > 1 and (found[-1]["terminated"] or found[-1]["truncated"]):
            replay(env, play)
            try:
                env.step(found[-1]["action"])
            except Exception:  # a class of one's own may refuse with an error of its own
                return
            problems.add(f"{play}: step() after the end is answered", AFTER_THE_END)
            return
    # No episode came to an end by itself: the time limit ends one.
    env.max_steps = 1
    env.reset(seed=plays[0].seed, options={"task": plays[0].task})
    env.step(NONSENSE)
    try:
        env.step(NONSENSE)
    except Exception:
        return
    problems.add(f"{plays[0]}: step() after the time limit is answered", AFTER_THE_END)


def check_turns(env: TextEnv, play: Play, problems: Problems) -> None:
    """start() and act() answer with a StepResult."""
    task = play.task if play.task is not None else env.tasks("train")[0]
    for name, answer in (
        ("start", lambda: env.start(task, generator(play.seed, "turn"))),
        ("act", lambda: env.act(NONSENSE)),
    ):
        try:
            turn = answer()
        except Exception:  # told by the checks that follow
            return
        if not isinstance(turn, StepResult):
            problems.add(f"{name}() returns {short(turn)}, a {type(turn).__name__}", f"return a StepResult from {name}()")


def check_starts(env: TextEnv, problems: Problems) -> None:
    """Tasks of all splits can be started, and their answers are texts."""
    for split in SPLITS:
        tasks = env.tasks(split)
        for task in spread(tasks, min(STARTS, len(tasks))):
            with problems.on(
                f"task {task!r} of split '{split}' cannot be started", "leave out of the splits what cannot be played"
            ):
                env.reset(seed=0, options={"task": task})
                answer = env.answer(task)
                if not (answer is None or (isinstance(answer, str) and answer.strip())):
                    problems.add(f"answer({task!r}) is {short(answer)}", "return a text, or None for a task without an answer")


def check_beginnings(env: TextEnv, plays: list[Play], problems: Problems) -> None:
    """An episode is not over at its first action, whichever it is; unless one of them wins."""
    tried = 0
    for play in plays:
        options = {"task": play.task}
        _, info = env.reset(seed=play.seed, options=options)
        for action in (info["admissible_actions"] or [])[:STARTS]:
            env.reset(seed=play.seed, options=options)
            _, _, terminated, truncated, info = env.step(action)
            tried += 1
            if not (terminated or truncated) or info["success"]:
                return
    if tried:
        problems.add(
            f"the first action ends every episode, whichever it is ({tried} were tried), and none wins",
            "terminate where an episode is won or lost for good, and give it more steps than one (max_steps)",
        )


def check_nonsense(env: TextEnv, play: Play, problems: Problems) -> None:
    options = {"task": play.task}
    for action in (NONSENSE, "", "é 🚪 \x00 \n", "go " * 5000):
        env.reset(seed=play.seed, options=options)
        fix = "answer an action that cannot be understood with valid=False, and let the episode go on"
        with problems.on(f"{play}: the action {short(action)} raises", fix):
            _, _, terminated, _, info = env.step(action)
            if terminated:
                problems.add(f"{play}: the action {short(action)} ends the episode", fix)
            elif info.get("valid") is not False:
                problems.add(f"{play}: the action {short(action)} counts as valid", fix)


def check_time_limit(env: TextEnv, play: Play, problems: Problems) -> None:
    fix = "leave the time limit to TextEnv (max_steps): it is truncated, never terminated, never a success"
    env.max_steps = 3
    env.reset(seed=play.seed, options={"task": play.task})
    for number in range(1, 4):
        _, _, terminated, truncated, info = env.step(NONSENSE)
        if terminated and number < 3:
            problems.add(
                f"{play}: {number} impossible actions end the episode",
                "answer an impossible action with valid=False and let the episode go on, however many there are",
            )
            return
        if terminated or truncated is not (number == 3) or info.get("success"):
            problems.add(
                f"{play}: with max_steps=3, step {number} is terminated={terminated}, truncated={truncated}, "
                f"success={info.get('success')}",
                fix,
            )
            return


def check_unknown_task(env: TextEnv, problems: Problems) -> None:
    fix = "raise TaskError, with the id in its message, for a task that does not exist"
    try:
        env.reset(seed=0, options={"task": "no such task"})
    except TaskError:
        return
    except Exception as error:
        problems.add(f"an unknown task raises {type(error).__name__}: {error}", fix)
    else:
        problems.add("an unknown task is played", fix)
