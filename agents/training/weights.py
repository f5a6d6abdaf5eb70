"""The weights between learner and engines: a version at a time, as named tensors, to any number of engines.

A version is published by reference: in this process that costs no copy, and an engine must not sample while the learner changes
the weights. An engine elsewhere copies what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.models.policy import Policy
from agents.rollout.engines.base import Engine, Weights


class WeightStore:
    """Publishes the weights of a policy to engines. Holds no state but who they are."""

    def __init__(self, policy: Policy, engines: Sequence[Engine]) -> None:
        self._policy, self._engines = policy, engines

    async def publish(self, version: int) -> None:
        """Give the weights as they are now to all engines: LoRA merged, or the adapter alone where an engine takes one."""
        adapter = self._policy.adapter_tensors()
        whole: Weights | None = None
        for engine in self._engines:
            if adapter and engine.takes_adapter:
                await engine.update_weights(Weights(version, adapter, adapter=True))
            else:
                whole = whole or Weights(version, self._policy.named_tensors())
                await engine.update_weights(whole)
