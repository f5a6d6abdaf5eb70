"""Rewards of single tokens by a language model that learned a preference (RTO, arXiv 2404.18922; the implicit rewards of DPO).

A model that DPO made optimal for rewards r, at a KL price beta from the reference, has beta (log pi_dpo - log pi_ref) as its
advantage of every token (From r to Q*, arXiv 2404.12358): the return, divided among the tokens. RTO pays it as a reward and
trains by PPO (conf/algo/rto.yaml); read as what it is, it enters at the advantage (conf/algo/r_to_q.yaml). OPRL's
`implicit_prm` is the same number against the policy that sampled, summed over each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Batch, Floats
from algorithms.shaping.outcome_model import OutcomeModel, everywhere
from envs.common.structured import AboveZero, NonNegative


@dataclass
class TokenReward(OutcomeModel):
    """scale (log pi_dpo - log pi_ref), clipped, - kl (log pi - log pi_ref), for each sampled token."""

    scale: AboveZero = 0.05
    """beta_1: of the log-ratio as a reward (official)."""
    clip: AboveZero | None = 0.05
    """Largest size of the scaled log-ratio (official); null: none."""
    kl: NonNegative = 0.0
    """beta_2: price of leaving the reference, as part of the reward."""
    against: Literal["reference", "rollout"] = "reference"
    """What the model is measured against, in its loss and in the reward: the policy before RL (RTO), or the one that sampled
    (OPRL)."""
    reward: Literal["updated", "before"] = "updated"
    """Rewards come from the model after its update of this iteration, or before it."""

    rewards_tokens: ClassVar[bool] = True
    values_tokens: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl and self.against == "rollout":
            raise ValueError(
                f"kl is {self.kl:g}, a price of leaving the reference, and against is 'rollout'; allowed with it: 0"
            )

    @property
    def reads_reference(self) -> bool:
        return self.against == "reference"

    async def shape(self, batch: Batch) -> Floats:
        """[T] the reward of each token, after the model was fitted to the outcomes. Faulted episodes take no part.

        metrics: loss, number and accuracy of pairs (of episodes the model has not seen), mean |reward| of a token.
        """
        model, counted = self.of_trainer(self.model), np.repeat(batch.included, batch.tokens)
        old = model.rollout_logprobs(batch)
        against = model.reference_logprobs(batch) if self.reads_reference else old
        learned = self.learned(batch, against, after=self.reward == "updated")
        rewards = self.rewards(learned.after, (old - against)[counted])
        self.metrics = {**learned.metrics, "reward_size": float(np.abs(rewards).mean()) if len(rewards) else 0.0}
        return everywhere(rewards, counted)

    def rewards(self, ratio: Floats, moved: Floats) -> Floats:
        """[T] by the model's log-ratio to the reference `ratio` [T], and the policy's, `moved` [T]."""
        scaled = self.scale * ratio
        if self.clip is not None:
            scaled = np.clip(scaled, -self.clip, self.clip)
        return scaled - self.kl * moved
