"""What an environment answers, looked at where it enters a rollout: types, finite numbers, texts that can be written and read.

One wrong number would spoil the statistics of a whole batch, and a text that no tokenizer takes would end the run: here it is
the fault of one episode, by the names of environment, task and step.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from envs.base import TextEnv
from envs.common.text import said

log = logging.getLogger(__name__)

Reset = tuple[str, dict[str, Any]]
Result = tuple[str, float, bool, bool, dict[str, Any]]
LARGEST = 1e15
"""Of a number: the squares of larger ones, and their sums, leave what float32 holds."""
ROUNDING = 1e-6
"""By which a score may leave 0..1."""
PASSED_ON = (Exception, KeyboardInterrupt)
"""What environments may raise, and what the user does."""
NEEDED = frozenset(("task_id", "state_key", "admissible_actions", "valid", "success", "score", "subgoals"))
ALLOWED = {"admissible_actions": "a list of texts, or None where they cannot be listed", "subgoals": "a tuple of texts"}
"""Of fields that hold several texts."""


class WrongAnswer(TypeError):
    """An environment answers what the contract does not allow. Names environment, task, step and field, and what is allowed."""


def reset(env: TextEnv, seed: int | None = None, task: str | None = None) -> Reset:
    """Begin an episode. Raises WrongAnswer, and whatever Exception the environment raises."""
    options = None if task is None else {"task": task}
    answer = _asked(env, lambda: env.reset(seed=seed, options=options), lambda: f"task {task}, reset")
    if not (isinstance(answer, tuple) and len(answer) == 2):
        raise _wrong(env, "reset()", answer, "a tuple of observation and info")
    observation, info = answer
    return observation, _info(env, observation, info)


def step(env: TextEnv, action: str) -> Result:
    """One step, with flags and numbers as Python's own. Raises WrongAnswer, and whatever Exception the environment raises."""
    answer = _asked(env, lambda: env.step(action), lambda: f"task {env._task_id}, step {env._steps + 1}")
    if not (isinstance(answer, tuple) and len(answer) == 5):
        raise _wrong(env, "step()", answer, "a tuple of observation, reward, terminated, truncated and info")
    observation, reward, terminated, truncated, info = answer
    return (
        observation,
        _reward(env, reward),
        _flag(env, "terminated", terminated),
        _flag(env, "truncated", truncated),
        _info(env, observation, info),
    )


def close(env: TextEnv) -> None:
    """Close an environment; one that cannot be closed costs a warning."""
    try:
        env.close()
    except (Exception, SystemExit) as error:
        log.warning("environment %s cannot be closed: %s: %s", env.name, type(error).__name__, said(error))


def _asked(env: TextEnv, answer: Callable[[], Any], at: Callable[[], str]) -> Any:
    """What the environment answers; `at` says where in the episode. A child that it forked and let come back ends here: it
    would go on as a second run, or answer a second time."""
    process = os.getpid()
    try:
        return answer()
    except PASSED_ON:
        raise
    except BaseException as error:
        raise WrongAnswer(
            f"environment {env.name}, {at()}: raises {_short(error)}, which ends programs; it must raise an Exception instead"
        ) from error
    finally:
        if os.getpid() != process:
            os._exit(1)


def _info(env: TextEnv, observation: Any, info: Any) -> dict[str, Any]:
    """`info`, with flags and numbers as Python's own."""
    if not isinstance(info, dict):
        raise _wrong(env, "info", info, "a dictionary")
    if missing := NEEDED - info.keys():
        raise WrongAnswer(f"{_place(env)}: info lacks '{min(missing)}'; TextEnv makes it of a StepResult")
    actions, subgoals = info["admissible_actions"], info["subgoals"]
    if not (actions is None or isinstance(actions, list)):
        raise _wrong(env, "admissible_actions", actions, ALLOWED["admissible_actions"])
    if not isinstance(subgoals, (tuple, list)):
        raise _wrong(env, "subgoals", subgoals, ALLOWED["subgoals"])
    single = {"observation": observation, "task_id": info["task_id"], "state_key": info["state_key"]}
    single |= {name: info[name] for name in ("frame", "reason") if info.get(name) is not None}
    if not _readable([*single.values(), *(actions or ()), *subgoals]):
        several: dict[str, Sequence[Any]] = {"admissible_actions": actions or [], "subgoals": subgoals}
        raise _unreadable(env, {**{name: [text] for name, text in single.items()}, **several})
    if not info["state_key"]:
        raise _wrong(env, "state_key", info["state_key"], "a text that is not empty")
    own = {name: _flag(env, name, info[name]) for name in ("valid", "success", "changed") if name in info}
    score = _as_float(info["score"])
    if not -ROUNDING <= score <= 1 + ROUNDING:
        raise _wrong(env, "score", info["score"], "a number from 0 to 1")
    return {**info, **own, "score": score}


def _readable(texts: Sequence[Any]) -> bool:
    try:
        joined = "".join(texts)
        return joined.isascii() or bool(joined.encode())
    except (TypeError, UnicodeEncodeError):
        return False


def _unreadable(env: TextEnv, texts: dict[str, Sequence[Any]]) -> WrongAnswer:
    """Which field holds no text, or one that cannot be written."""
    name, found = next((name, found) for name, found in texts.items() if not _readable(found))
    several = name in ALLOWED
    if not all(isinstance(text, str) for text in found):
        return _wrong(env, name, found if several else found[0], ALLOWED.get(name, "a text"))
    odd = next(text for text in found if not _readable([text]))
    return WrongAnswer(
        f"{_place(env)}: {name} is no Unicode text, it holds half of a surrogate pair: {_short(odd)}. Replace such characters: "
        "text.encode('utf-8', 'replace').decode()"
    )


def _reward(env: TextEnv, value: Any) -> float:
    number = _as_float(value)
    if -LARGEST <= number <= LARGEST:
        return number
    raise _wrong(env, "reward", value, f"a finite number, of at most {LARGEST:g}")


def _as_float(value: Any) -> float:
    """The value as a number; nan, which keeps to no bound, for what is none."""
    if type(value) is float:  # told by its class at once; asking for the others takes longer than all else here
        return value
    try:  # before it is compared: small floats of numpy cannot be compared with large ones
        return float(value) if isinstance(value, (Real, np.bool_)) else math.nan
    except (OverflowError, ValueError):
        return math.nan


def _flag(env: TextEnv, name: str, value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise _wrong(env, name, value, "True or False")


def _wrong(env: TextEnv, name: str, value: Any, allowed: str) -> WrongAnswer:
    return WrongAnswer(f"{_place(env)}: {name} is {_short(value)} ({type(value).__name__}); it must be {allowed}")


def _place(env: TextEnv) -> str:
    return f"environment {env.name}, task {env._task_id}, {f'step {env._steps}' if env._steps else 'reset'}"


def _short(value: Any, most: int = 80) -> str:
    try:
        shown = ascii(value)
    except Exception:
        return "a value that cannot be shown"
    return shown if len(shown) <= most else f"{shown[:most]}..."
