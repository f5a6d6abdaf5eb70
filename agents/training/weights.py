"""The weights between learner and engines: a version at a time, as named tensors, to any number of engines.

A version is published by reference where engine and learner take turns: in this process that costs no copy, and an engine must
not sample while the learner changes the weights. Where it may (rollout.overlap), copies are published of what the learner
changes. An engine elsewhere copies what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from agents.models import ranks
from agents.models.policy import Policy
from agents.rollout.engines.base import Engine, Weights


class WeightsError(RuntimeError):
    """A version of the weights did not reach an engine. The run must not go on: it would sample from older ones unnoticed."""


class WeightStore:
    """Publishes the weights of a policy to engines. Holds no state but who they are."""

    def __init__(self, policy: Policy, engines: Sequence[Engine], copies: bool = False) -> None:
        """copies: engines sample while the learner changes the weights."""
        self._policy, self._engines, self._copies = policy, engines, copies

    async def publish(self, version: int) -> None:
        """Give the weights as they are now to all engines: LoRA merged, or the adapter alone where an engine takes one.

        Raises WeightsError if one has not got them.
        """
        adapter = self._kept(self._policy.adapter_tensors())
        whole: Weights | None = None
        for engine in self._engines:
            if adapter and engine.takes_adapter:
                await _give(engine, Weights(version, adapter, adapter=True))
            else:
                whole = whole or Weights(version, self._kept(self._policy.named_tensors()))
                await _give(engine, whole)

    def _kept(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Tensors that no update changes."""
        if not self._copies:
            return tensors
        if ranks.size() > 1:
            return tensors  # gathered for this version
        trained = {p.data_ptr() for _, p in self._policy.trainable()}
        return {name: tensor.clone() if tensor.data_ptr() in trained else tensor for name, tensor in tensors.items()}


async def _give(engine: Engine, weights: Weights) -> None:
    try:
        await engine.update_weights(weights)
    except Exception as error:
        raise WeightsError(_lost(weights, f"{type(error).__name__}: {error}")) from error
    if engine.weights_version != weights.version:
        raise WeightsError(_lost(weights, f"it says that it samples from version {engine.weights_version}"))


def _lost(weights: Weights, why: str) -> str:
    return (
        f"version {weights.version} of the weights did not reach the engine: {why}. The run stops here, since it would go on "
        "sampling from older ones"
    )
