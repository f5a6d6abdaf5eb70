"""The budget of turns or tokens that training episodes are planned with, and how it changes: a function of the iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agents.config.sections import CurriculumConfig


@dataclass(frozen=True, slots=True)
class Budget:
    """What an episode may take. None: no limit but the environment's and the engine's."""

    turns: int | None = None
    tokens: int | None = None
    """Of each answer."""
    enforced: bool = True
    """Whether it ends the episode or answer; else it is only noted."""

    @property
    def most_turns(self) -> int | None:
        return self.turns if self.enforced else None

    @property
    def most_tokens(self) -> int | None:
        return self.tokens if self.enforced else None


UNLIMITED = Budget()


@dataclass(frozen=True, slots=True)
class Curriculum:
    """From `first` to `last` in `iterations` iterations, in changes every `every`."""

    unit: Literal["turns", "tokens"]
    first: int
    last: int
    iterations: int
    every: int = 1
    course: Literal["linear", "exponential"] = "linear"
    enforced: bool = True

    @classmethod
    def of(cls, config: CurriculumConfig, longest: int | None, iterations: int) -> Curriculum | None:
        """That of a configuration that was checked; longest: what `first` is if it is not given; iterations: of the run."""
        first = config.first or longest
        if config.unit == "none" or first is None or config.last is None:
            return None
        length = config.iterations or max(1, iterations)
        return cls(config.unit, first, config.last, length, config.every, config.course, config.enforced)

    def budget(self, iteration: int) -> Budget:
        """Of the episodes of iteration 1, 2, ..."""
        done = (iteration - 1) // self.every * self.every
        share = min(1.0, done / max(1, self.iterations - 1))
        if self.course == "linear":
            size = self.first + (self.last - self.first) * share
        else:
            size = self.first * (self.last / self.first) ** share
        size = max(1, round(size))
        return Budget(size, None, self.enforced) if self.unit == "turns" else Budget(None, size, self.enforced)
