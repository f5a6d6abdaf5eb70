"""What shapings ask of language models: of the policy, and of models beside it that learn (algorithms.shaping.TokenModel).

A model beside the policy starts as that is before RL: frozen, plus an adapter of its own, or a copy that is trained whole. The
frozen model must not move with the policy: a preference measured from wherever the policy is now never comes to an end, and
pushes it on and on. If the policy is itself an adapter, the frozen model is shared with it. What it is fitted to the shaping
says.

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
from torch import Tensor, nn

from agents.models import ranks
from agents.models.adapter import Adapter
from agents.models.policy import Policy, PolicyError, Trunk
from agents.models.temperature import Temperature
from agents.models.voice import Voice
from agents.training.experience import Experience, experienced
from agents.training.hindsight import Noted, rows_with_notes
from agents.training.optimizer import Optimizer
from agents.training.packing import Row
from agents.training.passes import MicroBatch, distributions, logprobs, passes, per_token
from algorithms.base import Batch, Floats
from algorithms.losses import contrast
from algorithms.shaping.outcome_model import OutcomeModel
from envs.common.seeding import derive


class PolicyReader:
    """The policy, as it samples and as it was before RL, on the rows of an Experience. It holds no weights of its own.

    noted: puts a note into a prompt; None: nobody asks for that.
    """

    def __init__(
        self,
        policy: Policy,
        tokens_per_microbatch: int,
        temperature: Temperature,
        noted: Noted | None = None,
        reads_reference: bool = False,
    ) -> None:
        self._policy, self._noted = policy, noted
        self._tokens_per_microbatch, self.temperature = tokens_per_microbatch, temperature
        self._tokens = 0
        if reads_reference and policy.model is policy.causal:
            policy.frozen()  # now, before it learns

    @property
    def trunk(self) -> Trunk:
        """What its passes go through."""
        return self._policy.trunk

    def rollout_logprobs(self, batch: Batch) -> Floats:
        """[T] log-probability of every sampled token under the policy as it is: before its update, that is the one that
        sampled; forced tokens have 0."""
        return self._logprobs(self._policy, batch)

    def reference_logprobs(self, batch: Batch) -> Floats:
        """[T] the same under the policy as it was before RL."""
        before = self.before()
        with before.within():
            return self._logprobs(before.policy, batch)

    def told_logprobs(self, batch: Batch, note: str) -> Floats:
        """[T] the same as `rollout_logprobs` with `note` in the prompts; nan in a row that gets too long by it."""
        if self._noted is None:
            raise ValueError("nobody said how a note is put into a prompt")
        experience = experienced(batch)
        rows = list(rows_with_notes(experience, [note] * len(experience.trajectories), self._noted, self._policy.max_length))
        asked = [number for row in rows for number in row.tokens]
        found = np.full(experience.sampled, np.nan)
        found[asked] = self._logprobs(self._policy, batch, rows)[asked]
        return found

    def before(self) -> Voice:
        """The policy as it was before RL."""
        if self._policy.model is self._policy.causal:
            return Voice(self._policy.frozen())
        return Voice(self._policy, self._policy.reference)

    def take_tokens(self) -> int:
        """Tokens that went through a model since the last call."""
        taken, self._tokens = self._tokens, 0
        return taken

    def _logprobs(self, model: Policy, batch: Batch, rows: Sequence[Row] | None = None) -> Floats:
        experience = experienced(batch)
        asked = self._passes(model, experience, experience.plain_rows() if rows is None else rows)
        return per_token(experience, asked, lambda part: logprobs(model, part, self.temperature)[0], otherwise=0.0).numpy()

    def _passes(self, model: Policy, experience: Experience, rows: Sequence[Row]) -> Iterator[MicroBatch]:
        for part in passes(experience, rows, model, self._tokens_per_microbatch):
            self._tokens += part.real_tokens
            yield part

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the next rewards and updates depend on, besides the weights of the policy and of its frozen copy."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""


class RewardModel(PolicyReader):
    """Holds the weights that are its own and their optimizer. Raises PolicyError if the adapter fits no layer.

    lr: the policy's learning rate.
    """

    def __init__(
        self, policy: Policy, settings: OutcomeModel, lr: float, tokens_per_microbatch: int, temperature: Temperature, seed: int
    ) -> None:
        super().__init__(policy, tokens_per_microbatch, temperature, reads_reference=settings.reads_reference)
        self.settings = settings
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
        else:
            self._shared = False
            self._own = Policy(copy.deepcopy(policy.model), policy.tokenizer, policy.device)
        # Low-rank weights need some times the rate of whole ones, which the policy's is if it is trained whole: with 5 the tiny
        # model's pairs are told apart as well as by a copy, with 10 its step rewards become so large that training collapses.
        usual = lr * (5 if self._adapter is not None and policy.model is policy.causal else 1)
        rate = 2 * usual if settings.lr is None else settings.lr
        self.optimizer = Optimizer(self._trained, rate)

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return self._own.trainable() if self._adapter is None else list(self._adapter.named_parameters())

    @property
    def trunk(self) -> Trunk:
        """What its passes go through."""
        return self._own.trunk

    def logprobs(self, batch: Batch) -> Floats:
        """[T] log-probability of every sampled token under this model; forced tokens have 0. batch: an Experience."""
        with self._adapted():
            return self._logprobs(self._own, batch)

    def contrasted(self, batch: Batch, other: RewardModel, strength: float) -> Floats:
        """[T] log-probability of every sampled token under softmax(z + strength (z - z')), z' the logits of `other`; forced
        tokens have 0."""
        experience = experienced(batch)

        def of(part: MicroBatch) -> Tensor:
            found = contrast(self.distributions(part), other.distributions(part), strength)
            return found[part.which, part.targets]

        parts = passes(experience, experience.plain_rows(), self._own, self._tokens_per_microbatch)
        return per_token(experience, parts, of, otherwise=0.0).numpy()

    @torch.no_grad()
    def distributions(self, part: MicroBatch) -> Tensor:
        """[D, V] log-probabilities of all tokens at the distinct places of a micro-batch."""
        self._tokens += part.real_tokens
        with self._adapted():
            return distributions(self._own, part, self.temperature)

    def descend(self, batch: Batch, gradient: Floats) -> dict[str, float]:
        """One step along `gradient` [T], the derivative of a loss with respect to `logprobs`. Returns the gradient's norm."""
        slope = torch.from_numpy(gradient).float()
        self.optimizer.clear()
        # Of an adapter only its own weights: those of a policy that is an adapter too gather no gradient here.
        trained = None if self._adapter is None else [p for _, p in self.optimizer.parameters]
        with self._own.training(), self._adapted():
            experience = experienced(batch)
            rows = [row for row in experience.plain_rows() if bool((slope[row.tokens] != 0).any())]
            for part in self._passes(self._own, experience, rows):
                logp = logprobs(self._own, part, self.temperature)[0]
                (slope[part.tokens].to(logp.device) * logp).sum().backward(inputs=trained)
                self.optimizer.collect()
        norm = self.optimizer.step(self.settings.grad_clip)
        return {"skipped_steps": 1.0} if norm is None else {"grad_norm": norm}

    def voice(self) -> Voice:
        """This model."""
        return Voice(self._own, self._adapted)

    @contextmanager
    def _adapted(self) -> Iterator[None]:
        with (
            self._policy.reference() if self._shared else nullcontext(),
            self._adapter.active() if self._adapter else nullcontext(),
        ):
            yield

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the next rewards and updates depend on, besides the weights of the policy and of its frozen copy."""
        state: dict[str, Any] = {"weights": {name: ranks.full(p.detach()) for name, p in self.optimizer.parameters}}
        return {**state, "optimizer": self.optimizer.state()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        ranks.put(state["weights"], dict(self.optimizer.parameters))
        self.optimizer.load_state(state["optimizer"])
