"""Views of trajectories: credit by step and token, returns, and who was compared with whom.

Text that an environment or a model wrote leaves here with its control characters spelled out. Files are left to `reading`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from agents.credit.view import CRITIC, Episode, Group, Step, Token, mean
from algorithms.base import Algorithm, Batch, Entry
from algorithms.stats import discounted_returns
from envs.trajectory import Step as StoredStep
from envs.trajectory import Trajectory

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

Spell = Callable[[Sequence[int]], list[str | None]]
"""The texts of some token ids, None where they are not known."""


def printable(text: str) -> str:
    """`text` without power over a terminal or the direction of writing: such characters are spelled out (`\\x1b`)."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def view(
    trajectories: Sequence[Trajectory],
    spell: Spell,
    task: Callable[[str], str],
    gamma: float = 1.0,
    shaped: Mapping[str, Entry] | None = None,
) -> tuple[list[Group], bool]:
    """Groups in order of appearance, and whether the steps say with which ones they were compared.

    `task` finds a task's words in a first observation; `gamma` and `shaped` are the method's settings of these names.
    """
    ahead = _returns(trajectories, gamma, shaped or {})
    compared = any("step_group" in step.info for t in trajectories for step in t.steps)
    groups: dict[str, Group] = {}
    peers: dict[Any, list[Step]] = {}
    for number, trajectory in enumerate(trajectories, 1):
        episode = Episode(
            number=number,
            task_id=printable(trajectory.task_id),
            success=trajectory.success,
            score=trajectory.score,
            error=None if trajectory.error is None else printable(trajectory.error),
            reward=trajectory.total_reward,
            steps=[],
        )
        before: list[str] = []
        for stored in trajectory.steps:
            step = _step(stored, episode, spell, ahead.get(id(stored)), before)
            before = stored.info.get("subgoals") or []
            episode.steps.append(step)
            key = stored.info.get("step_group") if compared else (trajectory.group_id, stored.state_key)
            if trajectory.error is None and (key is not None if compared else stored.state_key):
                peers.setdefault(key, []).append(step)
        first = trajectory.steps[0].observation if trajectory.steps else ""
        new = Group(printable(trajectory.group_id), printable(task(first)) or episode.task_id, [])
        groups.setdefault(trajectory.group_id, new).episodes.append(episode)
    for members in peers.values():
        if len(members) > 1:
            members.sort(key=lambda step: -(step.ahead or 0.0))
            for step in members:
                step.peers = members
    return list(groups.values()), compared


def _step(stored: StoredStep, episode: Episode, spell: Spell, ahead: float | None, before: Sequence[str]) -> Step:
    credit = stored.info.get("credit") or {}
    count = len(stored.response_ids)
    by_name = {printable(name): _per_token(value, count) for name, value in credit.items()}
    texts = spell(stored.response_ids)
    logprobs = _per_token(stored.response_logprobs, count)
    tokens = [
        Token(
            id=token,
            text=None if text is None else printable(text),
            logprob=logprobs[place],
            credit={name: values[place] for name, values in by_name.items()},
        )
        for place, (token, text) in enumerate(zip(stored.response_ids, texts, strict=True))
    ]
    marks = [] if stored.valid else ["invalid"]
    if stored.truncated:
        marks.append(f"cut off: {printable(str(stored.info.get('reason', 'out of time')))}")
    elif stored.terminated:
        marks.append("won" if episode.success else "ended")
    return Step(
        episode=episode.number,
        number=len(episode.steps) + 1,
        observation=printable(stored.observation),
        action=printable(stored.action),
        tokens=tokens,
        credit={printable(name): _of_step(name, value) for name, value in credit.items()},
        per_token=any(len(set(values)) > 1 for values in by_name.values()),
        reward=stored.reward,
        shaped={printable(name): value for name, value in stored.shaped_rewards.items() if value},
        ahead=ahead,
        marks=marks,
        reached=[printable(name) for name in stored.info.get("subgoals") or [] if name not in before],
    )


def _of_step(name: str, value: Any) -> float | None:
    if not isinstance(value, list):
        return _number(value)
    numbers = [_number(one) for one in value]
    return next((n for n in numbers if n is not None), None) if name in CRITIC else mean(numbers)


def _per_token(value: Any, count: int) -> list[float | None]:
    values = value if isinstance(value, list) else [value] * count
    return [_number(one) for one in [*values[:count], *[None] * (count - len(values))]]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _returns(trajectories: Sequence[Trajectory], gamma: float, shaped: Mapping[str, Entry]) -> dict[int, float]:
    """Return from each step on, by the step's identity; episodes that a fault cut off have none."""
    kept = [t for t in trajectories if t.error is None and t.steps]
    batch, method = Batch.from_trajectories(kept), Algorithm(shaped=dict(shaped))
    reward = batch.reward + method.entering(batch, "reward")
    values = discounted_returns(batch, reward, gamma) + method.entering(batch, "return") if kept else np.zeros(0)
    return dict(zip((id(step) for t in kept for step in t.steps), values.tolist(), strict=True))
