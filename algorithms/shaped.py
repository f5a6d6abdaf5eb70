"""No credit of its own: what shapings add to advantages (shaped_at.<name>=advantage), or distill, is all that is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from algorithms.base import Advantages, Algorithm, Scored


@dataclass
class Shaped(Algorithm):
    """A = what enters at the advantage: for objectives that stand for themselves."""

    def credit(self, batch: Scored) -> Advantages:
        """[S] 0 everywhere."""
        return Advantages(np.zeros(len(batch.reward)))

    def check(self, shapings: Sequence[str]) -> None:
        """Raises ValueError if no shaping enters at the advantage, or distills."""
        from algorithms import shaping

        if any(self.shaped_at.get(name) == "advantage" or shaping.get(name).distills for name in shapings):
            return
        missing = f"set algo.shaped_at.{shapings[0]}=advantage" if shapings else "choose one, for example algo=tgdpo"
        raise ValueError(
            "name is 'shaped', which credits nothing but what a shaping adds to the advantage or distills, and none does here: "
            f"{missing}, or a method with credit of its own, for example algo=gigpo"
        )
