"""Settings of MiniHack: which levels, what of the screen is said, how many tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

MOST_TASKS = 10**6
"""Of a split: their numbers have six digits."""


@dataclass
class MiniHackConfig:
    """Settings of the environment. Raises ValueError for numbers that cannot be."""

    levels: list[str] = field(default_factory=lambda: ["KeyRoom-S5"])
    """Names ("KeyRoom-S5"), patterns ("Room-*") or families (quest) of the levels that tasks are drawn from, in turn."""
    custom: dict[str, str] = field(default_factory=dict)
    """Levels of one's own: name and des file, {my-room: rooms/my.des}; to be named in `levels` too."""
    actions: list[str] | None = None
    """Which of the level's actions may be taken, by name ("north", "pickup"); null: all."""
    message: bool = True
    """Say NetHack's message."""
    map: Literal["crop", "full", "none"] = "crop"
    """Show the map: 9x9 around the agent, or all that is known of it."""
    legend: bool = True
    """Say what the characters of the map mean."""
    surroundings: bool = True
    """Say what is next to the agent."""
    objects: bool = True
    """List things, creatures, doors and stairs, and where they are."""
    inventory: bool = True
    """List what is carried, and what of it was picked up."""
    status: bool = True
    """Say hit points and conditions."""
    last_action: bool = True
    """Say what was done last."""
    frames: bool = False
    """Keep the whole map of every step, for looking at episodes."""
    max_steps: int = 200
    penalty_step: float = -0.01
    """Reward of an action that takes no time in the game (walking against a wall), as in MiniHack; a win has 1."""
    train_tasks: int = 10000
    """Tasks of the split, over all levels."""
    eval_tasks: int = 120
    test_tasks: int = 120
    held_out_starts: bool = False
    """Tasks of eval and test begin as none of training does: a tenth of a level's starts is kept for each of them. A start of
    these takes some ten resets."""

    @property
    def pays_below_zero(self) -> str | None:
        """By which setting a reward may be negative, for methods that divide by rewards; None: by none."""
        return f"env.penalty_step is {self.penalty_step:g} (allowed: 0)" if self.penalty_step < 0 else None

    def __post_init__(self) -> None:
        for name in ("train_tasks", "eval_tasks", "test_tasks"):
            if not 1 <= getattr(self, name) <= MOST_TASKS:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 1 to {MOST_TASKS}")
        if not -1 < self.penalty_step <= 0:
            raise ValueError(f"penalty_step is {self.penalty_step}; it must be more than -1 (a win has 1) and at most 0")
        if self.actions is not None and not self.actions:
            raise ValueError("actions is empty; name at least one, or null for all that a level has")
