"""Settings of ALFWorld. The environment's time limit and numbers of games stand here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class ALFWorldConfig:
    """Settings of the environment. Raises ValueError for numbers that cannot be."""

    source: Literal["generated", "official"] = "generated"
    """Where games come from: drawn from seeds (no data needed), or the files of ALFWorld."""
    backend: Literal["native", "textworld"] = "native"
    """native: our engine; textworld: the official one, some thousand times slower (extra `alfworld`)."""
    max_steps: int = 50
    success_reward: float = 10.0
    """Reward of the step that wins; all others have 0."""
    size: Literal["small", "full"] = "small"
    """Of generated games: small ones a tiny model can learn, or full ones like the official ones."""
    data: str | None = None
    """Folder of the official games; None: the environment variable ALFWORLD_DATA."""
    train_games: int | None = None
    """Games in the split; None: all there are (official) or the default number (generated)."""
    eval_games: int | None = None
    test_games: int | None = None

    def __post_init__(self) -> None:
        for name in ("train_games", "eval_games", "test_games"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1, or null for the default")
