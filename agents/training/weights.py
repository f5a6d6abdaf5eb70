"""The weights between learner and engines: a version at a time, as named tensors, to any number of engines.

A version is published by reference: in this process that costs no copy, and an engine must not sample while the learner changes
the weights. `snapshot=True` publishes copies, which stay as they were: for engines that go on while the learner learns.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.models.policy import Policy
from agents.rollout.engines.base import Engine, Weights


class WeightStore:
    """Publishes the weights of a policy. Holds state: the version that was published last."""

    def __init__(self, policy: Policy, engines: Sequence[Engine], snapshot: bool = False) -> None:
        self._policy, self._engines, self._snapshot = policy, engines, snapshot
        self.version = -1
        """-1: none yet."""

    def publish(self, version: int) -> None:
        """Give the weights as they are now to all engines: LoRA merged, or the adapter alone where an engine takes one."""
        made: dict[bool, Weights] = {}
        for engine in self._engines:
            adapter = engine.takes_adapter and bool(self._policy.adapter_tensors())
            if adapter not in made:
                made[adapter] = self._weights(version, adapter)
            engine.update_weights(made[adapter])
        self.version = version

    def _weights(self, version: int, adapter: bool) -> Weights:
        tensors = self._policy.adapter_tensors() if adapter else self._policy.named_tensors()
        if self._snapshot:
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        return Weights(version, tensors, adapter)
