"""Which episodes are played: an iteration's tasks, a group of episodes for each, what replaces groups that teach nothing, and
from where others are continued.

Pure: a function of root seed and iteration number, so a resumed run plays what the uninterrupted one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agents.config.sections import EvalConfig
from agents.rollout.curriculum import UNLIMITED, Budget, Curriculum
from envs.base import TextEnv
from envs.common.seeding import derive, generator, sequence
from envs.trajectory import Trajectory

GREEDY = "+greedy"
"""Ends the group id of a greedy episode, which is not one of the group that it is compared with."""


class Kept(NamedTuple):
    """The beginning of a response that was sampled before."""

    ids: list[int]
    logprobs: list[float]
    versions: list[int]


@dataclass(frozen=True, slots=True)
class Branch:
    """Where an episode is continued, in another way or in the same one. Raises ValueError for a place that it does not have."""

    parent: Trajectory
    """A finished episode, which may have been branched from another one."""
    step: int
    """The continuation begins before this step: those before it are the parent's. 0 .. number of its steps."""
    sample_seed: int
    """Of what is sampled anew. With that of the parent's own episode, and `chance=False`, the parent comes again."""
    token: int = 0
    """Tokens of that step's response that are kept before sampling goes on: fewer than it has."""
    chance: bool = True
    """Whether chance in the environment is drawn anew, too, by `sample_seed`; False: it goes on as it did in the parent."""

    def __post_init__(self) -> None:
        steps, where = self.parent.steps, f"episode {self.parent.called}"
        if not 0 <= self.step <= len(steps):
            raise ValueError(f"step is {self.step}; {where} can be continued before steps 0 to {len(steps)}")
        most = len(steps[self.step].response_ids) - 1 if self.step < len(steps) else 0
        if not 0 <= self.token <= max(0, most):
            raise ValueError(
                f"token is {self.token}; of step {self.step} of {where} 0 to {max(0, most)} tokens can be kept (after a whole "
                f"response comes step {self.step + 1})"
            )

    @property
    def name(self) -> str:
        """Of the continuation: the parent's, the place, and the seed that tells it from others."""
        place = f"{self.step}.{self.token}" if self.token else f"{self.step}"
        return f"{self.parent.called}>{place}#{self.sample_seed}"

    @property
    def over(self) -> bool:
        """Whether the parent ended before that step: nothing is left to be played."""
        return 0 < self.step == len(self.parent.steps) and (self.parent.steps[-1].terminated or self.parent.steps[-1].truncated)

    @property
    def kept(self) -> Kept:
        """What is kept of the response at `step`."""
        if not self.token:
            return Kept([], [], [])
        step, n = self.parent.steps[self.step], self.token
        return Kept(step.response_ids[:n], step.rollout_logprobs[:n], step.token_versions[:n])


@dataclass(frozen=True, slots=True)
class Episode:
    """What is to be played. Group members share task and environment seed, and differ in `sample_seed`."""

    task_id: str
    group_id: str
    seed: int
    sample_seed: int
    split: str
    member: int = 0
    """Its number in the group."""
    branch: Branch | None = None
    """What it continues; None: it begins at the beginning."""
    budget: Budget = UNLIMITED

    @classmethod
    def continuing(cls, branch: Branch) -> Episode:
        """The rest of an episode: in the group, task and environment of its parent."""
        parent = branch.parent
        return cls(parent.task_id, parent.group_id, parent.seed, branch.sample_seed, parent.split, branch=branch)

    def begun(self, env_id: str, context: str, attempt: int = 0) -> Trajectory:
        """Its trajectory before anything is played: without a step, or with those of the parent."""
        made = Trajectory(
            env_id,
            self.task_id,
            self.group_id,
            self.seed,
            self.split,
            context,
            attempt=attempt,
            name=f"{self.group_id}/{self.member}",
            turn_budget=self.budget.turns,
            token_budget=self.budget.tokens,
        )
        if self.branch is not None:
            parent, step = self.branch.parent, self.branch.step
            made.name, made.parent = self.branch.name, (parent.called, step)
            made.turn_budget, made.token_budget = parent.turn_budget, parent.token_budget
            made.steps = parent.steps[:step]
        return made


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans the episodes of training. Iterations are 1, 2, ..."""

    train: Sequence[str]
    """Tasks of the train split."""
    groups: int
    group_size: int
    seed: int
    """Root seed of the run."""
    curriculum: Curriculum | None = None
    """How many turns or tokens episodes may take; None: no limit of its own."""

    def budget(self, iteration: int) -> Budget:
        """Of the episodes of an iteration."""
        return UNLIMITED if self.curriculum is None else self.curriculum.budget(iteration)

    def episodes(self, iteration: int) -> list[Episode]:
        """The episodes of an iteration, group by group."""
        budget = self.budget(iteration)
        return group_episodes(self.seed, "train", iteration, self.tasks(iteration), self.group_size, "train", budget)

    def group(self, number: int) -> list[Episode]:
        """The episodes of a group; 0, 1, ... are those of iteration 1, and so on."""
        iteration, place = divmod(number, self.groups)
        return self.episodes(iteration + 1)[place * self.group_size : (place + 1) * self.group_size]

    def tasks(self, iteration: int) -> list[str]:
        """The iteration's tasks: the split in a new order every pass, cut at where earlier iterations stopped."""
        chosen = []
        for place in range((iteration - 1) * self.groups, iteration * self.groups):
            turn, index = divmod(place, len(self.train))
            order = generator(self.seed, "panel", "train", turn).permutation(len(self.train))
            chosen.append(self.train[int(order[index])])
        return chosen

    def replacements(self, iteration: int, round_: int, missing: int) -> list[Episode]:
        """`missing` groups of other tasks, drawn from the whole split, for round 0, 1, ... of dynamic sampling."""
        draw = generator(self.seed, "panel", "resample", iteration, round_)
        tasks = [self.train[int(i)] for i in draw.integers(len(self.train), size=missing)]
        index, budget = f"{iteration}+{round_ + 1}", self.budget(iteration)
        return group_episodes(self.seed, "train", index, tasks, self.group_size, "train", budget)

    @staticmethod
    def greedy(groups: Sequence[Sequence[Trajectory | Episode]], budget: Budget = UNLIMITED) -> list[Episode]:
        """An episode for each group, in the same task and environment, to be played at temperature 0."""
        firsts = [group[0] for group in groups]
        return [Episode(t.task_id, f"{t.group_id}{GREEDY}", t.seed, 0, t.split, budget=budget) for t in firsts]


def group_episodes(
    root: int,
    stage: str,
    index: int | str,
    task_ids: Sequence[str],
    group_size: int,
    split: str,
    budget: Budget = UNLIMITED,
) -> list[Episode]:
    """`group_size` episodes for each task; seeds are derived from `root` by name, so no order of calls matters."""
    return [
        Episode(
            task_id=task_id,
            group_id=f"{stage}-{index}-{place}",
            seed=derive(root, stage, index, "environment", task_id),
            sample_seed=derive(root, stage, index, "sample", place, member),
            split=split,
            member=member,
            budget=budget,
        )
        for place, task_id in enumerate(task_ids)
        for member in range(group_size)
    ]


def evaluation_episodes(config: EvalConfig, env: TextEnv, seed: int) -> list[Episode]:
    """The episodes of an evaluation: the same ones each time."""
    tasks = env.tasks(config.split)[: config.episodes]
    return split_episodes(derive(seed, "evaluation", config.split), tasks, config.repeats or 1, config.split)


def split_episodes(seed: int, task_ids: Sequence[str], repeats: int, split: str) -> list[Episode]:
    """`repeats` episodes of each task of a split, named `task#attempt`; seeds are functions of task and attempt."""
    return [
        Episode(task_id, f"{task_id}#{attempt}", derive(seed, task_id), derive(seed, task_id, "sample", attempt), split)
        for attempt in range(repeats)
        for task_id in task_ids
    ]


def branches_at(root: int, parent: Trajectory, step: int, count: int, token: int = 0) -> list[Branch]:
    """`count` continuations from one place; seeds are derived from `root` by the parent's name, the place and their number."""
    stream = sequence(root, "branch", parent.called, step, token)
    return [Branch(parent, step, int(seed), token) for seed in stream.generate_state(count, np.uint64) >> np.uint64(1)]
