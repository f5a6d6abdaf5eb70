"""Settings of Sokoban: which levels, what is said of them, what a move pays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

SIZES = range(5, 21)
"""Cells a side that a level may have, walls included."""
MOST_TASKS = 10**6
"""Of a split: their numbers have six digits."""


@dataclass
class SokobanConfig:
    """Settings of the environment. Raises ValueError for numbers that cannot be."""

    height: int = 6
    """Rows of a level, with the walls around it."""
    width: int = 6
    """Columns of a level, with the walls around it."""
    boxes: int = 1
    shortest: int = 2
    """Moves that a level needs at least."""
    longest: int = 10
    """Moves that a level needs at most."""
    observation: Literal["grid", "coordinates", "both"] = "grid"
    """How the level is said: drawn with symbols, by rows and columns, or both."""
    legend: bool = True
    """Say what the symbols of a drawn level mean."""
    last_action: bool = True
    """Say what was done last."""
    all_actions: bool = False
    """List all four moves; false: those that change something, and the others are impossible."""
    dead_ends: Literal["ignore", "tell", "end"] = "ignore"
    """When a level cannot be solved any more: go on, say so in the observation, or end the episode as lost."""
    max_steps: int = 15
    step_reward: float = -0.1
    """Of every step, whatever it does."""
    on_target_reward: float = 1.0
    """Of a push by which one more box is on a target."""
    off_target_reward: float = -1.0
    """Of a push by which one box less is on a target."""
    solved_reward: float = 10.0
    """Of the push that solves the level, beside the one for the box."""
    train_tasks: int = 10000
    eval_tasks: int = 120
    test_tasks: int = 120

    @property
    def pays_below_zero(self) -> str | None:
        """By which setting a reward may be negative, for methods that divide by rewards; None: by none."""
        below = [name for name in REWARDS if getattr(self, name) < 0]
        return f"env.{below[0]} is {getattr(self, below[0]):g} (allowed: 0 or more)" if below else None

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            if getattr(self, name) not in SIZES:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from {SIZES[0]} to {SIZES[-1]}")
        inside = (self.height - 2) * (self.width - 2)
        if not 1 <= self.boxes <= inside // 4:
            raise ValueError(
                f"boxes is {self.boxes}; it must be from 1 to {inside // 4}, a quarter of the {inside} cells within the walls"
            )
        if not 1 <= self.shortest <= self.longest <= self.max_steps:
            raise ValueError(
                f"shortest is {self.shortest}, longest {self.longest} and max_steps {self.max_steps}; each must be at least 1, "
                "and at most the one after it"
            )
        for name in ("train_tasks", "eval_tasks", "test_tasks"):
            if not 1 <= getattr(self, name) <= MOST_TASKS:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 1 to {MOST_TASKS}")
        for name in REWARDS:
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a finite number")


REWARDS = ("step_reward", "off_target_reward", "on_target_reward", "solved_reward")
