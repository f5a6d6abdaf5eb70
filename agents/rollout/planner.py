"""Which episodes are played: an iteration's tasks, a group of episodes for each, what replaces groups that teach nothing.

Pure: a function of root seed and iteration number, so a resumed run plays what the uninterrupted one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.config.sections import EvalConfig
from envs.base import TextEnv
from envs.common.seeding import derive, generator
from envs.trajectory import Trajectory

GREEDY = "+greedy"
"""Ends the group id of a greedy episode, which is not one of the group that it is compared with."""


@dataclass(frozen=True, slots=True)
class Episode:
    """What is to be played. Group members share task and environment seed, and differ in `sample_seed`."""

    task_id: str
    group_id: str
    seed: int
    sample_seed: int
    split: str


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans the episodes of training. Iterations are 1, 2, ..."""

    train: Sequence[str]
    """Tasks of the train split."""
    groups: int
    group_size: int
    seed: int
    """Root seed of the run."""

    def episodes(self, iteration: int) -> list[Episode]:
        """The episodes of an iteration, group by group."""
        return group_episodes(self.seed, "train", iteration, self.tasks(iteration), self.group_size, "train")

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
        return group_episodes(self.seed, "train", f"{iteration}+{round_ + 1}", tasks, self.group_size, "train")

    @staticmethod
    def greedy(groups: Sequence[Sequence[Trajectory | Episode]]) -> list[Episode]:
        """An episode for each group, in the same task and environment, to be played at temperature 0."""
        firsts = [group[0] for group in groups]
        return [Episode(t.task_id, f"{t.group_id}{GREEDY}", t.seed, 0, t.split) for t in firsts]


def group_episodes(
    root: int, stage: str, index: int | str, task_ids: Sequence[str], group_size: int, split: str
) -> list[Episode]:
    """`group_size` episodes for each task; seeds are derived from `root` by name, so no order of calls matters."""
    return [
        Episode(
            task_id=task_id,
            group_id=f"{stage}-{index}-{place}",
            seed=derive(root, stage, index, "environment", task_id),
            sample_seed=derive(root, stage, index, "sample", place, member),
            split=split,
        )
        for place, task_id in enumerate(task_ids)
        for member in range(group_size)
    ]


def evaluation_episodes(config: EvalConfig, env: TextEnv, seed: int) -> list[Episode]:
    """The episodes of an evaluation: the same ones each time."""
    tasks = env.tasks(config.split)[: config.episodes]
    return split_episodes(derive(seed, "evaluation", config.split), tasks, config.repeats, config.split)


def split_episodes(seed: int, task_ids: Sequence[str], repeats: int, split: str) -> list[Episode]:
    """`repeats` episodes of each task of a split, named `task#attempt`; seeds are functions of task and attempt."""
    return [
        Episode(task_id, f"{task_id}#{attempt}", derive(seed, task_id), derive(seed, task_id, "sample", attempt), split)
        for attempt in range(repeats)
        for task_id in task_ids
    ]
