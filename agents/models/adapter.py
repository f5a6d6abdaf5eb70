"""A low-rank adapter beside a model: nothing of the model changes, and outside `active()` it is the model as it was.

A model wrapped by peft gets other names of weights and other flags of what is trained; a second learner on the policy's weights
must not touch either. Here forward hooks add the low-rank term to the outputs of named linear layers. The model may itself be
wrapped by peft: what its own adapter adds, if it is not switched off, this one adds to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class LowRank(nn.Module):
    """x -> scale B A x in float32, A random and B zero at first (LoRA, arXiv 2106.09685)."""

    def __init__(self, inputs: int, outputs: int, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = scale
        self.a = nn.Parameter(torch.empty(rank, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5), generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]"""
        return self.scale * linear(linear(x.to(self.a.dtype), self.a), self.b)


class Adapter(nn.Module):
    """Low-rank terms for all layers of `model` whose last name is among `targets`. Holds state: their weights.

    Raises ValueError for a target that names no linear layer.
    """

    def __init__(self, model: nn.Module, targets: Sequence[str], rank: int, alpha: float, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        layers = {path: layer for path, layer in model.named_modules() if hasattr(layer, "in_features")}
        names = {path.rpartition(".")[2] for path in layers}
        if missing := [target for target in targets if target not in names]:
            raise ValueError(f"no linear layer of the model is named {missing[0]}; there are: {', '.join(sorted(names))}")
        # Kept out of the module's own children: they are the model's.
        self._layers = [layer for path, layer in layers.items() if path.rpartition(".")[2] in targets]
        made = [LowRank(int(one.in_features), int(one.out_features), rank, alpha / rank, generator) for one in self._layers]
        self.terms = nn.ModuleList(made)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within: the model computes with the adapter. A backward pass that computes layers again must be within, too."""
        handles = [layer.register_forward_hook(_adding(term)) for layer, term in zip(self._layers, self.terms, strict=True)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _adding(term: nn.Module) -> Any:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + term(inputs[0]).to(output.dtype)

    return hook
