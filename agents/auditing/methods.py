"""The credit of each method on the audited episodes, made as a training makes it.

What learns beside the policy (a critic, a reward model) learns first as it does in a run: from iterations of episodes, one
after the other. With a run these are its own, as it stored them; without one they are played for that. The policy itself stays
as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from agents import judges
from agents.auditing.branching import Continuing
from agents.config.commands import TrainConfig
from agents.models.policy import Policy
from agents.replay.view import BESIDE
from agents.rollout.collect import Collected
from agents.rollout.planner import GREEDY
from agents.rollout.sampler import Sampler
from agents.training.credit import Credit
from agents.training.experience import Experience
from agents.training.gathering import experience_of
from agents.training.learner import Learner
from algorithms.base import Algorithm, Batch, Floats, Need
from algorithms.shaping import TokenModel
from envs.base import TextEnv
from envs.trajectory import Trajectory

TOTAL = "advantage"
READ = {"sum_pi_squared", "entropy", "hindsight", "divergence", "influence", "waad"}
"""What the policy is asked about the episodes when they are over: a further pass each."""


@dataclass(eq=False)
class Credited:
    """What a method says of the audited episodes."""

    level: str
    """step or token."""
    values: dict[str, Floats]
    """[S] or [T] by name: `advantage`, and each part that it is made of; nan where the method has no opinion."""
    trajectories: list[Trajectory]
    """The episodes with this credit in their steps, for whoever looks at them."""
    branches: Sequence[Trajectory]
    """What was branched from them for it; leaves that are learned from have credit, too."""
    cost: dict[str, float]
    """share: tokens that models computed for it, by those sampled in the episodes; branches: how many; sampled: tokens in them,
    likewise; fitted: iterations that models learned from first."""


@dataclass(eq=False)
class Made:
    """A method with what it learned, and its credit."""

    learner: Learner
    credit: Credit
    credited: Credited


async def credit(
    config: TrainConfig,
    policy: Policy,
    sampler: Sampler,
    env: TextEnv,
    played: Collected,
    took: Continuing,
    past: AsyncIterator[Collected],
    before: Mapping[str, Tensor] | None = None,
    learned: Mapping[str, Any] | None = None,
) -> Made:
    """The credit of the episodes `played` by the method of a training, written into their steps.

    took: what their branches took. past: iterations of episodes that models learn from first, with branches; learned: what a
    run's checkpoint says they have learned, which is taken instead. before: weights of the policy before RL, from which such
    models start; None: as it is.
    """
    with _weights(policy, before):
        learner = Learner(policy, config)
        build_judge = partial(judges.build, config.judge, config, env, sampler, policy)
        made = Credit(learner, config, build_judge, sampler.player.dialogue.noted)
    for one in made.shapings.values():
        if one.learns and one.needs_model in ("tokens", "policy"):
            one.model = AsSampled(one.model)
    models = [one for one in (learner.critic, *learner.reward_models.values()) if one is not None]
    fitted, computed, sampled = 0, 0, 0
    try:
        if learned is not None:
            _load(learner, learned)
            made.load_transforms(learned)
        elif models:
            async for earlier in past:
                experience = experience_of(
                    earlier.learned, earlier.greedy, config, sampler, env, made.method.reads, earlier.columns
                )
                if learner.critic is None:  # what the method itself would say of these episodes teaches nobody
                    for name in made.shapings:
                        await made.shape(name, experience)
                else:
                    await made.assign(experience)
                    learner.critic.update(experience, fitted)
                fitted, sampled = fitted + 1, sampled + experience.sampled
                computed += sum(model.take_tokens() for model in models)
        experience = experience_of(played.learned, played.greedy, config, sampler, env, made.method.reads, played.columns)
        await made.assign(experience)
    finally:
        await made.close()
    if not sampled:
        sampled, computed = experience.sampled, sum(model.take_tokens() for model in models)
    audited = [one for group in played.groups for one in group]
    said = sum(len(step.response_ids) for one in audited for step in one.steps)
    share = computed / max(1, sampled) + (_beside(made.method, experience, played.greedy) + took.computed) / said
    cost = {"share": share, "branches": float(took.count), "sampled": took.sampled / said, "fitted": float(fitted)}
    return Made(learner, made, Credited(*_read(audited), audited, played.branched, cost))


def collected(trajectories: Sequence[Trajectory], greedy: Sequence[Trajectory]) -> Collected:
    """Copies of episodes, as an iteration has them."""
    groups: dict[str, list[Trajectory]] = {}
    for one in copies(trajectories):
        groups.setdefault(one.group_id, []).append(one)
    return Collected([*groups.values()], [], list(greedy))


def to_learn_from(trajectories: Sequence[Trajectory]) -> tuple[list[Trajectory], list[Trajectory]]:
    """The episodes that no fault cut off, and the greedy ones among them: compared with, and not learned from."""
    sampled = [t for t in trajectories if t.error is None and t.steps and not t.group_id.endswith(GREEDY)]
    return sampled, [t for t in trajectories if t.group_id.endswith(GREEDY)]


def _beside(method: Algorithm, experience: Experience, greedy: Sequence[Trajectory]) -> int:
    """Tokens that the policy itself reads for a method: once for each further column that it fills, and in greedy episodes."""
    read = sum(len(row) for row in experience.plain_rows())
    played = sum(len(step.prompt_ids) + len(step.response_ids) for one in greedy for step in one.steps)
    return len(method.reads & READ) * read + ("greedy" in method.needs) * played


@contextmanager
def _weights(policy: Policy, tensors: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Within: the policy has these weights."""
    if tensors is None:
        yield
        return
    now = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    policy.model.load_state_dict(tensors)
    try:
        yield
    finally:
        policy.model.load_state_dict(now)


def _load(learner: Learner, learned: Mapping[str, Any]) -> None:
    """What critic and reward models of a run had learned."""
    if learner.critic is not None:
        learner.critic.load_state(learned["critic"])
    for name, model in learner.reward_models.items():
        model.load_state(learned["reward_models"][name])


def gathered(
    trajectories: Sequence[Trajectory], config: TrainConfig, sampler: Sampler, env: TextEnv, needs: Collection[Need] = ()
) -> Experience:
    """What an iteration of these would learn from."""
    return experience_of(*to_learn_from(trajectories), config, sampler, env, needs)


@dataclass
class AsSampled(TokenModel):
    """A reward model to which the policy that sampled is the one that did: in a stored episode, an older one than it is now."""

    model: TokenModel

    def logprobs(self, batch: Batch) -> Floats:
        return self.model.logprobs(batch)

    def rollout_logprobs(self, batch: Batch) -> Floats:
        assert batch.logprobs is not None
        return batch.logprobs

    def reference_logprobs(self, batch: Batch) -> Floats:
        return self.model.reference_logprobs(batch)

    def told_logprobs(self, batch: Batch, note: str) -> Floats:
        return self.model.told_logprobs(batch, note)

    def contrasted(self, batch: Batch, other: TokenModel, strength: float) -> Floats:
        return self.model.contrasted(batch, other, strength)

    def descend(self, batch: Batch, gradient: Floats) -> dict[str, float]:
        return self.model.descend(batch, gradient)


def copies(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """The same episodes with steps of their own, without any credit: a method writes into them."""
    return [
        replace(t, steps=[replace(step, credit=None, step_group=None, shaped_rewards={}) for step in t.steps])
        for t in trajectories
    ]


def _read(trajectories: Sequence[Trajectory]) -> tuple[str, dict[str, Floats]]:
    """The credit that was written into the steps; nan in those of a leaf that is not learned from."""
    steps = [step for trajectory in trajectories for step in trajectory.steps]
    credits = [step.credit or {} for step in steps]
    names = [name for name in dict.fromkeys(name for one in credits for name in one) if name not in BESIDE]
    by_token = any(isinstance(one.get(TOTAL), list) for one in credits)
    values = {}
    for name in names:
        if by_token:
            numbers = [x for one, step in zip(credits, steps) for x in one.get(name, [None] * len(step.response_ids))]
        else:
            numbers = [one.get(name) for one in credits]
        values[name] = np.array([np.nan if x is None else x for x in numbers], dtype=np.float64)
    return "token" if by_token else "step", values
