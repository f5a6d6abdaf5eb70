"""Implicit process rewards (OPRL, later iStar; arXiv 2509.19199): a reward model that is a language model, fitted to outcomes.

A step's reward is what the reward model pi_phi prefers its action by, beside the policy pi_old that sampled. As a shaping it
goes with any method; the method of the paper is `algorithms/oprl.py`. The model itself is left to the trainer.

What holds of these rewards: over a trajectory they sum to beta log(pi_phi(tau) / pi_old(tau)). Where pi_phi is optimal for
rewards r at a KL price beta from pi_old, with V that problem's value, they are r + V(next state) - V(state): r, shaped by a
potential, so that the best policy stays the best. And where no action has a probability below eps, they are within
beta log(1 / eps).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args, get_origin, get_type_hints

import numpy as np

from algorithms.base import Batch, Floats
from algorithms.shaping import TokenModel
from algorithms.shaping.preference import BestOf, Fit, cross_entropy, detached_dpo, dpo
from envs.trajectory import Trajectory

NAME = "implicit_prm"


@dataclass
class ImplicitPRM:
    """shaped_rewards["implicit_prm"] = beta (log pi_phi - log pi_old) of the step's sampled tokens, fitted as it goes."""

    beta: float = 0.05
    """Scale of rewards, and of scores in the loss."""
    reward: Literal["updated", "before"] = "updated"
    """Rewards come from the model after its update of this iteration, or before it (official)."""
    norm: Literal["none", "batch"] = "none"
    """batch: rewards are divided by the largest absolute one of the iteration, so that beta cancels (official)."""
    loss: Literal["dpo", "ce", "detached_dpo"] = "dpo"
    """dpo: all pairs of a positive and a negative trajectory of a group; ce: outcome of each step's episode, by its score;
    detached_dpo: each step against the mean score of the other outcome's steps (both of PRIME, arXiv 2502.01456)."""
    label: Literal["outcome", "score"] = "outcome"
    """What ce and detached_dpo fit: whether the episode is positive, or its graded score, of 0 to 1 (official). With a score
    detached_dpo compares a step with those of lower scores, and a step of score 0 with those of higher ones."""
    score: Literal["sum", "mean"] = "sum"
    """Of a trajectory in dpo: the sum of its steps' scores (Eq. 2), or their mean (official)."""
    best_of: BestOf = "none"
    """Weights of detached_dpo: alike, or as the best of a group would be drawn by reward or by outcome."""
    score_threshold: float | None = None
    """A trajectory is positive if its score is above this (SOTOPIA: 6); null: if it is a success."""
    epochs: int = 1
    """Optimiser steps an iteration, each on all of its trajectories."""
    lr: float | None = None
    """Learning rate of the reward model; null: twice the policy's (paper), or, of an adapter beside a policy that is trained
    whole, ten times, since low-rank weights need a higher one. The same in every iteration: of the policy's schedule it is the
    peak."""
    grad_clip: float = 10.0
    """Largest norm of its gradient (paper)."""
    kind: Literal["adapter", "copy"] = "adapter"
    """adapter: the policy as it was before RL, frozen, plus low-rank weights (with model.lora the frozen model is the policy's
    own, and memory stays near one model); copy: a second model that starts as the policy, the same weights of it trained
    (paper)."""
    rank: int = 16
    """Rank of the adapter."""
    alpha: float = 32.0
    """The adapter's output is multiplied by alpha / rank."""
    targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])
    """Names of the linear layers that the adapter adds to."""

    smallest_group: ClassVar[int] = 2
    needs_model: ClassVar[bool] = True
    shapes_weights: ClassVar[tuple[str, ...]] = ("kind", "rank", "targets")
    """Settings that a resumed run must keep: the model's saved weights have their shape."""

    model: TokenModel | None = field(default=None, init=False, repr=False, compare=False)
    """Set by the trainer."""
    metrics: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Of the last call of `shape`: loss, number and accuracy of pairs (of episodes the model has not seen), mean |reward|."""

    def __post_init__(self) -> None:
        for name in ("beta", "grad_clip", "alpha", "rank", "epochs", *(["lr"] if self.lr is not None else [])):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be more than 0")
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(get_args(hint))}")
        if self.label == "score" and (self.loss == "dpo" or self.score_threshold is not None):
            given = "loss is 'dpo'" if self.loss == "dpo" else f"score_threshold is {self.score_threshold:g}"
            raise ValueError(
                f"label is 'score', but {given}, which divides episodes into positive and negative ones; allowed with it: "
                "loss ce or detached_dpo, without a score_threshold"
            )
        if not self.targets:
            raise ValueError("targets is empty; name the linear layers that get an adapter, for example q_proj")

    def shape(self, trajectories: Sequence[Trajectory]) -> None:
        """Fit the model to the outcomes and reward every step; episodes cut off by a fault take no part."""
        if self.model is None:
            raise ValueError(f"shaping {NAME} has no model; the trainer sets it before the first iteration")
        played = [one for one in trajectories if one.error is None and one.steps]
        batch, label = Batch.from_trajectories(played), self.labels(played)
        old = self.model.old_logprobs(played)
        ratio = self.model.logprobs(played) - old  # [T]
        fit, gradient = self.fit(batch, label, ratio)
        rewards, self.metrics = self.rewards(batch, ratio), {"pairs": float(fit.compared)}
        if fit.compared:
            self.metrics |= {"loss": fit.loss, "accuracy": fit.accuracy} | self.model.descend(played, gradient)
            for _ in range(self.epochs - 1):
                _, gradient = self.fit(batch, label, self.model.logprobs(played) - old)
                self.model.descend(played, gradient)
            if self.reward == "updated":
                rewards = self.rewards(batch, self.model.logprobs(played) - old)
        self.metrics["reward_size"] = float(np.abs(rewards).mean()) if len(rewards) else 0.0
        for step, reward in zip((step for one in played for step in one.steps), rewards.tolist(), strict=True):
            step.shaped_rewards[NAME] = reward

    def labels(self, trajectories: Sequence[Trajectory]) -> Floats:
        """[N] what the model is to learn of each trajectory: above 0 if it is to prefer it. Raises ValueError."""
        if self.label == "score":
            for one in trajectories:
                if not 0 <= one.score <= 1:
                    raise ValueError(
                        f"shaping.{NAME}.label is 'score', but task '{one.task_id}' was given the score {one.score:g}; a "
                        "score must be within 0 and 1. Set label=outcome, with a score_threshold if success says too little"
                    )
            return np.array([one.score for one in trajectories], dtype=np.float64)
        limit = self.score_threshold
        return np.array([one.success if limit is None else one.score > limit for one in trajectories], dtype=np.float64)

    def fit(self, batch: Batch, label: Floats, ratio: Floats) -> tuple[Fit, Floats]:
        """The loss, and its gradient [T] with respect to the log-ratios `ratio` [T]. label: [N]."""
        score, episode = self._scores(batch, ratio), batch.episode  # [S]
        if self.loss == "dpo":
            share = 1 / batch.length if self.score == "mean" else np.ones(len(batch.length))  # [N]
            found = dpo(np.bincount(episode, score, len(share)) * share, label > 0, batch.group[batch.position == 0])
            slope = (found.gradient * share)[episode]  # [S]
        else:
            step = (score, label[episode])
            found = cross_entropy(*step) if self.loss == "ce" else detached_dpo(*step, batch.group, self.best_of)
            slope = found.gradient
        return found, self.beta * np.repeat(slope, batch.tokens)

    def rewards(self, batch: Batch, ratio: Floats) -> Floats:
        """[S] each step's reward."""
        reward = self._scores(batch, ratio)
        return reward if self.norm == "none" else reward / (np.abs(reward).max(initial=0.0) + 1e-6)

    def _scores(self, batch: Batch, ratio: Floats) -> Floats:
        """[S] beta times the sum of the log-ratios of each step's tokens."""
        steps = len(batch.tokens)
        total = np.bincount(np.repeat(np.arange(steps), batch.tokens), ratio, steps).astype(np.float64)
        return self.beta * total
