"""A penalty for steps whose action the environment did not accept (Step.valid)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs.trajectory import Trajectory


@dataclass
class InvalidAction:
    """shaped_rewards["invalid_action"] = -coefficient at every invalid step; other steps have no entry.

    By default a method adds it to the advantage after normalisation: there, `coefficient` is in units of advantage.
    """

    coefficient: float = 0.1

    def __post_init__(self) -> None:
        if not self.coefficient >= 0:
            raise ValueError(f"coefficient is {self.coefficient!r}; it must be at least 0: it is subtracted")

    def shape(self, trajectories: Sequence[Trajectory]) -> None:
        """Mark the invalid steps."""
        for trajectory in trajectories:
            for step in trajectory.steps:
                if not step.valid:
                    step.shaped_rewards["invalid_action"] = -self.coefficient
