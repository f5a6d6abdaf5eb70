"""The value function: an MLP on hidden states of the policy as it was before RL, and how it is fitted.

A frozen base computes every hidden state once an iteration; the MLP's updates then cost next to nothing. What is to be
predicted is the method's business.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from agents.config.sections import CriticConfig, OptimConfig
from agents.models.policy import Policy, hidden_states
from agents.training.experience import Experience
from agents.training.optimizer import Optimizer
from agents.training.passes import MicroBatch, passes
from algorithms.base import Floats
from algorithms.losses import value_loss
from envs.common.seeding import derive


class Critic:
    """Holds the value head and its optimizer, and with trains=all a copy of the policy."""

    def __init__(self, policy: Policy, config: CriticConfig, optim: OptimConfig, seed: int) -> None:
        self.config, self.optim, self.seed = config, optim, seed
        self._policy = policy
        self._adapters = policy.model is not policy.causal and config.trains == "head"
        if config.trains == "all":
            base = copy.deepcopy(policy.causal).requires_grad_(True).eval()
        else:
            base = policy.causal if self._adapters else policy.frozen().causal
        self._base: Any = base
        width, widths = int(base.config.get_text_config().hidden_size), [*config.hidden, 1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "critic", "weights"))
            layers = [nn.Linear(a, b, bias=False) for a, b in pairwise([width, *widths])]
        nn.init.zeros_(layers[-1].weight)  # before it has learned anything a critic has no opinion
        joined = [part for layer in layers for part in (layer, nn.ReLU())][:-1]
        self.head = nn.Sequential(*joined).to(policy.device)
        parameters = [(f"head.{name}", p) for name, p in self.head.named_parameters()]
        if config.trains == "all":
            parameters += [(f"base.{name}", p) for name, p in base.base_model.named_parameters()]
        self.optimizer = Optimizer(parameters, config.lr)
        self._tokens = 0
        self._hidden: Tensor | None = None
        """[T, H] on the CPU: the frozen base's hidden states of the iteration under way."""

    @torch.no_grad()
    def values(self, experience: Experience) -> Floats:
        """[T] value of what stands before each sampled token."""
        found = torch.zeros(experience.sampled)
        self._hidden = states = None
        for numbers, hidden in self._states(experience):
            found[numbers] = self._head(hidden).cpu()
            if self.config.trains == "head":
                states = torch.empty(len(found), hidden.shape[1], dtype=hidden.dtype) if states is None else states
                states[numbers] = hidden.cpu()
        self._hidden = states
        return found.double().numpy()

    def update(self, experience: Experience, iteration: int) -> dict[str, float]:
        """Fit the returns of the experience of iteration 0, 1, ..., whose values are those before: call `values` first."""
        if experience.returns is None or experience.values is None:
            raise ValueError("a critic needs values and the returns to fit them to")
        target, before = (torch.from_numpy(x).float() for x in (experience.returns, experience.values))
        has = torch.isfinite(target)
        total = steps = 0.0
        epochs = self.config.epochs or self.optim.epochs
        for members in experience.mini_batches(self.optim.minibatch_episodes, epochs, self.seed, "critic", iteration):
            loss, updated = self._step(experience, members, target, before, has)
            total, steps = total + loss, steps + updated
        self._hidden = None
        spread = float(target[has].var(correction=0)) if bool(has.any()) else 0.0
        left = float((target - before)[has].var(correction=0)) if bool(has.any()) else 0.0
        return {"loss": total / max(1.0, steps), "explained": 1 - left / spread if spread > 0 else 0.0}

    def take_tokens(self) -> int:
        """Tokens that went through the base since the last call."""
        taken, self._tokens = self._tokens, 0
        return taken

    # -- one optimizer step ---------------------------------------------------------------------------------------------

    def _step(
        self, experience: Experience, members: list[int], target: Tensor, before: Tensor, has: Tensor
    ) -> tuple[float, bool]:
        fitted = int(has[experience.numbers(members)].sum())
        if not fitted:
            return 0.0, False
        self.optimizer.clear()
        total = 0.0
        self._base.train(self.config.trains == "all")  # gradient checkpointing works in training mode only
        for numbers, hidden in self._states(experience, members):
            kept = has[numbers]
            numbers = numbers[kept]
            values = self._head(hidden[kept.to(hidden.device)])
            old, wanted = before[numbers].to(values.device), target[numbers].to(values.device)
            loss = value_loss(values, old, wanted, self.config.clip).sum() / fitted
            (self.config.coefficient * loss).backward()
            self.optimizer.collect()
            total += float(loss.detach())
        self._base.eval()
        if self.optimizer.step(self.config.grad_clip) is None:
            return 0.0, False
        return total, True

    def _head(self, hidden: Tensor) -> Tensor:
        return self.head(hidden.float())[:, 0]

    def _states(self, experience: Experience, members: Iterable[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers [M] of some or all trajectories' sampled tokens and the hidden states [M, H] before them, by micro-batch."""
        budget = self.optim.tokens_per_microbatch
        if self._hidden is not None and members is not None:
            for part in experience.numbers(members).split(budget):
                yield part, self._hidden[part].to(self._policy.device)
            return
        for batch in passes(experience, experience.plain_rows(members), self._policy, budget, forced=True):
            self._tokens += batch.real_tokens
            yield batch.tokens, self._forward(batch)

    def _forward(self, batch: MicroBatch) -> Tensor:
        frozen: AbstractContextManager[Any] = torch.no_grad() if self.config.trains == "head" else nullcontext()
        with frozen, self._policy.reference() if self._adapters else nullcontext():
            hidden = hidden_states(self._base, batch.ids, batch.positions, batch.mask)
        return hidden.reshape(-1, hidden.shape[-1])[batch.before][batch.which]

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the next values and updates depend on."""
        state: dict[str, Any] = {"head": self.head.state_dict(), "optimizer": self.optimizer.state()}
        if self.config.trains == "all":
            state["base"] = self._base.state_dict()
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        self.head.load_state_dict(state["head"])
        if self.config.trains == "all":
            self._base.load_state_dict(state["base"])
        self.optimizer.load_state(state["optimizer"])
