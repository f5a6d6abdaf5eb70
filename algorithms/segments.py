"""Subgoal segments: parts of an episode that end where a subgoal is reached, over which the credit of steps is averaged.

Which subgoals there are, and who says that one was reached (the environment's rules or a judge), is left to others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from envs.trajectory import Step, Trajectory


@dataclass(frozen=True, slots=True)
class SubgoalSegment:
    """Some steps of an episode, one after another."""

    name: str | None
    """The subgoals that its last step reached; None for what was done after the last one."""
    first: int
    last: int
    """Its first and last step, counted from 0."""


@dataclass(frozen=True, slots=True)
class Credit:
    """What some segments got, each a mean."""

    count: int
    """How many segments these are."""
    steps: float
    """Steps of a segment."""
    advantage: float | None
    """Of a step; None: no step has one."""
    reward: float
    """The environment's own, summed over a segment."""
    shaped: dict[str, float]
    """What each shaping paid, summed over a segment."""


def reached(steps: Sequence[Step], by: Literal["subgoals", "judged"] | None = None) -> list[list[str]]:
    """For each step of an episode the subgoals that it reached, each of them once, in the order noted.

    by: the field of a step that counts: `subgoals` (the environment's rules: achieved so far) or `judged` (a judge: achieved by
    this step). None: the judge's, where one was asked.
    """
    key = by or ("judged" if any(step.judged is not None for step in steps) else "subgoals")
    found: list[list[str]] = []
    seen: set[str] = set()
    for step in steps:
        found.append([name for name in dict.fromkeys(map(str, getattr(step, key) or ())) if name not in seen])
        seen.update(found[-1])
    return found


def subgoal_segments(trajectory: Trajectory) -> list[SubgoalSegment]:
    """The segments of an episode, without a gap from its first step to its last."""
    found: list[SubgoalSegment] = []
    first = 0
    for place, names in enumerate(reached(trajectory.steps)):
        if names:
            found.append(SubgoalSegment(", ".join(names), first, place))
            first = place + 1
    if first < len(trajectory.steps):
        found.append(SubgoalSegment(None, first, len(trajectory.steps) - 1))
    return found


def credit(segments: Sequence[Sequence[Step]]) -> Credit:
    """Means over segments, given as their steps; at least one. The advantage is a mean over the steps of all of them."""
    steps = [step for segment in segments for step in segment]
    names = dict.fromkeys(name for step in steps for name in step.shaped_rewards)
    count = len(segments)
    return Credit(
        count=count,
        steps=len(steps) / count,
        advantage=mean(map(_advantage, steps)),
        reward=sum(step.reward for step in steps) / count,
        shaped={name: sum(step.shaped_rewards.get(name, 0.0) for step in steps) / count for name in names},
    )


def by_subgoal(trajectories: Sequence[Trajectory]) -> dict[str | None, Credit]:
    """Means over all segments of a name, in the order in which they end on average; what came after the last one is last."""
    segments: dict[str | None, list[Sequence[Step]]] = {}
    ends: dict[str | None, list[float]] = {}
    for trajectory in trajectories:
        for segment in subgoal_segments(trajectory):
            segments.setdefault(segment.name, []).append(trajectory.steps[segment.first : segment.last + 1])
            ends.setdefault(segment.name, []).append(segment.last)
    order = sorted(segments, key=lambda name: (name is None, mean(ends[name])))
    return {name: credit(segments[name]) for name in order}


def _advantage(step: Step) -> float | None:
    """The advantage noted at a step, of tokens the mean over those that have one."""
    value = (step.credit or {}).get("advantage")
    return mean(
        [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, (int, float)) and math.isfinite(v)]
    )


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of those that there are."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
