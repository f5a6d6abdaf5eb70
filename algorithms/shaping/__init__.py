"""Shapings: further step rewards by name, stored beside the environment's reward. Plug-ins: group `stepcredit.shaping`.

How a shaped reward reaches the advantage is the method's setting `shaped` (algorithms/base.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from algorithms.base import Floats
from envs.common.registry import Registry
from envs.trajectory import Trajectory


class Shaping(Protocol):
    """A dataclass whose fields are its settings.

    Before the first iteration, one with `needs_model: ClassVar[bool] = True` is given a TokenModel as its attribute `model`,
    and one with `needs_judge` a Judge as `judge` and the method's discount as `discount`.
    One that is of no use to some methods has a method `check(method)` that raises ValueError.
    """

    def shape(self, trajectories: Sequence[Trajectory]) -> None:
        """Write `step.shaped_rewards[<name of the shaping>]`; never change `step.reward`."""


class TokenModel(Protocol):
    """A language model that a shaping learns with: log-probabilities of sampled tokens, and a step along a gradient of them.

    [T]: all sampled tokens, trajectory by trajectory, step by step. The shaping carries the settings of the model among its own
    (agents/reward_model.py).
    """

    def logprobs(self, trajectories: Sequence[Trajectory]) -> Floats:
        """[T] under the model as it is now."""

    def old_logprobs(self, trajectories: Sequence[Trajectory]) -> Floats:
        """[T] under the policy that sampled, computed as `logprobs` are: where both models are the same, exactly the same."""

    def descend(self, trajectories: Sequence[Trajectory], gradient: Floats) -> dict[str, float]:
        """One optimiser step on a loss whose derivative with respect to `logprobs` is `gradient` [T]. Returns metrics."""


class Judge(Protocol):
    """Says which subgoals steps achieved; each transition by itself, whatever was achieved before."""

    metrics: dict[str, float]
    """What the last call cost, and what became of its questions."""

    def judge(self, trajectories: Sequence[Trajectory]) -> list[list[tuple[str, ...]]]:
        """For each trajectory, for each of its steps: names of the subgoals that the step achieved."""


_registry: Registry[Shaping] = Registry("shaping", "stepcredit.shaping")
register, names, get, build = _registry.register, _registry.names, _registry.get, _registry.build
register("calm", "algorithms.shaping.calm:Calm")
register("implicit_prm", "algorithms.shaping.implicit_prm:ImplicitPRM")
register("invalid_action", "algorithms.shaping.invalid_action:InvalidAction")
