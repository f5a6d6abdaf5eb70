"""Episodes of a run's folder for looking at: which iteration, whose tokens, which episode. Also of runs that were cut off.

Little is asked of a folder: settings that this version does not know, or a missing plug-in, are no reason to show nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

from omegaconf import OmegaConf

from agents.replay.branches import leaving
from agents.replay.build import Spell, mean_segments, view
from agents.replay.view import Episode, Iteration
from agents.runs.folder import RunFolder
from algorithms.base import Entry
from envs import registry, trajectory_file
from envs.common.structured import ConfigError
from envs.common.text import first_line, printable


class ReplayError(RuntimeError):
    """The episodes cannot be shown. The message says why and what to do."""


def read(path: str | Path, iteration: int | None = None) -> Iteration:
    """The episodes of `iteration` (the newest one if None). Raises ConfigError for what does not exist, ReplayError."""
    run = RunFolder.existing(path)
    number = _iteration(run, iteration)
    config, notes = _config(run)
    algo, env = _section(config, "algo"), _section(config, "env")
    gamma, shaped = _gamma(algo, notes), _shaped(algo, notes)
    spell = _tokenizer(run, notes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        trajectories = list(trajectory_file.read(run.trajectories(number), truncated="warn"))
        branched = run.branches(number)
        branches = leaving(trajectory_file.read(branched, truncated="warn"), gamma) if branched.exists() else {}
    notes += [printable(str(warning.message)) for warning in caught]
    if not any(t.steps for t in trajectories):
        raise ReplayError(f"{run.trajectories(number)} holds no step: choose another iteration={_listed(run.iterations())}")
    groups, compared = view(trajectories, spell, _task(env), gamma, shaped, branches)
    if any(step.judged is not None for t in trajectories for step in t.steps):
        notes.append(
            "subgoals are those that a judge saw; where the rules of the environment say otherwise, it stands at the step"
        )
    if not any("advantage" in step.credit for group in groups for e in group.episodes for step in e.steps):
        notes.append("no step of this iteration has credit")
    return Iteration(
        run=printable(run.name),
        number=number,
        method=printable(str(algo.get("name", "unknown method"))),
        environment=printable(str(env.get("name", trajectories[0].env_id))),
        gamma=gamma,
        compared=compared,
        groups=groups,
        segments=mean_segments(trajectories, groups),
        notes=notes,
    )


def choose(iteration: Iteration, number: int | None = None) -> tuple[Episode, str]:
    """The episode with that number, or the most instructive one, and why this one. Raises ConfigError."""
    episodes = iteration.episodes
    if number is not None:
        if number > len(episodes):
            raise ConfigError(f"episode is {number}; iteration {iteration.number} has episodes 1 to {len(episodes)}")
        return episodes[number - 1], "as asked for"
    best = max(
        episodes, key=lambda e: (e.contrast, iteration.group_of(e).contrast, len(e.advantages) > 0, e.success, -e.number)
    )
    if best.contrast:
        return best, "its tokens were credited most differently (largest less smallest advantage)"
    return best, "every step of an episode has the same credit; in its group the returns differ most"


def _iteration(run: RunFolder, wanted: int | None) -> int:
    found = run.iterations()
    if not found:
        raise ConfigError(f"{run.path} has no episodes of a training iteration yet: the first ones come with iteration 1")
    if wanted is not None and wanted not in found:
        raise ConfigError(f"iteration is {wanted}; {run.path} has episodes of {_listed(found)}")
    return found[-1] if wanted is None else wanted


def _listed(numbers: Sequence[int]) -> str:
    whole = numbers[-1] - numbers[0] == len(numbers) - 1 and len(numbers) > 2
    return f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers))


def _config(run: RunFolder) -> tuple[dict[str, Any], list[str]]:
    try:
        # Unresolved: an interpolation may name an environment variable, and the page goes to others.
        values = OmegaConf.to_container(OmegaConf.load(run.config), resolve=False)
    except Exception as error:  # whatever is wrong with the settings, the episodes can be shown
        return {}, [f"settings are not known: {run.config} cannot be read ({printable(first_line(error))})"]
    return ({str(key): value for key, value in values.items()} if isinstance(values, dict) else {}), []


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}


def _gamma(algo: dict[str, Any], notes: list[str]) -> float:
    """The discount; 1 where the settings name none."""
    value = algo.get("gamma", 1.0)
    if type(value) in (int, float) and math.isfinite(value):
        return float(value)
    notes.append(printable(f"returns are shown without discount: algo.gamma is {value!r}"))
    return 1.0


def _shaped(algo: dict[str, Any], notes: list[str]) -> dict[str, Entry]:
    """How shaped rewards enter returns, as far as that is understood."""
    value = algo.get("shaped_at") or {}
    known = {k: v for k, v in value.items() if v in get_args(Entry)} if isinstance(value, dict) else {}
    if known != value:
        notes.append(printable(f"shaped rewards may be missing in the returns shown: algo.shaped_at is {value!r}"))
    return known


def _task(env: dict[str, Any]) -> Callable[[str], str]:
    """How a task is found in a first observation; of an environment that is not installed it is the observation's end."""
    try:
        return registry.spec(str(env.get("name"))).prompt().task
    except (registry.UnknownEnvironment, ImportError):
        return lambda observation: (observation.strip().splitlines() or [""])[-1]


def _tokenizer(run: RunFolder, notes: list[str]) -> Spell:
    """How ids are spelled; where that is not known, as None. The whole of transformers is not needed for it."""
    file = next((f for f in (run.path / "tokenizer" / "tokenizer.json", run.model / "tokenizer.json") if f.is_file()), None)
    if file is None:
        notes.append("tokens are shown as numbers: the run has no tokenizer")
        return lambda ids: [None] * len(ids)
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more special
        notes.append(printable(f"tokens are shown as numbers: {file} cannot be read ({error})"))
        return lambda ids: [None] * len(ids)

    @cache
    def after(previous: tuple[int, ...], token: int) -> str:
        # Some decoders drop the space before a first token; after another one it stays.
        whole = tokenizer.decode([*previous, token], skip_special_tokens=False)
        return str(whole.removeprefix(tokenizer.decode(list(previous), skip_special_tokens=False)))

    return lambda ids: [after(tuple(ids[max(0, place - 1) : place]), token) for place, token in enumerate(ids)]
