"""Check that an environment keeps the contract and is deterministic: `python -m envs.checker NAME_OR_MODULE:CLASS [key=value]`.

It plays real episodes with seeded actions, and plays them again in the same instance, in a fresh one, in a fresh process, after
the process's random generators were seeded otherwise, and side by side with others, in turns and in threads. Where chance
decides, it is also drawn anew in the middle.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, get_type_hints

from envs.base import TextEnv
from envs.checker.chance import check_chance
from envs.checker.contract import (
    check_beginnings,
    check_end,
    check_nonsense,
    check_records,
    check_splits,
    check_starts,
    check_time_limit,
    check_turns,
    check_unknown_task,
)
from envs.checker.determinism import check_keys, check_repeats
from envs.checker.playing import Play, explore, spread
from envs.checker.problems import Problem, Problems
from envs.checker.surroundings import check_company, check_global_random, check_reading, generators_restored
from envs.common.seeding import derive
from envs.common.structured import build
from envs.registry import spec

__all__ = ["Problem", "check"]


def check(env: str | type[TextEnv] | Callable[[], TextEnv], episodes: int = 3, seed: int = 0, **config: Any) -> list[Problem]:
    """Problems of an environment (a registered name, "module:Class", a class, or a function that makes one); empty if fine."""
    problems = Problems()
    maker = maker_of(env, config)
    with (
        generators_restored(),
        problems.on(
            "it cannot be made", "the constructor takes the configuration and nothing else, and works with its defaults"
        ),
    ):
        one, two = maker(), maker()
        check_splits(one, two, problems)
        if isinstance(env, str) and ":" not in env and one.name != spec(env).name:
            problems.add(f"its name is '{one.name}', but it is registered as '{spec(env).name}'", "use one name for both")
        if problems.found:
            return problems.found
        plays = [
            *(Play(derive(seed, "episode", n), task) for n, task in enumerate(spread(one.tasks("train"), episodes))),
            *(Play(derive(seed, split), one.tasks(split)[0]) for split in ("eval", "test")),
            Play(derive(seed, "drawn"), None),
        ]
        check_turns(maker(), plays[0], problems)
        if problems.found:
            return problems.found
        played, records = [], []
        for play in plays:
            with problems.on(f"{play}: an episode cannot be played", "answer every action; an impossible one with valid=False"):
                found = explore(one, play)
                records.append(found)
                played.append(replace(play, actions=tuple(step["action"] for step in found[1:])))
        for play, found in zip(played, records):
            check_records(play, found, problems)
        if problems.found and not records:
            return problems.found
        check_starts(maker(), problems)
        check_beginnings(maker(), plays[:-1], problems)
        check_end(maker(), played, records, problems)
        check_nonsense(maker(), plays[0], problems)
        check_time_limit(maker(), plays[0], problems)
        check_unknown_task(maker(), problems)
        check_keys(one, played, records, problems)
        check_chance(maker, played, records, problems)
        check_reading(maker(), played[0], records[0], problems)
        check_repeats(maker, one, two, played, records, problems)
        check_global_random(maker, played, records, problems)
        check_company(maker, played, records, problems)
    return problems.found


def maker_of(env: str | type[TextEnv] | Callable[[], TextEnv], config: dict[str, Any]) -> Callable[[], TextEnv]:
    """A function that makes the environment with `config` over its defaults."""
    if isinstance(env, str) and ":" not in env:
        found = spec(env)
        return partial(_construct, found.env, build(found.config, config, found.name))
    made: Any = env
    if isinstance(env, str):
        module, _, attribute = env.partition(":")
        try:
            made = getattr(import_module(module), attribute)
        except AttributeError as error:
            raise ImportError(f"module '{module}' has no '{attribute}'") from error
    if isinstance(made, type):
        return partial(_construct, made, build(_config_of(made), config, made.__name__))
    if config:
        raise TypeError("a function that makes the environment takes no configuration; put it into the function")
    function: Callable[[], TextEnv] = made
    return function


def _config_of(env: type) -> type[Any]:
    parameters = list(inspect.signature(env).parameters)
    hint = get_type_hints(env.__init__).get(parameters[0]) if len(parameters) == 1 else None  # type: ignore[misc]
    if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        raise TypeError(
            f"{env.__name__} must take its configuration and nothing else: "
            "`def __init__(self, config: MyConfig) -> None`, where MyConfig is a dataclass"
        )
    return hint


def _construct(env: type[Any], config: Any) -> TextEnv:
    made: TextEnv = env(config)
    return made
