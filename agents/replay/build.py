"""Views of trajectories: credit by step and token, returns, and who was compared with whom.

Text that an environment or a model wrote leaves here with its hidden characters spelled out. What a plug-in noted as a step's
credit or frame is shown as far as it is of the form that is known. Files are left to `reading`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from agents.replay.branches import Place
from agents.replay.view import BESIDE, Branch, Episode, Group, Known, Step, Token
from agents.rollout.planner import GREEDY
from agents.training.columns import columns
from algorithms.base import Algorithm, Batch, Entry
from algorithms.segments import Credit, SubgoalSegment, by_subgoal, credit, mean, reached, subgoal_segments
from envs.common.text import printable
from envs.trajectory import Step as StoredStep
from envs.trajectory import Trajectory

Spell = Callable[[Sequence[int]], list[str | None]]
"""The texts of some token ids, None where they are not known."""


def view(
    trajectories: Sequence[Trajectory],
    spell: Spell,
    task: Callable[[str], str],
    gamma: float = 1.0,
    shaped_at: Mapping[str, Entry] | None = None,
    branches: Mapping[Place, list[Branch]] = MappingProxyType({}),
) -> tuple[list[Group], bool]:
    """Groups in order of appearance, and whether the steps say with which ones they were compared.

    `task` finds a task's words in a first observation; `gamma` and `shaped_at` are the method's settings of these names;
    `branches` by where they leave an episode.
    """
    grown = {name for (name, _), those in branches.items() if any(one.advantage is not None for one in those)}
    return_to_go = _returns(trajectories, gamma, shaped_at or {})
    compared = any(step.step_group is not None for t in trajectories for step in t.steps)
    credited = any(step.credit is not None for t in trajectories for step in t.steps)
    groups: dict[str, Group] = {}
    peers: dict[tuple[str | None, str], list[Step]] = {}
    for number, trajectory in enumerate(trajectories, 1):
        episode = Episode(
            number=number,
            task_id=printable(trajectory.task_id),
            success=trajectory.success,
            score=trajectory.score,
            error=None if trajectory.error is None else printable(trajectory.error),
            cut_off=None if trajectory.cut_off is None else printable(trajectory.cut_off),
            left_out=_left_out(trajectory, credited, trajectory.called in grown),
            reward=trajectory.total_reward,
            steps=[],
            segments=_segments(trajectory),
        )
        for stored, names, by_rules in zip(trajectory.steps, reached(trajectory.steps), reached(trajectory.steps, "subgoals")):
            step = _step(stored, trajectory.reason, episode, spell, return_to_go.get(id(stored)), names)
            if set(names) != set(by_rules):
                step.marks.append(f"by the rules: {printable(', '.join(by_rules)) or 'nothing'}")
            step.branches = branches.get((trajectory.called, len(episode.steps)), [])
            episode.steps.append(step)
            together = stored.step_group if compared else stored.state_key
            if episode.left_out is None and together not in (None, ""):
                peers.setdefault((None if compared else trajectory.group_id, str(together)), []).append(step)
        episode.final_observation, episode.final_frame = _text(trajectory.final_observation), _frame(trajectory.final_frame)
        first = trajectory.steps[0].observation if trajectory.steps else ""
        new = Group(printable(trajectory.group_id), printable(task(first)) or episode.task_id, [])
        groups.setdefault(trajectory.group_id, new).episodes.append(episode)
    for members in peers.values():
        if len(members) > 1:
            members.sort(key=lambda step: -(step.return_to_go or 0.0))
            for step in members:
                step.peers = members
    return list(groups.values()), compared


def mean_segments(trajectories: Sequence[Trajectory], groups: Sequence[Group]) -> dict[str | None, Credit]:
    """Means over the segments of the episodes that took part in the update; nothing where none of them reached a subgoal."""
    taken = {episode.number for group in groups for episode in group.episodes if episode.left_out is None}
    found = by_subgoal([trajectory for number, trajectory in enumerate(trajectories, 1) if number in taken])
    if not any(found):
        return {}
    return {name and printable(name): _printable(of_name) for name, of_name in found.items()}


def _segments(trajectory: Trajectory) -> list[tuple[SubgoalSegment, Credit]]:
    found = subgoal_segments(trajectory)
    if not any(segment.name for segment in found):
        return []
    return [
        (
            replace(segment, name=segment.name and printable(segment.name)),
            _printable(credit([trajectory.steps[segment.first : segment.last + 1]])),
        )
        for segment in found
    ]


def _printable(of_subgoal: Credit) -> Credit:
    return replace(of_subgoal, shaped={printable(name): paid for name, paid in of_subgoal.shaped.items() if paid})


def _left_out(trajectory: Trajectory, credited: bool, grown: bool) -> str | None:
    """Why an episode took no part in the update; `credited`: whether others did; `grown`: whether some that left it did."""
    if trajectory.error is not None:
        return f"cut off by a fault, so it took no part in the update: {printable(trajectory.error)}"
    if not trajectory.steps:
        return "lost before its first step: the first prompt is longer than the model can read, so nothing is learned from it"
    if trajectory.group_id.endswith(GREEDY):
        return "played greedily, not trained on"
    if credited and trajectory.steps and all(step.credit is None for step in trajectory.steps):
        return "its tree was learned from by other leaves" if grown else "dropped: all returns alike"
    return None


def _step(
    stored: StoredStep, reason: str | None, episode: Episode, spell: Spell, return_to_go: float | None, names: Sequence[str]
) -> Step:
    credit = {printable(str(name)): value for name, value in (stored.credit or {}).items()}
    count = len(stored.response_ids)
    by_name = {name: _per_token(value, count) for name, value in credit.items()}
    texts = spell(stored.response_ids)
    logprobs = _per_token(stored.rollout_logprobs, count)
    true = stored.truth or {}
    of_tokens = zip(_per_token(true.get("tokens"), count), _per_token(true.get("token_errors"), count))
    tokens = [
        Token(
            id=token,
            text=None if text is None else printable(text),
            logprob=logprobs[place],
            credit={name: values[place] for name, values in by_name.items()},
            truth=_known(*known),
        )
        for place, (token, text, known) in enumerate(zip(stored.response_ids, texts, of_tokens, strict=True))
    ]
    marks = [] if stored.valid else ["invalid"]
    if not stored.executed:
        marks.append("not executed")
    if stored.truncated:
        marks.append(f"cut off: {printable(reason or 'out of time')}")
    elif stored.terminated:
        marks.append("won" if episode.success else "ended")
    return Step(
        episode=episode.number,
        number=len(episode.steps) + 1,
        observation=printable(stored.observation),
        frame=_frame(stored.frame),
        action=printable(stored.action),
        tokens=tokens,
        credit={name: _of_step(name, value) for name, value in credit.items()},
        per_token=any(len(set(values)) > 1 for values in by_name.values()),
        reward=stored.reward,
        shaped={printable(name): value for name, value in stored.shaped_rewards.items() if value},
        return_to_go=return_to_go,
        marks=marks,
        reached=[printable(name) for name in names],
        truth=_known(_number(true.get("advantage")), _number(true.get("error"))),
        worth=_known(_number(true.get("value")), _number(true.get("value_error"))),
    )


def _known(value: float | None, error: float | None) -> Known | None:
    return None if value is None or error is None else Known(value, error)


def _text(value: str | None) -> str | None:
    return None if value is None else printable(value)


def _frame(value: Any) -> str | None:
    """A drawing in characters without the empty lines and columns around it."""
    lines = [] if value is None else printable(str(value)).expandtabs().splitlines()
    drawn = [place for place, line in enumerate(lines) if line.strip()]
    return textwrap.dedent("\n".join(line.rstrip() for line in lines[drawn[0] : drawn[-1] + 1])) if drawn else None


def _of_step(name: str, value: Any) -> float | None:
    if not isinstance(value, list):
        return _number(value)
    numbers = [_number(one) for one in value]
    return next((n for n in numbers if n is not None), None) if name in BESIDE else mean(numbers)


def _per_token(value: Any, count: int) -> list[float | None]:
    values = value if isinstance(value, list) else [value] * count
    return [_number(one) for one in [*values[:count], *[None] * (count - len(values))]]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _returns(trajectories: Sequence[Trajectory], gamma: float, shaped_at: Mapping[str, Entry]) -> dict[int, float]:
    """Return from each step on, by the step's identity; episodes that a fault cut off have none."""
    kept = [t for t in trajectories if t.error is None and t.steps]
    values = Algorithm(shaped_at=dict(shaped_at)).score(Batch(**columns(kept))).returns(gamma)
    return dict(zip((id(step) for t in kept for step in t.steps), values.tolist(), strict=True))
