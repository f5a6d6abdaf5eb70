"""What an audit plays: groups of episodes, and continuations from their states. All of it is on disk as soon as it has ended.

An audit that was stopped goes on with what its folder holds: groups that ended, and single continuations. Seeds are functions
of the audit's seed and of names, so what is played does not depend on where it was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
from rich.progress import Progress

from agents.auditing.states import States
from agents.auditing.truth import Returns
from agents.rollout.branching import Branch, continued
from agents.rollout.planner import Episode, Planner, group_episodes
from agents.rollout.sampler import OnEpisode, Sampler
from agents.runs.metrics import read_lines
from algorithms.base import Ints
from envs import trajectory_file
from envs.base import TextEnv
from envs.common import disk
from envs.common.files import read_json
from envs.common.seeding import derive, generator
from envs.common.structured import ConfigError
from envs.trajectory import Trajectory

PIECE = 2048
"""Continuations that are played together: all of a piece are in memory until it has ended."""

Told = Callable[[int, int], None]
"""How many have ended, of how many."""


def watching(progress: Progress, what: str) -> Told:
    """A new bar."""
    bar = progress.add_task(what)
    return lambda done, total: progress.update(bar, completed=done, total=total)


def watch(progress: Progress, what: str, number: int) -> OnEpisode:
    """A new bar of so many episodes, to be told of each that has ended."""
    told, ended = watching(progress, what), count(1)
    return lambda episode: told(next(ended), number)


class AuditError(RuntimeError):
    """An audit cannot be made as asked. The message says why and what to do."""


@dataclass
class Store:
    """The files of an audit; those that a kill has cut are repaired."""

    folder: Path
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    """What each stage took so far."""

    def __post_init__(self) -> None:
        self.groups = self.folder / "episodes.jsonl"
        self.greedy = self.folder / "greedy.jsonl"
        self.branches = self.folder / "branches.jsonl"
        self.continuations = self.folder / "continuations.jsonl"
        self.futures = self.folder / "futures.jsonl"
        self._costs = self.folder / "costs.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in (self.groups, self.greedy, self.branches, self.futures, *self.folder.glob("fit-*.jsonl")):
            if file.exists():
                trajectory_file.repair(file)
        if self.continuations.exists():
            lines = read_lines(self.continuations)
            disk.write(self.continuations, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        if self._costs.exists():
            self.costs = read_json(self._costs, "delete it; seconds and tokens then count from here on")

    def spend(self, stage: str, **amounts: float) -> None:
        """Add to what a stage took."""
        of_stage = self.costs.setdefault(stage, {})
        for name, amount in amounts.items():
            of_stage[name] = of_stage.get(name, 0.0) + amount
        disk.write(self._costs, json.dumps(self.costs, indent=1).encode())


def planned(env: TextEnv, split: str, groups: int, size: int, seed: int) -> list[Episode]:
    """Groups of episodes of different tasks, drawn from the split; the tasks come again where there are fewer.

    Raises ConfigError for a split without tasks.
    """
    tasks = env.tasks(split)  # type: ignore[arg-type]
    if not tasks:
        raise ConfigError(f"environment '{env.name}': the {split} split has no tasks; choose another with split=")
    order = generator(seed, "audit", "tasks", split).permutation(len(tasks))
    chosen = [tasks[int(order[place % len(tasks)])] for place in range(groups)]
    return group_episodes(seed, "audit", split, chosen, size, split)


async def episodes(
    sampler: Sampler, plan: Sequence[Episode], temperature: float, store: Store, file: Path, stage: str, told: Told
) -> list[list[Trajectory]]:
    """The groups of `plan`, in its order; those that `file` holds are not played again."""
    groups: dict[str, list[Trajectory]] = {}
    if file.exists():
        for trajectory in trajectory_file.read(file):
            groups.setdefault(trajectory.group_id, []).append(trajectory)
    sizes: dict[str, int] = {}
    for episode in plan:
        sizes[episode.group_id] = sizes.get(episode.group_id, 0) + 1
    done = {name for name, members in groups.items() if len(members) == sizes.get(name)}
    missing = [episode for episode in plan if episode.group_id not in done]
    ended, started = len(plan) - len(missing), time.perf_counter()
    told(ended, len(plan))
    sampler.player.engine.stats.take()
    try:
        async for group in sampler.groups(missing, temperature):
            trajectory_file.append(file, group)
            groups[group[0].group_id] = group
            ended += len(group)
            told(ended, len(plan))
    finally:
        tokens = sampler.player.engine.stats.take()
        store.spend(stage, tokens=tokens["computed"], sampled=tokens["sampled"], seconds=time.perf_counter() - started)
    return [groups[name] for name in sizes]


async def greedy(sampler: Sampler, trajectories: Sequence[Trajectory], store: Store) -> list[Trajectory]:
    """An episode at temperature 0 for each group, for methods that compare with it."""
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        groups.setdefault(trajectory.group_id, []).append(trajectory)
    plan = Planner.greedy(list(groups.values()))
    played = await episodes(sampler, plan, 0.0, store, store.greedy, "greedy", lambda done, total: None)
    return [one for group in played for one in group]


@dataclass(frozen=True, slots=True)
class Round:
    """Continuations [C] of states, by number."""

    name: str
    state: Ints
    """[C]"""
    branches: list[Branch]
    """[C]"""

    @classmethod
    def of(cls, name: str, states: States, counts: Ints, seed: int) -> Round:
        """counts: [V] continuations of each state."""
        state = np.repeat(np.arange(len(counts)), counts)
        branches = [
            Branch(states.trajectories[met.episode], met.step, derive(seed, "audit", name, states.name(v), number), met.token)
            for v, (met, count) in enumerate(zip(states.met, counts.tolist()))
            for number in range(count)
        ]
        return cls(name, state, branches)


async def returns(
    sampler: Sampler, round_: Round, temperature: float, gamma: float, store: Store, keep: Iterable[int], told: Told
) -> Returns:
    """What the round's continuations returned from their states on; those that the store holds are not played again.

    keep: states whose continuations are kept whole, in `store.futures`. Continuations that a fault cut off are left out.
    """
    kept = frozenset(keep)
    place = {branch.name: number for number, branch in enumerate(round_.branches)}
    found: dict[int, float | None] = {}
    if store.continuations.exists():
        for line in read_lines(store.continuations):
            if line["name"] in place:
                found[place[line["name"]]] = line["return"]
    missing = [number for number in range(len(round_.branches)) if number not in found]
    told(len(found), len(place))

    def ended(trajectory: Trajectory) -> None:
        number = place[trajectory.name]
        branch = round_.branches[number]
        value = None if trajectory.error is not None else discounted(trajectory, branch.step, gamma)
        if value is not None and int(round_.state[number]) in kept:
            trajectory_file.append(store.futures, [trajectory])
        line = {"name": trajectory.name, "return": value, "steps": len(trajectory.steps) - branch.step}
        with store.continuations.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        found[number] = value
        told(len(found), len(place))

    for first in range(0, len(missing), PIECE):
        with counting(sampler, store, round_.name, "continuations"):
            await continued(sampler, [round_.branches[number] for number in missing[first : first + PIECE]], temperature, ended)
    known = [(number, value) for number, value in sorted(found.items()) if value is not None]
    numbers = np.array([number for number, _ in known], dtype=np.int64)
    return Returns(round_.state[numbers], np.array([value for _, value in known], dtype=np.float64))


@contextmanager
def counting(sampler: Sampler, store: Store, stage: str, what: str) -> Iterator[None]:
    """Within: what the sampler continues is a part of the stage, and `what` counts it there."""
    started = time.perf_counter()
    sampler.branched.take()
    try:
        yield
    finally:
        spent = sampler.branched.take()
        names = {"computed": "tokens", "sampled": "sampled", "steps": "steps", "replayed": "replayed", "faults": "faults"}
        amounts = {to: float(spent[name]) for name, to in {**names, "episodes": what}.items()}
        store.spend(stage, **amounts, seconds=time.perf_counter() - started)


def futures(store: Store, round_: Round, wanted: Iterable[int]) -> dict[int, list[Trajectory]]:
    """The continuations of some states that were kept whole, in the round's order."""
    place = {branch.name: number for number, branch in enumerate(round_.branches)}
    whole = {t.name: t for t in trajectory_file.read(store.futures)} if store.futures.exists() else {}
    found: dict[int, list[Trajectory]] = {state: [] for state in wanted}
    for name in sorted(whole.keys() & place.keys(), key=place.__getitem__):
        state = int(round_.state[place[name]])
        if state in found:
            found[state].append(whole[name])
    return found


def discounted(trajectory: Trajectory, step: int, gamma: float) -> float:
    """Return from a step on."""
    return float(sum(gamma**t * one.reward for t, one in enumerate(trajectory.steps[step:])))
