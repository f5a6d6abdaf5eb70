"""Which episodes are learned from, and how they are made what methods read, with what only a dialogue reads out of texts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from agents.config.commands import TrainConfig
from agents.rollout.collect import Collected
from agents.rollout.sampler import Sampler
from agents.training.experience import Experience
from algorithms.base import Need
from envs.base import TextEnv
from envs.trajectory import CONTEXT, Trajectory


class RolloutError(RuntimeError):
    """An iteration brought nothing to learn from; the message says why."""


def gather(
    played: Collected, iteration: int, config: TrainConfig, sampler: Sampler, env: TextEnv, needs: Collection[Need] = ()
) -> Experience:
    """What an iteration learns from. Raises RolloutError."""
    learned = to_learn_from(played.learned, iteration, config)
    return experience_of(learned, played.greedy, config, sampler, env, needs, played.columns)


def experience_of(
    trajectories: Sequence[Trajectory],
    greedy: Sequence[Trajectory],
    config: TrainConfig,
    sampler: Sampler,
    env: TextEnv,
    needs: Collection[Need] = (),
    branched: Mapping[str, Any] = MappingProxyType({}),
) -> Experience:
    """Experience of all `trajectories`, with what a method needs to be read out of texts; greedy, branched: see
    `Experience.of`."""
    dialogue = sampler.player.dialogue
    answers = turns = None
    if "answers" in needs:
        texts = [env.answer(trajectory.task_id) for trajectory in trajectories]
        answers = [dialogue.answered(text) if text else ([], []) for text in texts]
    if "parts" in needs:
        read = (dialogue.parts(step.response_ids) for trajectory in trajectories for step in trajectory.steps)
        turns = [(parts, plan.switch) for parts, plan in read]
    tries = dialogue.tries if config.engine.constrained == "admissible" else None
    return Experience.of(trajectories, tries, sampler.player.scoring, greedy, branched, answers, turns)


def to_learn_from(played: Sequence[Trajectory], iteration: int, config: TrainConfig) -> list[Trajectory]:
    """Leaves out episodes that are not `learnable`. Raises RolloutError if none is left."""
    kept = [trajectory for trajectory in played if learnable(trajectory, config)]
    if not kept:
        raise RolloutError(_nothing(played, iteration, config))
    return kept


def learnable(trajectory: Trajectory, config: TrainConfig) -> bool:
    """Whether no fault cut it off, it has a step, and it did not outgrow the context where such episodes are dropped."""
    dropped = config.rollout.out_of_context == "drop" and trajectory.cut_off == CONTEXT
    return trajectory.error is None and bool(trajectory.steps) and not dropped


def _nothing(played: Sequence[Trajectory], iteration: int, config: TrainConfig) -> str:
    """Why an iteration left nothing to learn from."""
    faults = [t.error for t in played if t.error is not None]
    unread = sum(t.error is None and not t.steps for t in played)
    dropped = len(played) - len(faults) - unread
    reasons = [f"{len(faults)} episodes were cut off by a fault (the first: {faults[0]})"] if faults else []
    if unread:
        reasons.append(
            f"in {unread} episodes the first prompt alone was longer than the model can read: raise "
            f"model.max_length={config.model.max_length}"
        )
    if dropped:
        reasons.append(
            f"{dropped} episodes outgrew the context, and rollout.out_of_context=drop leaves them out: raise "
            f"model.max_length={config.model.max_length}, or learn from them with rollout.out_of_context=lose"
        )
    return f"iteration {iteration} left nothing to learn from: {'; '.join(reasons)}"
