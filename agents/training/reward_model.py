"""The language model beside the policy that a shaping learns with (algorithms.shaping.TokenModel).

It starts as the policy before RL: that model, frozen, plus an adapter of its own, or a copy that is trained whole. The frozen
model must not move with the policy: a preference measured from wherever the policy is now never comes to an end, and pushes it
on and on. If the policy is itself an adapter, the frozen model is shared with it. What it is fitted to the shaping says.

Its log-probabilities and the policy's come from the same rows, micro-batches, allowed tokens and temperature as the learner's:
where both models are the same, so are the numbers, bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from agents.models.adapter import Adapter
from agents.models.policy import Policy, PolicyError
from agents.training.experience import experienced
from agents.training.optimizer import Optimizer
from agents.training.passes import MicroBatch, logprobs, passes, per_token
from algorithms.base import Batch, Floats
from algorithms.shaping.implicit_prm import ImplicitPRM
from envs.common.seeding import derive


class RewardModel:
    """Holds the weights that are its own and their optimizer. Raises PolicyError if the adapter fits no layer.

    lr: the policy's learning rate.
    """

    def __init__(
        self, policy: Policy, settings: ImplicitPRM, lr: float, tokens_per_microbatch: int, temperature: float, seed: int
    ) -> None:
        self.settings, self._policy = settings, policy
        self._tokens_per_microbatch, self._temperature = tokens_per_microbatch, temperature
        self._tokens = 0
        self._adapter: Adapter | None = None
        if settings.kind == "adapter":
            self._shared = policy.model is not policy.causal
            self._own = policy if self._shared else policy.frozen()
            weights = derive(seed, "reward model", "weights")
            try:
                adapter = Adapter(self._own.causal, settings.targets, settings.rank, settings.alpha, weights).to(policy.device)
            except ValueError as error:
                raise PolicyError(f"targets of the reward model: {error}") from error
            self._adapter = adapter
            parameters = list(adapter.named_parameters())
        else:
            self._shared = False
            self._own = Policy(copy.deepcopy(policy.model), policy.tokenizer, policy.device)
            parameters = self._own.trainable()
        # Low-rank weights need some times the rate of whole ones, which the policy's is if it is trained whole: with 5 the tiny
        # model's pairs are told apart as well as by a copy, with 10 its step rewards become so large that training collapses.
        usual = lr * (5 if self._adapter is not None and policy.model is policy.causal else 1)
        rate = 2 * usual if settings.lr is None else settings.lr
        self.optimizer = Optimizer(parameters, rate)

    def logprobs(self, batch: Batch) -> Floats:
        """[T] log-probability of every sampled token under this model; forced tokens have 0. batch: an Experience."""
        with self._adapted():
            return self._logprobs(self._own, batch)

    def rollout_logprobs(self, batch: Batch) -> Floats:
        """[T] the same under the policy as it is: before its update, that is the one that sampled."""
        return self._logprobs(self._policy, batch)

    def descend(self, batch: Batch, gradient: Floats) -> dict[str, float]:
        """One step along `gradient` [T], the derivative of a loss with respect to `logprobs`. Returns the gradient's norm."""
        slope = torch.from_numpy(gradient).float()
        self.optimizer.clear()
        trained = [p for _, p in self.optimizer.parameters]  # and no others: the policy's weights gather no gradient here
        with self._own.training(), self._adapted():
            for part in self._passes(self._own, batch, slope != 0):
                logp = logprobs(self._own, part, self._temperature)[0]
                (slope[part.tokens].to(logp.device) * logp).sum().backward(inputs=trained)
                self.optimizer.collect()
        norm = self.optimizer.step(self.settings.grad_clip)
        return {"skipped_steps": 1.0} if norm is None else {"grad_norm": norm}

    def take_tokens(self) -> int:
        """Tokens that went through either model since the last call."""
        taken, self._tokens = self._tokens, 0
        return taken

    @contextmanager
    def _adapted(self) -> Iterator[None]:
        with (
            self._policy.reference() if self._shared else nullcontext(),
            self._adapter.active() if self._adapter else nullcontext(),
        ):
            yield

    def _logprobs(self, model: Policy, batch: Batch) -> Floats:
        experience = experienced(batch)
        found = per_token(
            experience, self._passes(model, batch), lambda part: logprobs(model, part, self._temperature)[0], otherwise=0.0
        )
        return found.numpy()

    def _passes(self, model: Policy, batch: Batch, wanted: Tensor | None = None) -> Iterator[MicroBatch]:
        """Over all rows, or those that hold a `wanted` [T] token."""
        experience = experienced(batch)
        rows = experience.plain_rows()
        if wanted is not None:
            rows = [row for row in rows if bool(wanted[row.tokens].any())]
        for part in passes(experience, rows, model, self._tokens_per_microbatch):
            self._tokens += part.real_tokens
            yield part

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the next rewards and updates depend on, besides the weights of the policy and of its frozen copy."""
        state: dict[str, Any] = {"weights": {name: p.detach() for name, p in self.optimizer.parameters}}
        return {**state, "optimizer": self.optimizer.state()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        for name, p in self.optimizer.parameters:
            p.copy_(state["weights"][name])
        self.optimizer.load_state(state["optimizer"])
