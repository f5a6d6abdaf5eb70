"""Shapings: further step rewards by name, stored beside the environment's reward. Plug-ins: group `stepcredit.shaping`.

How a shaped reward reaches the advantage is the method's setting `shaped` (algorithms/base.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from algorithms.registry import Registry
from envs.trajectory import Trajectory


class Shaping(Protocol):
    """A dataclass whose fields are its settings."""

    def shape(self, trajectories: Sequence[Trajectory]) -> None:
        """Write `step.shaped_rewards[<name of the shaping>]`; never change `step.reward`."""


_registry: Registry[Shaping] = Registry("shaping", "stepcredit.shaping")
register, names, get, build = _registry.register, _registry.names, _registry.get, _registry.build
register("invalid_action", "algorithms.shaping.invalid_action:InvalidAction")
