"""T-REG (arXiv 2412.02685): DPO, and token rewards that the policy makes itself, asked to improve or to worsen an answer.

No code of the authors was available, and this follows a description. Nothing learns beside the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from algorithms.base import Batch, Floats
from algorithms.shaping import NeedsModel
from algorithms.shaping.pairs import Pair, PairObjective, spread, weighted_dpo
from algorithms.shaping.preference import Fit, sigmoid
from envs.common.structured import NonNegative


@dataclass
class TREG(PairObjective):
    """L_DPO + regularization x w x (sum over both episodes of -beta r log pi), w = sigmoid(score of the worse - of the better).

    r = sigmoid(log pi(token | improve) - log pi(token | worsen)) - 1/2. Neither r nor w has a gradient.
    """

    regularization: NonNegative = 0.25
    """alpha of the paper (0.1 to 0.5); 0 is DPO."""
    improve: str = "Act as a better player would: fewer steps, no mistakes."
    """What the prompts also say for the first of both probabilities."""
    worsen: str = "Act as a worse player would: detours and mistakes."
    """The same for the second."""

    name: ClassVar[str] = "t_reg"
    needs_model: ClassVar[NeedsModel] = "policy"

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("improve", "worsen"):
            if not getattr(self, key).strip():
                raise ValueError(f"{key} is empty; write the sentence that prompts are to say")

    def read(self, batch: Batch, reference: Floats) -> tuple[Floats, dict[str, float]]:
        """[T] the token rewards."""
        better, worse = (self.model.told_logprobs(batch, note) for note in (self.improve, self.worsen))
        rewards = self.rewards(better, worse)
        counted = np.repeat(batch.included, batch.tokens)
        return rewards, {"reward_size": float(np.abs(rewards[counted]).mean()) if counted.any() else 0.0}

    def rewards(self, better: Floats, worse: Floats) -> Floats:
        """[T] by both log-probabilities [T]; 0 where one of them is nan: with the sentence the text was too long."""
        return sigmoid(np.nan_to_num(better - worse)) - 0.5

    def loss(self, pairs: Sequence[Pair], policy: Floats, reference: Floats, read: Floats) -> Fit:
        """`read`: the token rewards."""
        ratio, beta = policy - reference, np.full(len(policy), self.beta)
        found = weighted_dpo(pairs, ratio, beta, beta)
        weights = self.pair_weights(pairs, ratio)
        share = self.regularization * weights / max(1, len(pairs))
        slope = spread(pairs, share, -self.beta * read, -self.beta * read)
        return Fit(found.loss + float(slope @ policy), found.gradient + slope, found.compared, found.accuracy)

    def pair_weights(self, pairs: Sequence[Pair], ratio: Floats) -> Floats:
        """[P] sigmoid of the worse episode's DPO score less the better's."""
        return sigmoid(np.array([self.beta * (ratio[b].sum() - ratio[a].sum()) for a, b in pairs]))
