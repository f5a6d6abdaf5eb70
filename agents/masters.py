"""Float32 copies of weights in a coarser format: AdamW's small steps would be rounded away in bfloat16.

A weight that is float32 already is its own master.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

Named = Sequence[tuple[str, nn.Parameter]]


def masters_of(parameters: Named) -> list[nn.Parameter]:
    """One float32 parameter for each of `parameters`, for the optimiser to hold."""
    return [p if p.dtype == torch.float32 else nn.Parameter(p.detach().float()) for _, p in parameters]


def collect(parameters: Named, masters: Sequence[nn.Parameter]) -> None:
    """Add the gradients of a backward pass to those of the masters."""
    for (_, p), master in zip(parameters, masters, strict=True):
        if p is not master and p.grad is not None:
            master.grad = p.grad.float() if master.grad is None else master.grad + p.grad
            p.grad = None


@torch.no_grad()
def publish(parameters: Named, masters: Sequence[nn.Parameter]) -> None:
    """Round the masters into the weights."""
    for (_, p), master in zip(parameters, masters, strict=True):
        if p is not master:
            p.copy_(master)
