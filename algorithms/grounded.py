"""GroundedPRM (after arXiv 2510.14942): credit to an episode by its return, and to a step by a process reward model that learns
from branches at some steps what a step is worth, checked by the environment's own rules.

The step rewards come from the shaping `grounded_prm`; here branches are placed for it, and steps compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from algorithms.base import Advantages, Batch, Ints, Need, Scored
from algorithms.branching import MonteCarloMethod, first_tokens
from algorithms.stats import normalize, normalize_tokens
from envs.common.structured import NonNegative, Positive

SHAPING = "grounded_prm"


@dataclass
class GroundedPRM(MonteCarloMethod):
    """A(i,t) = A_E(i) + omega A_S(i,t): GRPO's, and the step's process reward among all steps of its task."""

    continuations: Positive = 4
    """How often an episode is played on from each place."""
    every: Positive = 5
    """Of so many steps one is measured, by continuations from before it and after it; the model says the others."""
    omega: NonNegative = 1.0
    """Weight of the step advantage."""
    epsilon: NonNegative = 1e-6
    """Added to standard deviations."""

    needs: ClassVar[frozenset[Need]] = frozenset({"state_values"})
    min_group_size: ClassVar[int] = 2
    reads_shaping: ClassVar[str | None] = SHAPING

    def __post_init__(self) -> None:
        self.shaped_at = {SHAPING: "none", **self.shaped_at}
        if self.shaped_at[SHAPING] != "none":
            raise ValueError(f"shaped_at.{SHAPING} must be none: its rewards are this method's step rewards, and enter once")
        super().__post_init__()

    def places(self, batch: Batch) -> Ints:
        """[B] the first tokens of the measured steps 0, every, 2 every, ..., and of the steps after them."""
        return first_tokens(batch)[(batch.position % self.every <= 1) & (batch.tokens > 0)]

    def most_places(self, steps: int, tokens: int) -> int:
        return sum(t % self.every <= 1 for t in range(steps))

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]. Raises ValueError without batch.state_values, or if no step has a process reward."""
        if batch.state_values is None:
            raise ValueError("GroundedPRM needs batch.state_values, the mean return of continuations from before steps")
        if SHAPING not in batch.shaped:
            raise ValueError(f"the batch has no rewards by shaping {SHAPING}, which this method compares steps by")
        first = batch.position == 0
        episode = normalize(batch.scores(), batch.group, first, "std", self.epsilon)
        step = self.omega * normalize(batch.shaped[SHAPING], batch.group, batch.included, "std", self.epsilon)
        values = episode + step
        parts = {"episode": episode, "step": step}
        if self.normalize:
            values = normalize_tokens(values, batch.tokens, 1e-8)
            parts["normalized"] = values
        return Advantages(values, parts=parts)
