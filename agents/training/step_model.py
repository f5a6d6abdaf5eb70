"""The numbers of steps that a shaping learns (algorithms.shaping.StepModel): a head where an action has just been said.

It reads hidden states of the policy as it was before RL, as the critic does, but at the last token of a response and not before
each. What the numbers are to be the shaping says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agents.models import ranks
from agents.models.policy import Policy, Trunk
from agents.training.experience import Experience, experienced
from agents.training.head import Head
from agents.training.packing import Row
from agents.training.passes import joined
from algorithms.base import Batch, Floats
from algorithms.shaping.grounded_prm import GroundedPRM
from algorithms.shaping.progress import Progress


class StepModel:
    """Holds the head that says the numbers."""

    def __init__(
        self, policy: Policy, settings: Progress | GroundedPRM, name: str, tokens_per_microbatch: int, seed: int
    ) -> None:
        """name: the shaping's."""
        self.settings = settings
        self.head = Head(policy, settings, settings.lr, 1, tokens_per_microbatch, name, seed)

    def fit(
        self, batch: Batch, gradient: Callable[[Floats], Floats] | None, epochs: int
    ) -> tuple[Floats, Floats, dict[str, float]]:
        """Optimizer steps, each on the whole batch, an Experience. Returns the numbers [S] before and after, and metrics.

        gradient: only rank 0 has it."""
        experience = experienced(batch)
        rows, steps = experience.acted_rows(), torch.arange(len(experience.tokens))
        before = found = self.head.read(experience, rows, len(steps))[:, 0].numpy()
        norm, skipped = 0.0, 0
        for _ in range(epochs):
            slope = ranks.told(gradient(found) if gradient else found)
            taken = self._descend(experience, rows, steps, torch.from_numpy(slope).float())
            norm, skipped = norm + (taken or 0.0), skipped + (taken is None)
            found = self._numbers(experience, rows, steps)
        self.head.forget()
        return before, found, {"grad_norm": norm / max(1, epochs - skipped), "skipped_steps": float(skipped)}

    @property
    def trunk(self) -> Trunk:
        """What its passes go through."""
        return self.head.trunk

    def take_tokens(self) -> int:
        """Tokens that went through the base since the last call."""
        return self.head.take_tokens()

    def _descend(self, experience: Experience, rows: list[Row], steps: Tensor, slope: Tensor) -> float | None:
        self.head.optimizer.clear()
        with self.head.training():
            for part, hidden in self.head.states(experience, rows, steps):
                found = self.head(hidden)[:, 0]
                (slope[part].to(found.device) * found).sum().backward()
                self.head.optimizer.collect()
        return self.head.optimizer.step(self.settings.grad_clip)

    @torch.no_grad()
    def _numbers(self, experience: Experience, rows: list[Row], steps: Tensor) -> Floats:
        found, mine = torch.zeros(len(steps), dtype=torch.float64), torch.zeros(len(steps), dtype=torch.bool)
        for part, hidden in self.head.states(experience, rows, steps):
            found[part], mine[part] = self.head(hidden)[:, 0].double().cpu(), True
        return joined(found, mine).numpy()

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the next numbers depend on."""
        return self.head.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.head.load_state(state)
