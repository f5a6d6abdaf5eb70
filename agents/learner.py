"""The update: token-exact rows, micro-batches by token budget, the policy loss, AdamW.

The learner knows no method: it gets one advantage a sampled token. Losses are sums of token losses with weights fixed for the
whole mini-batch, so how the mini-batch is cut into micro-batches never changes a gradient.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.config import LossConfig, OptimConfig
from agents.masters import collect, masters_of, publish
from agents.packing import MicroBatch, Row, collate, micro_batches, rows
from agents.policy import Policy, token_logprobs
from agents.tokens import Tokens
from algorithms import losses
from algorithms.correction import correction_weights, mismatch
from envs.seeding import generator
from envs.trajectory import Trajectory


@dataclass(slots=True)
class _Sums:
    """Metrics of an update, summed over tokens."""

    totals: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def add(self, **values: float) -> None:
        for key, value in values.items():
            self.totals[key] = self.totals.get(key, 0.0) + value


class Learner:
    """Holds the optimiser, the schedule and, if a KL penalty asks for one, the reference policy."""

    def __init__(
        self,
        policy: Policy,
        optim: OptimConfig,
        loss: LossConfig,
        iterations: int,
        seed: int,
        temperature: float = 1.0,
    ) -> None:
        self.policy, self.optim, self.loss = policy, optim, loss
        self.iterations, self.seed, self.temperature = iterations, seed, temperature
        self.parameters = policy.trainable()
        self.masters = masters_of(self.parameters)
        self.optimizer = torch.optim.AdamW(
            self.masters, lr=optim.lr, betas=(optim.betas[0], optim.betas[1]), weight_decay=optim.weight_decay
        )
        self._mismatch: dict[str, float] = {}
        self.reference: nn.Module | None = None
        if loss.kl.kind != "none" and policy.model is policy.causal:
            self.reference = copy.deepcopy(policy.causal).requires_grad_(False).eval()

    def learning_rate(self, iteration: int) -> float:
        """Of iteration 0, 1, ...: linear warm-up, then the schedule to the last iteration."""
        o = self.optim
        if iteration < o.warmup:
            return o.lr * (iteration + 1) / o.warmup
        if o.schedule == "constant":
            return o.lr
        done = min(1.0, (iteration - o.warmup) / max(1, self.iterations - o.warmup))
        return o.lr * (1 - done if o.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done)))

    def update(self, trajectories: Sequence[Trajectory], tokens: Tokens, iteration: int) -> dict[str, float]:
        """One pass or more over an iteration's episodes. Returns metrics; `computed_tokens` counts forward tokens."""
        lr = self.learning_rate(iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        sums = _Sums()
        correction = None
        if self.loss.correction.kind != "none":
            correction = self._corrected(trajectories, tokens)
        for epoch in range(self.optim.epochs):
            order = generator(self.seed, "minibatches", iteration, epoch).permutation(len(trajectories))
            count = max(1, round(len(order) / self.optim.minibatch))
            for number, members in enumerate(np.array_split(order, count)):
                self._step(trajectories, tokens, sorted(members.tolist()), sums, correction, fresh=epoch == number == 0)
        return {**self._summary(sums), "learning_rate": lr}

    # -- one optimiser step ---------------------------------------------------------------------------------------------

    def _step(
        self,
        trajectories: Sequence[Trajectory],
        tokens: Tokens,
        members: list[int],
        sums: _Sums,
        correction: Tensor | None,
        fresh: bool,
    ) -> None:
        numbers = torch.cat([torch.arange(tokens.first[m], tokens.first[m + 1]) for m in members])
        if len(numbers) == 0:
            return
        sequence = self._sequence(tokens)[numbers]
        weights = torch.zeros(len(tokens.advantages))
        weights[numbers] = losses.token_weights(sequence, self.loss.aggregation, tokens.defined[numbers], self.loss.norm_length)
        packed = rows([trajectories[m] for m in members], [tokens.first[m] for m in members], self.optim.token_budget)
        if self.loss.skip_zero and self._zero_advantage_is_no_gradient():
            kept = [row for row in packed if bool((tokens.advantages[row.tokens] != 0).any())]
            sums.add(skipped_rows=len(packed) - len(kept))
            packed = kept
        sums.add(rows=len(packed))
        for master in self.masters:
            master.grad = None
        with self.policy.training():
            for group in micro_batches(packed, self.optim.token_budget):
                self._backward(group, tokens, weights, sums, correction, fresh)
        if not packed:
            return
        norm = torch.nn.utils.clip_grad_norm_(self.masters, self.optim.grad_clip)
        sums.steps += 1
        if not bool(torch.isfinite(norm)):
            sums.add(skipped_steps=1)
            return
        sums.add(grad_norm=float(norm))
        self.optimizer.step()
        publish(self.parameters, self.masters)

    def _backward(
        self, group: list[Row], tokens: Tokens, weights: Tensor, sums: _Sums, correction: Tensor | None, fresh: bool
    ) -> None:
        batch = collate(group, pad=0, device=self.policy.device)
        sums.add(computed_tokens=batch.real_tokens, padded_tokens=batch.ids.numel())
        batch, allowed = tokens.choices(batch, self.policy.causal.config.vocab_size)
        if len(batch.tokens) == 0:
            return
        logits = self.policy.forward(batch.ids, batch.positions, batch.mask, batch.before)
        logp, entropy = token_logprobs(logits, batch.targets, allowed, self.temperature)
        device = logp.device
        old, advantage, weight = (x[batch.tokens].to(device) for x in (tokens.old_logprobs, tokens.advantages, weights))
        if fresh and correction is None:
            # Before the first step the trainer's policy is the sampling policy: any difference is numerical.
            gap = (logp.detach() - old).abs()
            sums.add(mismatch_sum=float(gap.sum()), mismatch_tokens=len(gap))
            sums.totals["mismatch_max"] = max(sums.totals.get("mismatch_max", 0.0), float(gap.max()))
        # Tokens without an opinion stand apart, so that they enter no ratio of a sequence.
        sequence = torch.where(tokens.defined, self._sequence(tokens), -1)[batch.tokens].to(device)
        clip = losses.Clip(self.loss.clip_low, self.loss.clip_high, self.loss.dual_clip)
        result = losses.SURROGATES[self.loss.surrogate](logp, old, advantage, sequence, clip)
        per_token = result.loss if correction is None else result.loss * correction[batch.tokens].to(device)
        if self.loss.entropy:
            per_token = per_token - self.loss.entropy * entropy
        if self.loss.kl.kind != "none":
            penalty = losses.kl(logp, self._reference_logprobs(batch, allowed), self.loss.kl.kind)
            per_token = per_token + self.loss.kl.coefficient * penalty
            sums.add(kl=float((weight * penalty.detach()).sum()))
        total = (weight * per_token).sum()
        total.backward()
        collect(self.parameters, self.masters)
        sums.add(
            loss=float(total.detach()),
            entropy_sum=float(entropy.detach().sum()),
            clipped_sum=float(result.clipped.sum()),
            choices=len(logp),
            kl_old_sum=float((old - logp.detach()).sum()),
        )

    @torch.no_grad()
    def _corrected(self, trajectories: Sequence[Trajectory], tokens: Tokens) -> Tensor:
        """Importance weights [T] of trainer over engine; the trainer's own log-probabilities become the old ones."""
        own = torch.zeros_like(tokens.old_logprobs)  # forced tokens stay at log-probability 0
        packed = rows(trajectories, tokens.first[:-1], self.optim.token_budget)
        for group in micro_batches(packed, self.optim.token_budget):
            collated = collate(group, pad=0, device=self.policy.device)
            batch, allowed = tokens.choices(collated, self.policy.causal.config.vocab_size)
            if len(batch.tokens):
                logits = self.policy.forward(batch.ids, batch.positions, batch.mask, batch.before)
                own[batch.tokens] = token_logprobs(logits, batch.targets, allowed, self.temperature)[0].cpu()
        engine, tokens.old_logprobs = tokens.old_logprobs, own
        self._mismatch = mismatch(own, engine)
        sequence = self._sequence(tokens)
        kind = self.loss.correction.kind
        assert kind != "none"
        return correction_weights(own, engine, kind, sequence=sequence, cap=self.loss.correction.cap)

    @torch.no_grad()
    def _reference_logprobs(self, batch: MicroBatch, allowed: Tensor | None) -> Tensor:
        inputs = (batch.ids, batch.positions, batch.mask, batch.before)
        if self.reference is None:
            with self.policy.reference():
                logits = self.policy.forward(*inputs)
        else:
            trained, self.policy.causal = self.policy.causal, self.reference
            try:
                logits = self.policy.forward(*inputs)
            finally:
                self.policy.causal = trained
        return token_logprobs(logits, batch.targets, allowed, self.temperature)[0]

    def _sequence(self, tokens: Tokens) -> Tensor:
        """[T] number of each token's sequence."""
        return tokens.episode if self.loss.sequence == "episode" else tokens.row

    def _zero_advantage_is_no_gradient(self) -> bool:
        return not self.loss.entropy and (self.loss.kl.kind == "none" or not self.loss.kl.coefficient)

    def _summary(self, sums: _Sums) -> dict[str, float]:
        t = sums.totals
        steps, choices = max(1, sums.steps), max(1.0, t.get("choices", 0.0))
        metrics = {
            "loss": t.get("loss", 0.0) / steps,
            "grad_norm": t.get("grad_norm", 0.0) / steps,
            "entropy": t.get("entropy_sum", 0.0) / choices,
            "clip_fraction": t.get("clipped_sum", 0.0) / choices,
            "kl_to_sampler": t.get("kl_old_sum", 0.0) / choices,
            "mismatch_mean": t.get("mismatch_sum", 0.0) / max(1.0, t.get("mismatch_tokens", 0.0)),
            "mismatch_max": t.get("mismatch_max", 0.0),
            "steps": float(sums.steps),
        }
        for name in ("computed_tokens", "padded_tokens", "rows", "skipped_rows", "skipped_steps"):
            metrics[name] = t.get(name, 0.0)
        if self.loss.correction.kind != "none":
            metrics["mismatch_mean"], metrics["mismatch_max"] = self._mismatch["mean_abs"], self._mismatch["max_abs"]
        if "kl" in t:
            metrics["kl_to_reference"] = t["kl"] / steps
        return metrics

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything the next update depends on besides the weights: optimiser, masters, reference."""
        state: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if any(p is not m for (_, p), m in zip(self.parameters, self.masters, strict=True)):
            state["masters"] = [m.detach() for m in self.masters]
        if self.reference is not None:
            state["reference"] = self.reference.state_dict()
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for master, saved in zip(self.masters, state.get("masters", [])):
                master.copy_(saved)
        if self.reference is not None:
            self.reference.load_state_dict(state["reference"])
