"""AdamW on float32 copies of weights in a coarser format: its small steps would be rounded away in bfloat16.

A weight that is float32 already is its own master. Everything that learns here takes its steps by this one way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

Named = Sequence[tuple[str, nn.Parameter]]


class Optimizer:
    """Holds the masters of some weights and AdamW's moments."""

    def __init__(
        self, parameters: Named, lr: float, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.0
    ) -> None:
        self.parameters = parameters
        self.masters = [p if p.dtype == torch.float32 else nn.Parameter(p.detach().float()) for _, p in parameters]
        self._adamw = torch.optim.AdamW(self.masters, lr=lr, betas=betas, weight_decay=weight_decay)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self._adamw.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self._adamw.param_groups:
            group["lr"] = value

    def clear(self) -> None:
        """Forget the gradient."""
        for master in self.masters:
            master.grad = None

    def collect(self) -> None:
        """Add the gradients of a backward pass to those of the masters."""
        for (_, p), master in zip(self.parameters, self.masters, strict=True):
            if p is not master and p.grad is not None:
                master.grad = p.grad.float() if master.grad is None else master.grad + p.grad
                p.grad = None

    def step(self, clip: float) -> float | None:
        """One step with the gradient cut to norm `clip`. Returns the norm, or None if it is not finite: no step was taken."""
        norm = torch.nn.utils.clip_grad_norm_(self.masters, clip)
        if not bool(torch.isfinite(norm)):
            return None
        self._adamw.step()
        with torch.no_grad():
            for (_, p), master in zip(self.parameters, self.masters, strict=True):
                if p is not master:
                    p.copy_(master)
        return float(norm)

    def state(self) -> dict[str, Any]:
        """Moments, and masters where they are not the weights themselves."""
        state: dict[str, Any] = {"adamw": self._adamw.state_dict()}
        if any(p is not master for (_, p), master in zip(self.parameters, self.masters, strict=True)):
            state["masters"] = [master.detach() for master in self.masters]
        return state

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()`, at this optimizer's own learning rate: a resumed run may have been given another one."""
        lr = self.lr
        self._adamw.load_state_dict(state["adamw"])
        self.lr = lr
        for master, saved in zip(self.masters, state.get("masters", [])):
            master.copy_(saved)
