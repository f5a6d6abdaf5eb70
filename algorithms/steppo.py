"""StepPO, also called CAPO (arXiv 2604.18401): GAE over whole actions, and advantages normalized over the actions of the batch.

It is PPO at level=action but for what enters the mean and the standard deviation: each action once, however many tokens it
has. The authors also train on one ratio an action, a setting of the loss: conf/algo/steppo_official.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.base import Floats, Scored
from algorithms.critics import CriticMethod, estimate_by_actions
from algorithms.stats import normalize
from envs.common.structured import Fraction


@dataclass
class StepPO(CriticMethod):
    """An action is one decision: its value stands before its first token, and all its tokens get its advantage."""

    gamma: Fraction = 0.99
    """Discount of rewards from one step to the next."""
    lam: Fraction = 1.0
    """GAE's lambda: 0 trusts the value of the next step, 1 the rewards of the whole rest."""
    normalize: bool = True
    """Shift and scale advantages over all actions of the batch to mean 0 and variance 1."""

    def estimate(self, batch: Scored, values: Floats) -> tuple[Floats, Floats]:
        """GAE over actions; only the value before an action's first token is fitted."""
        return estimate_by_actions(batch, values, self.gamma, self.lam)

    def normalized(self, batch: Scored, credit: Floats) -> Floats:
        """[T] (A - mean) / (std + 1e-8) over all actions, std with ddof 1."""
        of_action = credit[np.cumsum(batch.tokens) - batch.tokens]  # [S]
        scaled = normalize(of_action, np.zeros(len(of_action), dtype=np.int64), batch.included, "std", 1e-8)
        return np.repeat(scaled, batch.tokens)
