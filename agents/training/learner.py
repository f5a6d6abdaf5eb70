"""The update: token-exact rows, micro-batches by token budget, the policy loss, AdamW.

The learner knows no method: it gets one advantage a sampled token. Losses are sums of token losses with weights fixed for the
whole mini-batch, so how the mini-batch is cut into micro-batches never changes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.config.sections import LossConfig, OptimConfig
from agents.models.policy import Policy, token_logprobs
from agents.rollout.choice import Scoring
from agents.training.optimizer import Optimizer
from agents.training.packing import MicroBatch, Row, collate, micro_batches, rows
from agents.training.target import Target, corrected
from agents.training.tokens import Tokens
from algorithms import losses
from envs.common.seeding import generator
from envs.trajectory import Trajectory


@dataclass(slots=True)
class _Sums:
    """Metrics of an update, summed over tokens."""

    totals: dict[str, float] = field(default_factory=dict)
    minibatches: int = 0
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
        scoring: Scoring | None = None,
    ) -> None:
        self.policy, self.optim, self.loss = policy, optim, loss
        self.iterations, self.seed, self.temperature, self.scoring = iterations, seed, temperature, scoring
        self.optimizer = Optimizer(policy.trainable(), optim.lr, (optim.betas[0], optim.betas[1]), optim.weight_decay)
        self.reference: nn.Module | None = None
        if loss.kl.kind != "none" and policy.model is policy.causal:
            self.reference = policy.frozen().causal

    def learning_rate(self, iteration: int, spent: float = 0.0) -> float:
        """Of iteration 0, 1, ...: linear warm-up, then the schedule to the last iteration, or to the end of a budget of which
        the share `spent` is used up."""
        o = self.optim
        if iteration < o.warmup:
            return o.lr * (iteration + 1) / o.warmup
        if o.schedule == "constant":
            return o.lr
        done = min(1.0, max((iteration - o.warmup) / max(1, self.iterations - o.warmup), spent))
        return o.lr * (1 - done if o.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done)))

    def update(
        self, trajectories: Sequence[Trajectory], tokens: Tokens, iteration: int, spent: float = 0.0
    ) -> dict[str, float]:
        """One pass or more over an iteration's episodes. Returns metrics; `computed_tokens` counts forward tokens."""
        lr = self.optimizer.lr = self.learning_rate(iteration, spent)
        sums, target = _Sums(), self._target(trajectories, tokens)
        for number, members in enumerate(self._mini_batches(len(trajectories), iteration)):
            if not self._step(trajectories, tokens, target, members, sums, fresh=number == 0):
                sums.add(stopped=1)
                break
        return {**self._summary(sums), **target.metrics, "learning_rate": lr}

    def _mini_batches(self, episodes: int, iteration: int) -> Iterator[list[int]]:
        """Members of each mini-batch, epoch by epoch."""
        for epoch in range(self.optim.epochs):
            order = generator(self.seed, "minibatches", iteration, epoch).permutation(episodes)
            for members in np.array_split(order, max(1, round(episodes / self.optim.minibatch))):
                yield sorted(members.tolist())

    # -- one optimiser step ---------------------------------------------------------------------------------------------

    def _step(
        self,
        trajectories: Sequence[Trajectory],
        tokens: Tokens,
        target: Target,
        members: list[int],
        sums: _Sums,
        fresh: bool,
    ) -> bool:
        """Returns False, and changes no weight, if the policy has gone too far from the one that sampled."""
        numbers = torch.cat([torch.arange(tokens.first[m], tokens.first[m + 1]) for m in members])
        if len(numbers) == 0:
            return True
        trained, advantages = target.trained[numbers], tokens.advantages.clone()
        if self.loss.normalise == "minibatch":
            advantages[numbers] = losses.normalise(advantages[numbers], trained)
        weights = torch.zeros(len(tokens))
        sequence = self._sequence(tokens)[numbers]
        weights[numbers] = losses.token_weights(sequence, self.loss.aggregation, trained, self.loss.norm_length)
        packed = self._rows([trajectories[m] for m in members], [tokens.first[m] for m in members])
        if self.loss.skip_zero and self._zero_advantage_is_no_gradient():
            pushed = (advantages != 0) & target.trained
            kept = [row for row in packed if bool(pushed[row.tokens].any())]
            sums.add(skipped_rows=len(packed) - len(kept))
            packed = kept
        sums.add(rows=len(packed))
        if not packed:
            return True
        self.optimizer.clear()
        moved = torch.zeros(2)
        with self.policy.training():
            for group in micro_batches(packed, self.optim.token_budget):
                moved += self._backward(group, tokens, target, advantages, weights, sums, fresh)
        sums.minibatches += 1
        if self.loss.kl_stop is not None and float(moved[0]) > self.loss.kl_stop * float(moved[1]):
            return False
        norm = self.optimizer.step(self.optim.grad_clip)
        sums.steps += 1
        if norm is None:
            sums.add(skipped_steps=1)
        else:
            sums.add(grad_norm=norm)
        return True

    def _backward(
        self,
        group: list[Row],
        tokens: Tokens,
        target: Target,
        advantages: Tensor,
        weights: Tensor,
        sums: _Sums,
        fresh: bool,
    ) -> Tensor:
        """Adds to the gradient. Returns [2]: sum of the trained tokens' KL from the sampling policy, and their number."""
        batch = collate(group, pad=0, device=self.policy.device)
        sums.add(computed_tokens=batch.real_tokens, padded_tokens=batch.ids.numel())
        batch, allowed = tokens.choices(batch, self.policy.vocabulary)
        if len(batch.tokens) == 0:
            return torch.zeros(2)
        logp, entropy = self._logprobs(batch, allowed)
        device = logp.device
        old, advantage, weight = (x[batch.tokens].to(device) for x in (target.old, advantages, weights))
        trained = target.trained[batch.tokens].to(device)
        if fresh and not target.metrics:
            # Before the first step the trainer's policy is the sampling policy: any difference is numerical.
            gap = (logp.detach() - old).abs()
            sums.add(mismatch_sum=float(gap.sum()), mismatch_tokens=len(gap))
            sums.totals["mismatch_max"] = max(sums.totals.get("mismatch_max", 0.0), float(gap.max()))
        # Tokens that are not trained on stand apart, so that they enter no ratio of a sequence.
        sequence = torch.where(trained, self._sequence(tokens)[batch.tokens].to(device), -1)
        clip = losses.Clip(self.loss.clip_low, self.loss.clip_high, self.loss.dual_clip)
        result = losses.SURROGATES[self.loss.surrogate](logp, old, advantage, sequence, clip)
        per_token = result.loss
        if target.correction is not None:
            per_token = per_token * target.correction[batch.tokens].to(device)
        if self.loss.entropy:
            per_token = per_token - self.loss.entropy * entropy
        if self.loss.kl.kind != "none":
            penalty = losses.kl(logp, self._reference_logprobs(batch, allowed), self.loss.kl.kind)
            per_token = per_token + self.loss.kl.coefficient * penalty
            sums.add(kl=float((weight * penalty.detach()).sum()))
        total = (weight * per_token).sum()
        total.backward()
        self.optimizer.collect()
        sums.add(
            loss=float(total.detach()),
            entropy_sum=float(entropy.detach().sum()),
            clipped_sum=float(result.clipped.sum()),
            choices=len(logp),
            kl_old_sum=float((old - logp.detach()).sum()),
        )
        moved = losses.kl(old, logp.detach(), "k3")[trained]
        return torch.tensor([float(moved.sum()), len(moved)])

    def _target(self, trajectories: Sequence[Trajectory], tokens: Tokens) -> Target:
        """What the update trains on, and relative to what."""
        # An action that was chosen as a whole is one decision, which stands at its first token.
        defined = tokens.defined if self.scoring is None else tokens.defined & tokens.begins
        c = self.loss.correction
        if c.kind == "none" and c.reject == "none":
            return Target(tokens.old_logprobs, defined, None, {})
        own, chosen = self._own_logprobs(trajectories, tokens)
        return corrected(tokens.old_logprobs, own, chosen, defined, self._sequence(tokens), c)

    @torch.no_grad()
    def _own_logprobs(self, trajectories: Sequence[Trajectory], tokens: Tokens) -> tuple[Tensor, Tensor]:
        """[T] the trainer's log-probabilities, 0 where a token was forced; and [T] where it was not."""
        own, chosen = torch.zeros(len(tokens)), torch.zeros(len(tokens), dtype=torch.bool)
        packed = self._rows(trajectories, tokens.first[:-1])
        for group in micro_batches(packed, self.optim.token_budget):
            collated = collate(group, pad=0, device=self.policy.device)
            batch, allowed = tokens.choices(collated, self.policy.vocabulary)
            if len(batch.tokens):
                own[batch.tokens] = self._logprobs(batch, allowed)[0].cpu()
                chosen[batch.tokens] = True
        return own, chosen

    def _logprobs(self, batch: MicroBatch, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Log-probability [M] of what was chosen, and the entropy [M] of the choice."""
        logits = self.policy.forward(batch.ids, batch.positions, batch.mask, batch.before)
        if batch.choices is None:
            return token_logprobs(logits, batch.targets, allowed, self.temperature)
        candidates = logits.gather(-1, batch.targets[:, None])[:, 0] - logits.logsumexp(-1)
        return batch.choices.decide(candidates, self.temperature)

    @torch.no_grad()
    def _reference_logprobs(self, batch: MicroBatch, allowed: Tensor | None) -> Tensor:
        if self.reference is None:
            with self.policy.reference():
                return self._logprobs(batch, allowed)[0]
        trained, self.policy.causal = self.policy.causal, self.reference
        try:
            return self._logprobs(batch, allowed)[0]
        finally:
            self.policy.causal = trained

    def _rows(self, trajectories: Sequence[Trajectory], first: Sequence[int]) -> list[Row]:
        return rows(trajectories, first, self.policy.longest_row(self.optim.token_budget), self.scoring)

    def _sequence(self, tokens: Tokens) -> Tensor:
        """[T] number of each token's sequence."""
        return tokens.episode if self.loss.sequence == "episode" else tokens.row

    def _zero_advantage_is_no_gradient(self) -> bool:
        """With kl_stop, tokens that push nothing still tell how far the policy went."""
        return (
            not self.loss.entropy
            and self.loss.kl_stop is None
            and not (self.loss.kl.kind != "none" and self.loss.kl.coefficient)
        )

    def _summary(self, sums: _Sums) -> dict[str, float]:
        t = sums.totals
        minibatches, steps, choices = max(1, sums.minibatches), max(1, sums.steps), max(1.0, t.get("choices", 0.0))
        metrics = {
            "loss": t.get("loss", 0.0) / minibatches,
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
        if self.loss.kl_stop is not None:
            metrics["stopped"] = t.get("stopped", 0.0)
        if "kl" in t:
            metrics["kl_to_reference"] = t["kl"] / minibatches
        return metrics

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything the next update depends on besides the weights of the policy and of its frozen copy."""
        return {"optimizer": self.optimizer.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state(state["optimizer"])
