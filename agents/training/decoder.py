"""The reward of a step, decoded from factors that were written (algorithms.shaping.FactorModel): an MLP on the numbers alone.

It reads no tokens and no model. What the numbers are to be the shaping says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.training.optimizer import Optimizer
from algorithms.base import Floats
from algorithms.shaping.latent import Latent
from envs.common.seeding import derive, generator


class Decoder:
    """Holds the factors that are decoded, the MLP, its optimizer, and how often it has drawn."""

    def __init__(self, settings: Latent, name: str, device: torch.device, seed: int) -> None:
        """name: of its own, for its seeds."""
        self.settings, self._name, self._device, self._seed = settings, name, device, seed
        self.factors: list[str] | None = None
        self.mlp = nn.Sequential()
        self.optimizer: Optimizer | None = None
        self._draws = 0

    def begin(self, factors: Sequence[str]) -> None:
        """Decode these factors from now on."""
        widths = [len(factors), *self.settings.hidden, 1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self._seed, self._name, "weights"))
            layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
        nn.init.zeros_(layers[-1].weight)  # before it has learned anything it has no opinion
        nn.init.zeros_(layers[-1].bias)
        self.mlp = mlp = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1]).to(self._device)
        self.optimizer = Optimizer(lambda: [*mlp.named_parameters()], self.settings.lr)
        self.factors = list(factors)

    def fit(
        self, table: Floats, gradient: Callable[[Floats, np.random.Generator], Floats], epochs: int
    ) -> tuple[Floats, Floats, dict[str, float]]:
        """Optimizer steps, each on all steps. table [S, F] -> rewards [S] before and after, and metrics."""
        assert self.optimizer is not None
        rows, of = np.unique(table, axis=0, return_inverse=True)  # equal factors are decoded once
        of = of.reshape(-1)
        before = found = self.rewards(rows)[of]
        norm, skipped = 0.0, 0
        for _ in range(epochs):
            self._draws += 1
            wanted = gradient(found, generator(self._seed, self._name, "draw", self._draws))
            self.slope(rows, np.bincount(of, wanted, len(rows)).astype(np.float64))
            taken = self.optimizer.step(self.settings.grad_clip)
            norm, skipped = norm + (taken or 0.0), skipped + (taken is None)
            found = self.rewards(rows)[of]
        return before, found, {"grad_norm": norm / max(1, epochs - skipped), "skipped_steps": float(skipped)}

    @torch.no_grad()
    def rewards(self, table: Floats) -> Floats:
        """[S] of factors [S, F]."""
        found: Floats = self.mlp(self._read(table))[:, 0].double().cpu().numpy()
        return found

    def slope(self, table: Floats, gradient: Floats) -> None:
        """Leave in the weights the derivative of a loss whose derivative with respect to the rewards is `gradient` [S]."""
        assert self.optimizer is not None
        self.optimizer.clear()
        found = self.mlp(self._read(table))[:, 0]
        (torch.from_numpy(gradient).to(found) * found).sum().backward()
        self.optimizer.collect()

    def take_tokens(self) -> int:
        """None went through a model."""
        return 0

    def _read(self, table: Floats) -> Tensor:
        return torch.from_numpy(table).to(next(self.mlp.parameters()))

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the next rewards depend on."""
        if self.optimizer is None:
            return {"factors": None}
        weights, optimizer = self.mlp.state_dict(), self.optimizer.state()
        return {"factors": self.factors, "weights": weights, "optimizer": optimizer, "draws": self._draws}

    def load_state(self, state: dict[str, Any]) -> None:
        if state["factors"] is None:
            return
        self.begin(state["factors"])
        assert self.optimizer is not None
        self.mlp.load_state_dict(state["weights"])
        self.optimizer.load_state(state["optimizer"])
        self._draws = int(state["draws"])
