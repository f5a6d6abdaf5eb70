"""What shapings share that learn a number for each step: settings of the head that says it (algorithms.shaping.StepModel)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from algorithms.shaping import NeedsModel, Shaping
from envs.common.structured import AboveZero, AtLeast, Positive


@dataclass
class StepEstimator(Shaping):
    """A subclass says what the numbers are fitted to, and what reward is made of them."""

    epochs: Positive = 20
    """Optimizer steps of the model an iteration, each on all of its steps."""
    lr: AboveZero = 1e-3
    """Learning rate of the model."""
    grad_clip: AboveZero = 1.0
    """Largest norm of its gradient."""
    trains: Literal["head", "all"] = "head"
    """head: an MLP on hidden states of the policy as it was before RL, which stays frozen; all: a copy of that model, trained
    with it."""
    hidden: Annotated[list[int], AtLeast(1)] = field(default_factory=lambda: [256])
    """Widths of the MLP's inner layers; []: a linear one."""

    needs_model: ClassVar[NeedsModel] = "steps"
    shapes_weights: ClassVar[tuple[str, ...]] = ("trains", "hidden")
