"""AdamW on float32 copies of weights in a coarser format: its small steps would be rounded away in bfloat16.

A weight that is no coarser than float32 is its own master. Everything that learns here takes its steps by this one way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from agents.models import ranks

Named = Sequence[tuple[str, nn.Parameter]]


class Optimizer:
    """Holds the masters of some weights and AdamW's moments. Made when it is first used: by then ranks have their shards."""

    def __init__(
        self, parameters: Callable[[], Named], lr: float, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.0
    ) -> None:
        self._parameters, self.lr = parameters, lr
        self._betas, self._weight_decay = betas, weight_decay

    @cached_property
    def parameters(self) -> Named:
        """The weights that are trained, named."""
        return self._parameters()

    @cached_property
    def masters(self) -> list[nn.Parameter]:
        """Float32 or finer, of each weight."""
        return [nn.Parameter(p.detach().float()) if p.dtype.itemsize < 4 else p for _, p in self.parameters]

    @cached_property
    def _adamw(self) -> torch.optim.AdamW:
        foreach = None if len(self._kinds()) < 2 else False  # torch's batched steps take one kind only
        return torch.optim.AdamW(self.masters, self.lr, self._betas, weight_decay=self._weight_decay, foreach=foreach)

    def _kinds(self) -> list[list[nn.Parameter]]:
        """The masters that are shards, and those that every rank holds whole; no empty list."""
        sharded = [isinstance(master, DTensor) for master in self.masters]
        kinds = ([m for m, shard in zip(self.masters, sharded) if shard is kind] for kind in (True, False))
        return [kind for kind in kinds if kind]

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
        """One step with the gradient cut to norm `clip`. Returns the norm, or None if it is not finite: no step was taken.

        The gradient is the sum of those of all ranks."""
        norm = self._norm()
        if not bool(torch.isfinite(norm)):
            return None
        for kind in self._kinds():
            torch.nn.utils.clip_grads_with_norm_(kind, clip, norm)
        for group in self._adamw.param_groups:
            group["lr"] = self.lr
        self._adamw.step()
        with torch.no_grad():
            for (_, p), master in zip(self.parameters, self.masters, strict=True):
                if p is not master:
                    p.copy_(master)
        return float(norm)

    def _norm(self) -> Tensor:
        """Of the gradient, once it is the sum over all ranks: those of shards are their mean, others each rank's own."""
        if ranks.size() == 1:
            return _norm(self.masters)
        for kind in self._kinds():
            if isinstance(kind[0], DTensor):
                for p in kind:
                    if p.grad is not None:
                        p.grad.mul_(ranks.size())
            else:
                mine = [torch.zeros_like(p) if p.grad is None else p.grad for p in kind]
                total = ranks.added_up(torch.cat([grad.reshape(-1) for grad in mine]))
                for p, grad in zip(kind, total.split([p.numel() for p in kind])):
                    p.grad = grad.view_as(p)
        return torch.linalg.vector_norm(torch.stack([ranks.full(_norm(kind)) for kind in self._kinds()]))

    def state(self) -> dict[str, Any]:
        """Moments, and masters where they are not the weights themselves; whole, whatever ranks there are."""
        state: dict[str, Any] = {"adamw": ranks.full_tree(self._adamw.state_dict())}
        if any(p is not master for (_, p), master in zip(self.parameters, self.masters, strict=True)):
            state["masters"] = [ranks.full(master.detach()) for master in self.masters]
        return state

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()`, at this optimizer's own learning rate: a resumed run may have been given another one."""
        adamw = dict(state["adamw"])
        adamw["state"] = {
            number: {name: _like(saved, self.masters[int(number)]) for name, saved in moments.items()}
            for number, moments in adamw["state"].items()
        }
        self._adamw.load_state_dict(adamw)
        for master, saved in zip(self.masters, state.get("masters", [])):
            master.copy_(ranks.like(saved, master))


def _norm(weights: Sequence[nn.Parameter]) -> Tensor:
    return torch.nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])


def _like(saved: Any, master: nn.Parameter) -> Any:
    """A moment, sharded as its weight is; AdamW's count of steps is a number."""
    return ranks.like(saved, master) if isinstance(saved, Tensor) and saved.shape == master.shape else saved
