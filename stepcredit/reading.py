"""Episodes from disk: a file, or a run's folder, as trajectories or as a table with one row a step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs import trajectory_file
from envs.trajectory import Step, Trajectory

if TYPE_CHECKING:
    import pandas


def read_trajectories(
    source: str | os.PathLike[str], iteration: int | None = None, split: str | None = None
) -> Iterator[Trajectory]:
    """The episodes of a file, or of a run's folder, one at a time.

    Of a folder: those trained on, of `iteration` or of all; with split="eval" or "test" those that `evaluate` played, of an
    episode that was played again after a fault the newest. Of a file: those of `split`, if given. A last line that its writer
    has not finished is a warning. Raises FileNotFoundError, with what there is, and TrajectoryFileError.
    """
    path = Path(source)
    if not path.is_dir():
        if iteration is not None:
            raise ValueError(f"{path} is no run folder: iteration chooses among the files of one")
        if not path.exists():
            raise FileNotFoundError(f"there is no file or run folder {path}")
        files, newest = [path], False
    else:
        files, newest = _files(path, iteration, split), split not in (None, "train")
    found = chain.from_iterable(_newest(file) if newest else trajectory_file.read(file, truncated="warn") for file in files)
    return (one for one in found if split in (None, one.split))


def _files(run: Path, iteration: int | None, split: str | None) -> list[Path]:
    if split not in (None, "train"):
        if iteration is not None:
            raise ValueError(f"iteration chooses among the episodes trained on; those of split={split} have none")
        played = sorted(run.glob(f"evaluation-{split}-*.episodes.jsonl"))
        if not played:
            raise FileNotFoundError(f"{run} has no episodes of split {split}: evaluate(run='{run}') plays and keeps them")
        return played
    from agents.runs.folder import RunFolder

    folder = RunFolder(run)
    there = folder.iterations()
    if not there:
        raise FileNotFoundError(f"{run} has no trajectories")
    if iteration not in (None, *there):
        raise FileNotFoundError(f"{run} has no episodes of iteration {iteration}; there are {', '.join(map(str, there))}")
    return [folder.trajectories(number) for number in there if iteration in (None, number)]


def _newest(file: Path) -> Iterable[Trajectory]:
    return {one.group_id: one for one in trajectory_file.read(file, truncated="warn")}.values()


def to_dataframe(trajectories: Iterable[Trajectory]) -> pandas.DataFrame:
    """One row a step: its episode's facts, what was seen and done, rewards, and the credit that a training run gave.

    `episode` counts the episodes from 0 and `step` the steps of each. `shaped/<name>` is what a shaping paid; `credit/<part>`
    what the method gave, of methods that credit tokens a list. Raises ImportError where pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_dataframe needs pandas: pip install pandas") from error
    return pandas.DataFrame(
        {"episode": number, **_of_episode(one), "step": place, **_of_step(step)}
        for number, one in enumerate(trajectories)
        for place, step in enumerate(one.steps)
    )


def _of_episode(one: Trajectory) -> dict[str, Any]:
    names = ("env_id", "task_id", "group_id", "seed", "split", "success", "score", "error", "cut_off")
    return {name: getattr(one, name) for name in names}


def _of_step(step: Step) -> dict[str, Any]:
    seen = ("observation", "action", "reward", "valid", "terminated", "truncated", "state_key", "changed")
    return {
        **{name: getattr(step, name) for name in (*seen, "subgoals", "judged")},
        "tokens": len(step.response_ids),
        **{f"shaped/{name}": value for name, value in step.shaped_rewards.items()},
        **{f"credit/{name}": value for name, value in (step.credit or {}).items()},
    }
