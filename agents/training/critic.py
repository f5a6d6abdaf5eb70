"""The value function: a head on hidden states of the policy as it was before RL, and how it is fitted.

What is to be predicted is the method's business.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agents.config.sections import CriticConfig, OptimConfig
from agents.models import ranks
from agents.models.policy import Policy
from agents.training.experience import Experience
from agents.training.head import Head
from algorithms.base import Floats
from algorithms.losses import value_loss


class Critic:
    """Holds the head that says values."""

    def __init__(self, policy: Policy, config: CriticConfig, optim: OptimConfig, seed: int, values: int = 1) -> None:
        """values: how many it gives before each token."""
        self.config, self.optim, self.seed = config, optim, seed
        self.head = Head(policy, config, config.lr, values, optim.tokens_per_microbatch, "critic", seed)

    def values(self, experience: Experience) -> Floats:
        """[T] value of what stands before each sampled token; [T, V] if it gives several."""
        found = self.head.read(experience, experience.plain_rows(), experience.sampled).numpy()
        return found[:, 0] if found.shape[1] == 1 else found

    def update(self, experience: Experience, iteration: int) -> dict[str, float]:
        """Fit the returns of the experience of iteration 0, 1, ..., whose values are those before: call `values` first."""
        if experience.returns is None or experience.values is None:
            raise ValueError("a critic needs values and the returns to fit them to")
        target, before = (  # [T, V]
            torch.from_numpy(x).float().reshape(experience.sampled, -1) for x in (experience.returns, experience.values)
        )
        has = torch.isfinite(target)
        total = steps = 0.0
        epochs = self.config.epochs or self.optim.epochs
        for members in experience.mini_batches(self.optim.minibatch_episodes, epochs, self.seed, "critic", iteration):
            loss, updated = self._step(experience, members, target, before, has)
            total, steps = total + loss, steps + updated
        self.head.forget()
        spread = float(target[has].var(correction=0)) if bool(has.any()) else 0.0
        left = float((target - before)[has].var(correction=0)) if bool(has.any()) else 0.0
        return {"loss": total / max(1.0, steps), "explained": 1 - left / spread if spread > 0 else 0.0}

    def take_tokens(self) -> int:
        """Tokens that went through the base since the last call."""
        return self.head.take_tokens()

    def _step(
        self, experience: Experience, members: list[int], target: Tensor, before: Tensor, has: Tensor
    ) -> tuple[float, bool]:
        numbers = experience.numbers(members)
        fitted = int(has[numbers].sum())
        if not fitted:
            return 0.0, False
        self.head.optimizer.clear()
        total = 0.0
        with self.head.training():
            for part, hidden in self.head.states(experience, experience.plain_rows(members), numbers):
                fits = has[part].any(1)
                part, hidden = part[fits], hidden[fits.to(hidden.device)]
                kept = has[part]
                old, wanted = (x[part][kept].to(hidden.device) for x in (before, target))
                values = self.head(hidden)[kept.to(hidden.device)]
                loss = value_loss(values, old, wanted, self.config.clip).sum() / fitted
                (self.config.coefficient * loss).backward()
                self.head.optimizer.collect()
                total += float(loss.detach())
        total = ranks.added_up_number(total)
        if self.head.optimizer.step(self.config.grad_clip) is None:
            return 0.0, False
        return total, True

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the next values and updates depend on."""
        return self.head.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.head.load_state(state)
