"""Splits of MiniHack tasks: which levels with which seeds train, evaluate and test, by names that say it all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from envs.base import SPLITS, Split, TaskError
from envs.common.structured import suggestion
from envs.minihack.levels import Level

_ID = re.compile(rf"([^/]+)/({'|'.join(SPLITS)})/([0-9]{{6}})")


def split_tasks(levels: Sequence[Level], split: Split, counts: Mapping[Split, int]) -> tuple[str, ...]:
    """As many task ids as `counts` says, the levels taking turns: "KeyRoom-S5/train/000042". Raises TaskError."""
    if split not in SPLITS:
        raise TaskError(f"split is '{split}'; allowed: {', '.join(SPLITS)}")
    return tuple(f"{levels[n % len(levels)].name}/{split}/{n // len(levels):06d}" for n in range(counts[split]))


def split(task_id: str) -> Split:
    """The split of a task that `level` knows."""
    found: Split = task_id.split("/")[1]  # type: ignore[assignment]
    return found


def level(levels: Sequence[Level], task_id: str) -> Level:
    """The level of a task. Raises TaskError."""
    names = [one.name for one in levels]
    found = _ID.fullmatch(task_id)
    if not found:
        raise TaskError(f"no task '{task_id}'; ids look like '{names[0]}/train/000042'")
    if found.group(1) not in names:
        hint = suggestion(found.group(1), names)
        raise TaskError(f"no task '{task_id}': its level is not among env.levels.{hint}")
    return levels[names.index(found.group(1))]
