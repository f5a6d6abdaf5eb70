"""Implicit process rewards (OPRL, later iStar; arXiv 2509.19199): a reward model that is a language model, fitted to outcomes.

A step's reward is what the reward model pi_phi prefers its action by, beside the policy pi_old that sampled. As a shaping it
goes with any method; the method of the paper is `algorithms/oprl.py`. The model itself is left to the trainer.

What holds of these rewards: over a trajectory they sum to beta log(pi_phi(tau) / pi_old(tau)). Where pi_phi is optimal for
rewards r at a KL price beta from pi_old, with V that problem's value, they are r + V(next state) - V(state): r, shaped by a
potential, so that the best policy stays the best. And where no action has a probability below eps, they are within
beta log(1 / eps).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Batch, Floats
from algorithms.shaping.outcome_model import OutcomeModel, everywhere
from algorithms.shaping.preference import BestOf, Fit, cross_entropy, detached_dpo, dpo
from algorithms.stats import step_sums
from envs.common.structured import AboveZero

NAME = "implicit_prm"


@dataclass
class ImplicitPRM(OutcomeModel):
    """beta (log pi_phi - log pi_old) of the step's sampled tokens, fitted as it goes."""

    beta: AboveZero = 0.05
    """Scale of rewards, and of scores in the loss."""
    reward: Literal["updated", "before"] = "updated"
    """Rewards come from the model after its update of this iteration, or before it (official)."""
    normalize: Literal["none", "batch"] = "none"
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

    values_tokens: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label == "score" and (self.loss == "dpo" or self.score_threshold is not None):
            given = "loss is 'dpo'" if self.loss == "dpo" else f"score_threshold is {self.score_threshold:g}"
            raise ValueError(
                f"label is 'score', but {given}, which divides episodes into positive and negative ones; allowed with it: "
                "loss ce or detached_dpo, without a score_threshold"
            )

    async def shape(self, batch: Batch) -> Floats:
        """[S] the reward of each step, after the model was fitted to the outcomes. Faulted episodes take no part.

        metrics: loss, number and accuracy of pairs (of episodes the model has not seen), mean |reward|.
        """
        old = self.of_trainer(self.model).rollout_logprobs(batch)
        learned = self.learned(batch, old, after=self.reward == "updated")
        rewards = self.rewards(Batch(**batch.finished()), learned.after)
        self.metrics = {**learned.metrics, "reward_size": float(np.abs(rewards).mean()) if len(rewards) else 0.0}
        return everywhere(rewards, batch.included)

    def labels(self, batch: Batch) -> Floats:
        """[N] what the model is to learn of each trajectory: above 0 if it is to prefer it. Raises ValueError."""
        if self.label == "score":
            for one in batch.trajectories:
                if not 0 <= one.score <= 1:
                    raise ValueError(
                        f"shaping.{NAME}.label is 'score', but task '{one.task_id}' was given the score {one.score:g}; a "
                        "score must be within 0 and 1. Set label=outcome, with a score_threshold if success says too little"
                    )
            return np.array([one.score for one in batch.trajectories], dtype=np.float64)
        return super().labels(batch)

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
        return reward if self.normalize == "none" else reward / (np.abs(reward).max(initial=0.0) + 1e-6)

    def _scores(self, batch: Batch, ratio: Floats) -> Floats:
        """[S] beta times the sum of the log-ratios of each step's tokens."""
        return self.beta * step_sums(batch, ratio)
