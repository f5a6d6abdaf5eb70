"""The language model beside the policy that a shaping learns with (algorithms.shaping.TokenModel).

It starts as the policy before RL: that model, frozen, plus an adapter of its own, or a copy that is trained whole. The frozen
model must not move with the policy: a preference measured from wherever the policy is now never comes to an end, and pushes it
on and on. If the policy is itself an adapter, the frozen model is shared with it. What it is fitted to the shaping says.

Its log-probabilities and the policy's come from the same rows, micro-batches, allowed tokens and temperature as the learner's:
where both models are the same, so are the numbers, bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.models.adapter import Adapter
from agents.models.policy import Policy, PolicyError, token_logprobs
from agents.rollout.constraint import ActionTries
from agents.training.optimizer import Optimizer
from agents.training.packing import Row, collate, micro_batches, rows
from agents.training.tokens import Tokens
from algorithms.base import Floats
from algorithms.shaping.implicit_prm import ImplicitPRM
from envs.common.seeding import derive
from envs.trajectory import Trajectory


class RewardModel:
    """Holds the weights that are its own and their optimiser. Raises PolicyError if the adapter fits no layer.

    lr: the policy's learning rate. tries: if sampling was constrained by them.
    """

    def __init__(
        self,
        policy: Policy,
        settings: ImplicitPRM,
        lr: float,
        tries: ActionTries | None,
        token_budget: int,
        temperature: float,
        seed: int,
    ) -> None:
        self.settings, self._policy, self._tries = settings, policy, tries
        self._token_budget, self._temperature = token_budget, temperature
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

    @torch.no_grad()
    def logprobs(self, trajectories: Sequence[Trajectory]) -> Floats:
        """[T] log-probability of every sampled token under this model; forced tokens have 0."""
        with self._adapted():
            return self._all_logprobs(self._own, trajectories)

    @torch.no_grad()
    def old_logprobs(self, trajectories: Sequence[Trajectory]) -> Floats:
        """[T] the same under the policy as it is: before its update, that is the one that sampled."""
        return self._all_logprobs(self._policy, trajectories)

    def descend(self, trajectories: Sequence[Trajectory], gradient: Floats) -> dict[str, float]:
        """One step along `gradient` [T], the derivative of a loss with respect to `logprobs`. Returns the gradient's norm."""
        tokens, slope = Tokens.of(trajectories, self._tries), torch.from_numpy(gradient).float()
        packed = rows(trajectories, tokens.first[:-1], self._policy.longest_row(self._token_budget))
        packed = [row for row in packed if bool((slope[row.tokens] != 0).any())]
        self.optimizer.clear()
        trained = [p for _, p in self.optimizer.parameters]  # and no others: the policy's weights gather no gradient here
        with self._own.training(), self._adapted():
            for numbers, logp in self._passes(self._own, packed, tokens):
                (slope[numbers].to(logp.device) * logp).sum().backward(inputs=trained)
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

    def _all_logprobs(self, model: Policy, trajectories: Sequence[Trajectory]) -> Floats:
        tokens = Tokens.of(trajectories, self._tries)
        found = np.zeros(len(tokens))
        packed = rows(trajectories, tokens.first[:-1], self._policy.longest_row(self._token_budget))
        for numbers, logp in self._passes(model, packed, tokens):
            found[numbers.numpy()] = logp.double().cpu().numpy()
        return found

    def _passes(self, model: Policy, packed: Sequence[Row], tokens: Tokens) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers [M] and log-probabilities [M] of the choices among the sampled tokens, by micro-batch."""
        for group in micro_batches(packed, self._token_budget):
            collated = collate(group, pad=0, device=model.device)
            self._tokens += collated.real_tokens
            batch, allowed = tokens.choices(collated, model.vocabulary)
            if len(batch.tokens):
                logits = model.forward(batch.ids, batch.positions, batch.mask, batch.before)
                yield batch.tokens, token_logprobs(logits, batch.targets, allowed, self._temperature)[0]

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
