"""What a comparison consists of, from the command line: arms, seeds, budget, and the configuration of every run.

Everything that can be refused is refused here, before a run begins.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from agents.config import compose, loading
from agents.config.commands import TrainConfig
from agents.config.differences import differences, settings
from agents.config.overrides import assignment
from agents.config.overrides import read as read_override
from agents.runs.folder import RunFolder
from envs.common.structured import ConfigError, keys, paths, unknown_key

OWN = ("algos", "seeds", "budget", "repeats", "jobs", "out")
FIXED = {
    "algo": 'name methods in algos=[...], or describe an arm: arm.<name>="algo=..."',
    "seed": "give seeds=3 or seeds=[0,1,2]",
    "step_budget": "give budget=",
    "run": "runs are named after arm and seed",
    "resume": "the same command goes on with what is there",
}
"""Training keys that the comparison sets itself, and what to write instead."""
SAME = ("env", "model", "warmstart", "evaluation")
"""Sections in which arms must not differ: tasks, warm start and measurement would not be the same."""
MOST = 1000
"""Seeds that one may ask for; more is a slip of the finger."""


@dataclass
class Run:
    """One arm with one seed."""

    arm: str
    seed: int
    config: TrainConfig
    overrides: list[str]
    folder: RunFolder
    failed: str | None = None
    """Why it failed."""

    @property
    def name(self) -> str:
        return f"{self.arm}, seed {self.seed}"

    @property
    def status(self) -> str | None:
        """What the run's status.json says; None if there is none."""
        status: str | None = self.folder.get_status().get("status")
        return status


@dataclass
class Plan:
    """A comparison."""

    arguments: list[str]
    arms: dict[str, list[str]]
    """Own overrides of each arm."""
    seeds: list[int]
    runs: list[Run]
    """Arm by arm, so that the first arm makes the seeds' warm starts."""
    budget: int | None
    """Environment steps of each run; None: as many iterations as the configuration says."""
    budget_source: str
    """Where the budget comes from, in words."""
    repeats: int
    """Episodes a task of the final evaluation."""
    jobs: int
    """Runs at a time."""
    out: Path

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def of(self, arm: str) -> list[Run]:
        """The runs of an arm."""
        return [run for run in self.runs if run.arm == arm]


def read(arguments: Sequence[str]) -> Plan:
    """The plan that the command line describes. Raises ConfigError."""
    own: dict[str, Any] = {}
    described: dict[str, list[str]] = {}
    shared: list[str] = []
    for line in arguments:
        key, equals, value = line.partition("=")
        if key.startswith("-"):
            raise ConfigError(f"unknown option {key}; settings are written key=value, for example seeds=3")
        if key.startswith("arm."):
            name = _arm_name(key)
            if name in described:
                raise ConfigError(f"{key} is given twice; give one of them another name")
            described[name] = _words(key, value)
        elif key in OWN and equals:
            if key in own:
                raise ConfigError(f"{key} is given twice; give it once")
            own[key] = _own(key, value)
        else:
            _refuse_fixed(line)
            _refuse_unknown(key)
            shared.append(line)
    methods = own.get("algos", [] if described else ["gigpo", "grpo"])
    methods = [methods] if isinstance(methods, str) else methods
    if not isinstance(methods, list) or not all(isinstance(name, str) for name in methods):
        raise ConfigError(f"algos is {methods!r}; write a list of methods in brackets: algos=[gigpo,grpo]")
    arms = {name: [f"algo={name}"] for name in methods}
    for name, overrides in described.items():
        if name in arms:
            raise ConfigError(f"two arms are named '{name}'; give the arm of arm.{name} another name")
        _refuse_fixed(*overrides, besides="algo")
        if any(line.lstrip("+").startswith("iterations=") for line in overrides):
            raise ConfigError(
                "iterations= is the same for every arm, or their budgets would not be equal; write it outside the arm"
            )
        arms[name] = overrides
    seeds = _seeds(own.get("seeds", 3))
    if len(methods) != len(set(methods)) or not arms:
        raise ConfigError("algos must name each method once, and at least one")
    configs = {name: _load(name, [*shared, *overrides]) for name, overrides in arms.items()}
    _refuse_other_tasks(configs)
    extra, budget, source = _length(configs, shared, _natural(own, "budget", None))
    out = Path(str(own.get("out") or f"runs/compare-{next(iter(configs.values())).env.name}-{'-'.join(arms)}"))
    runs = []
    for name, overrides in arms.items():
        wanted = [*shared, *overrides, *extra]
        if not any(line.startswith("threads=") for line in wanted):
            wanted.append("threads=1")
        config = _load(name, wanted)
        for seed in seeds:
            folder = f"{name}-seed{seed}"
            one = replace(config, seed=seed, run=folder, out=str(out))
            lines = [*wanted, f"seed={seed}", assignment("run", folder), assignment("out", out)]
            runs.append(Run(name, seed, one, lines, RunFolder(out / folder)))
    jobs = _natural(own, "jobs", None) or _jobs(runs[0].config)
    repeats = _natural(own, "repeats", 1)
    plan = Plan(list(arguments), arms, seeds, runs, budget, source, repeats or 1, jobs, out)
    for run in plan:
        refuse_other_run(run)
    return plan


def refuse_other_run(run: Run) -> None:
    """Raise ConfigError if the run's folder holds a run of another configuration than is asked for."""
    if run.status is None:
        return
    saved = OmegaConf.to_container(OmegaConf.load(run.folder.config))
    assert isinstance(saved, dict)
    try:
        there = settings(loading.finish(TrainConfig, {str(key): value for key, value in saved.items()}))
    except ConfigError as exc:
        raise ConfigError(f"{run.folder.path} holds a run that this version cannot read ({exc}); choose another out=") from exc
    asked = settings(run.config)
    differing = differences({"there": there, "asked": asked})
    if differing:
        lines = "\n".join(f"  {key}: {pair['there']} there, {pair['asked']} asked" for key, pair in differing.items())
        raise ConfigError(
            f"{run.folder.path} holds a run with other settings:\n{lines}\nGive them as they were to go on, choose another "
            "out= for a new comparison, or move that folder away"
        )


def _arm_name(key: str) -> str:
    name = key.removeprefix("arm.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name):
        raise ConfigError(f"'{key}': an arm's name has letters, digits and _ . + - only, because its runs' folders bear it")
    return name


def _words(key: str, value: str) -> list[str]:
    try:
        words = shlex.split(value)
    except ValueError as exc:
        raise ConfigError(f'cannot read {key}={value}: {exc}; write {key}="algo=grpo optim.lr=1e-5"') from exc
    if not words:
        raise ConfigError(f'{key} has no settings of its own; write {key}="algo=grpo optim.lr=1e-5"')
    return words


def _own(key: str, value: str) -> Any:
    """The value of one of the comparison's own keys; a list may do without its brackets."""
    override = read_override(f"{key}={value}")
    if override.is_sweep_override():
        if key not in ("algos", "seeds"):
            raise ConfigError(f"{key} is {value}; give one value")
        override = read_override(f"{key}=[{value}]")
    return override.value()


def _refuse_unknown(key: str) -> None:
    """Raise ConfigError for a first word that neither the comparison nor a training knows."""
    first = key.lstrip("+~").partition(".")[0].partition("@")[0]
    known = {*keys(TrainConfig), *compose.groups(), "hydra"} - {*FIXED}
    if first not in known | {*FIXED}:
        inside = [path for path in paths(TrainConfig) if path.rpartition(".")[2] == first]
        raise unknown_key(first, {*OWN, *known - {"hydra"}}, also=inside)


def _refuse_fixed(*lines: str, besides: str = "") -> None:
    for line in lines:
        key = line.partition("=")[0].lstrip("+~")
        if "=" not in line and not line.startswith("~"):
            raise ConfigError(f"cannot read '{line}': write key=value, for example seeds=3")
        if key in FIXED and key != besides:
            raise ConfigError(f"'{line}' cannot be given in a comparison: {FIXED[key]}")
        if key in OWN:
            raise ConfigError(f"'{line}' holds for the comparison as a whole; write it outside the arm, as {key}=...")


def _seeds(value: Any) -> list[int]:
    if type(value) is int and value > MOST:
        raise ConfigError(f"seeds is {value}; at most {MOST} at a time")
    seeds = list(range(value)) if type(value) is int else value
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ConfigError(f"seeds is {value!r}; write how many, seeds=3, or which, seeds=[0,1,2]")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds is {value!r}; the same seed twice is the same run")
    return seeds


def _natural(own: Mapping[str, Any], key: str, default: int | None) -> int | None:
    value = own.get(key, default)
    if key in own and (type(value) is not int or value < 1):
        raise ConfigError(f"{key} is {value!r}; it must be a whole number of at least 1")
    return value


def _load(arm: str, overrides: Sequence[str]) -> TrainConfig:
    try:
        return loading.load(overrides)
    except ConfigError as exc:
        raise ConfigError(f"arm '{arm}': {exc}") from exc


def _refuse_other_tasks(configs: Mapping[str, TrainConfig]) -> None:
    for name, config in configs.items():
        if not (config.evaluation.before and config.evaluation.after):
            raise ConfigError(f"arm '{name}': a comparison needs evaluation.before=true and evaluation.after=true")
    found = differences({name: settings(config) for name, config in configs.items()})
    wrong = {key: row for key, row in found.items() if key.partition(".")[0] in SAME}
    if wrong:
        lines = "; ".join(f"{key}: {', '.join(f'{arm} {value}' for arm, value in row.items())}" for key, row in wrong.items())
        raise ConfigError(
            f"arms differ in {lines}. Tasks, model, warm start and evaluation must be the same, or success says nothing "
            "about the method: give such a setting for all arms"
        )


def _length(configs: Mapping[str, TrainConfig], shared: Sequence[str], budget: int | None) -> tuple[list[str], int | None, str]:
    """Overrides that make all runs equally long, the budget, and where it comes from.

    `iterations=` without `budget=` is taken at its word. Otherwise steps are what counts, and `iterations` becomes a limit that
    is not reached while an episode takes a quarter of env.max_steps or more.
    """
    counted = any(line.lstrip("+").startswith("iterations=") for line in shared)
    if counted and budget is None:
        return [], None, "iterations, as given: as many episodes for every arm, not as many steps"
    first = next(iter(configs.values()))
    longest = getattr(first.env.settings, "max_steps", None)
    if longest is None:
        if budget is None or not counted:
            raise ConfigError(
                f"environment '{first.env.name}' has no setting max_steps from which a budget could be estimated: give both "
                "budget= (environment steps) and iterations= (a limit that is not to be reached)"
            )
        return [f"step_budget={budget}"], budget, "given"
    source = "given"
    if budget is None:
        episodes = first.rollout.groups * first.rollout.group_size
        budget = max(1, first.iterations * episodes * longest // 2)
        arm = next(iter(configs))
        source = (
            f"{first.iterations} iterations (the configuration of {arm}) of {episodes} episodes that take half of "
            f"env.max_steps={longest}"
        )
    if counted:
        return [f"step_budget={budget}"], budget, source
    fewest = min(config.rollout.groups * config.rollout.group_size for config in configs.values())
    return [f"step_budget={budget}", f"iterations={math.ceil(4 * budget / (fewest * longest))}"], budget, source


def _jobs(config: TrainConfig) -> int:
    """One run at a time on a GPU, else as many as there are cores for their threads."""
    if config.device == "cuda" or (config.device == "auto" and Path("/proc/driver/nvidia/version").exists()):
        return 1
    cores = os.cpu_count() or 1
    return max(1, cores // (config.threads or cores))
