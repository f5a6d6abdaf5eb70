"""The policy's update: the loss of mini-batches, and AdamW's steps.

It knows no method: it gets one advantage a sampled token. Losses are sums of token losses with weights fixed for the whole
mini-batch, so how the mini-batch is cut into micro-batches never changes a gradient.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from agents.config.sections import LossConfig, OptimConfig
from agents.models import ranks
from agents.models.policy import Policy, token_logprobs
from agents.models.temperature import Temperature
from agents.training.experience import Experience
from agents.training.optimizer import Optimizer
from agents.training.passes import MicroBatch, distributions, logprobs, passes, per_token
from agents.training.target import Target, corrected
from algorithms import losses, surrogates

Sums = defaultdict[str, float]
"""Metrics of an update, summed over tokens or mini-batches."""
OF_TOKENS = (
    *("loss", "entropy", "clipped", "kl_old", "kl", "choices", "computed_tokens", "padded_tokens"),
    *("mismatch_sum", "mismatch_tokens"),
)
"""Sums over the tokens that a rank had; the others are the same on all ranks."""


Teacher = Callable[[MicroBatch, Tensor], Tensor]
"""Gives a loss at each of a micro-batch's distinct places [D] from the policy's log-probabilities there [D, V]."""


class Actor:
    """Holds the policy's optimizer, the schedule and, if a KL penalty asks for one, the reference policy."""

    def __init__(
        self, policy: Policy, optim: OptimConfig, loss: LossConfig, iterations: int, seed: int, temperature: Temperature = 1.0
    ) -> None:
        self.policy, self.optim, self.loss = policy, optim, loss
        self.iterations, self.seed, self.temperature = iterations, seed, temperature
        self.optimizer = Optimizer(policy.trainable, optim.lr, (optim.betas[0], optim.betas[1]), optim.weight_decay)
        clip = surrogates.Clip(loss.clip_low, loss.clip_high, loss.dual_clip)
        self.surrogate = surrogates.build(loss.surrogate, {"clip": clip})
        self.teachers: list[Teacher] = []
        """What the policy is distilled from, beside its advantages."""
        self.reference: Policy | None = None
        if loss.kl.kind != "none" and policy.model is policy.causal:
            self.reference = policy.frozen()

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

    def update(self, experience: Experience, iteration: int, spent: float = 0.0) -> dict[str, float]:
        """One pass or more over the experience of iteration 0, 1, ... Returns metrics."""
        lr = self.optimizer.lr = self.learning_rate(iteration, spent)
        sums, target = Sums(float), self._target(experience, iteration)
        batches = experience.mini_batches(self.optim.minibatch_episodes, self.optim.epochs, self.seed, "minibatches", iteration)
        for number, members in enumerate(batches):
            if not self._step(experience, target, members, sums, fresh=number == 0):
                sums["stopped"] += 1
                break
        if ranks.size() > 1:
            sums |= ranks.added_up_numbers(sums, OF_TOKENS)
            sums["mismatch_max"] = ranks.largest(sums["mismatch_max"])
        return {**self._summary(sums), **target.metrics, "learning_rate": lr}

    def _target(self, experience: Experience, version: int) -> Target:
        """What the update of this version of the weights trains on, and relative to what."""
        # An action that was chosen as a whole is one decision, which stands at its first token.
        defined = experience.defined if experience.scoring is None else experience.defined & experience.begins
        c, current = self.loss.correction, experience.weights_version == version
        if c.kind not in ("token", "sequence") and c.reject == "none":
            return Target(experience.rollout_logprobs, defined, None, current, {})
        batches = passes(experience, experience.rows(), self.policy, self.optim.tokens_per_microbatch)
        train_logprobs = per_token(
            experience, batches, lambda batch: logprobs(self.policy, batch, self.temperature)[0], otherwise=0.0
        )
        sequence = self._sequence(experience)
        seen = experience.rollout_logprobs, train_logprobs.float()
        return corrected(*seen, experience.chosen, defined, sequence, current, c)

    # -- one optimizer step ---------------------------------------------------------------------------------------------

    def _step(self, experience: Experience, target: Target, members: list[int], sums: Sums, fresh: bool) -> bool:
        """Returns False, and changes no weight, if the policy has gone too far from the one that sampled."""
        numbers = experience.numbers(members)
        if len(numbers) == 0:
            return True
        trained, advantages = target.trained[numbers], experience.advantages.clone()
        if self.loss.normalize == "minibatch":
            advantages[numbers] = losses.normalize(advantages[numbers], trained)
        weights = torch.zeros(experience.sampled)
        sequence = self._sequence(experience)[numbers]
        weights[numbers] = losses.token_weights(sequence, self.loss.aggregation, trained, self.loss.norm_length)
        rows = experience.rows(members)
        if self.loss.skip_zero and self._zero_advantage_is_no_gradient():
            pushed = (advantages != 0) & target.trained
            kept = [row for row in rows if bool(pushed[row.tokens].any())]
            sums["skipped_rows"] += len(rows) - len(kept)
            rows = kept
        sums["rows"] += len(rows)
        if not rows:
            return True
        self.optimizer.clear()
        moved = torch.zeros(2)
        with self.policy.training():
            for batch in passes(experience, rows, self.policy, self.optim.tokens_per_microbatch):
                moved += self._backward(batch, experience, target, advantages, weights, sums, fresh)
        sums["minibatches"] += 1
        moved = ranks.added_up(moved)
        if self.loss.target_kl is not None and float(moved[0]) > self.loss.target_kl * float(moved[1]):
            return False
        norm = self.optimizer.step(self.optim.grad_clip)
        sums["steps"] += 1
        if norm is None:
            sums["skipped_steps"] += 1
        else:
            sums["grad_norm"] += norm
        return True

    def _backward(
        self,
        batch: MicroBatch,
        experience: Experience,
        target: Target,
        advantages: Tensor,
        weights: Tensor,
        sums: Sums,
        fresh: bool,
    ) -> Tensor:
        """Adds to the gradient. Returns [2]: sum of the trained tokens' KL from the sampling policy, and their number."""
        logp, entropy, taught = self._said(batch)
        if not len(batch.tokens):  # a pass of other ranks, who need this one's part of the weights
            if self.loss.kl.kind != "none":
                self._reference_logprobs(batch)
            logp.sum().backward()
            self.optimizer.collect()
            return torch.zeros(2)
        device = logp.device
        old, advantage, weight = (x[batch.tokens].to(device) for x in (target.old, advantages, weights))
        trained = target.trained[batch.tokens].to(device)
        if fresh and not target.metrics:
            # Before the first step the trainer's policy is the one that sampled these: any difference is numerical.
            gap = (logp.detach() - old).abs()[target.current[batch.tokens].to(device)]
            sums["mismatch_sum"] += float(gap.sum())
            sums["mismatch_tokens"] += len(gap)
            sums["mismatch_max"] = max(sums["mismatch_max"], float(gap.max()) if len(gap) else 0.0)
        # Tokens that are not trained on stand apart, so that they enter no ratio of a sequence.
        sequence = torch.where(trained, self._sequence(experience)[batch.tokens].to(device), -1)
        beside = {name: column[batch.tokens].to(device) for name, column in experience.beside.items()}
        result = self.surrogate(surrogates.Tokens(logp, old, advantage, sequence, beside))
        loss = result.loss
        if target.correction is not None:
            loss = loss * target.correction[batch.tokens].to(device)
        if self.loss.entropy:
            loss = loss - self.loss.entropy * entropy
        if self.loss.entropy_band:
            loss = loss + self.loss.entropy_band * losses.outside(entropy, beside["entropy_low"], beside["entropy_high"])
        if self.loss.kl.kind != "none":
            penalty = losses.kl(logp, self._reference_logprobs(batch), self.loss.kl.kind)
            loss = loss + self.loss.kl.coefficient * penalty
            sums["kl"] += float((weight * penalty.detach()).sum())
        if taught is not None:
            loss = loss + taught
            sums["distillation"] += float((weight * taught.detach()).sum())
        total = (weight * loss).sum()
        total.backward()
        self.optimizer.collect()
        sums["loss"] += float(total.detach())
        sums["entropy"] += float(entropy.detach().sum())
        sums["clipped"] += float(result.clipped.sum())
        sums["kl_old"] += float((old - logp.detach()).sum())
        sums["choices"] += len(logp)
        sums["computed_tokens"] += batch.real_tokens
        sums["padded_tokens"] += batch.ids.numel()
        moved = losses.kl(old, logp.detach(), "k3")[trained]
        return torch.tensor([float(moved.sum()), len(moved)])

    def _said(self, batch: MicroBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """[M] log-probability and entropy, as `logprobs`, and the loss of all teachers if there are any."""
        if not self.teachers:
            return *logprobs(self.policy, batch, self.temperature), None
        student = distributions(self.policy, batch, self.temperature)
        taught = torch.stack([teacher(batch, student) for teacher in self.teachers]).sum(0)
        return *token_logprobs(student, batch.targets, None, which=batch.which), taught[batch.which]

    @torch.no_grad()
    def _reference_logprobs(self, batch: MicroBatch) -> Tensor:
        with self.policy.reference() if self.reference is None else nullcontext():
            return logprobs(self.reference or self.policy, batch, self.temperature)[0]

    def _sequence(self, experience: Experience) -> Tensor:
        """[T] number of each token's sequence."""
        return experience.token_episode if self.loss.sequence == "episode" else experience.token_step

    def _zero_advantage_is_no_gradient(self) -> bool:
        """With target_kl, tokens that push nothing still tell how far the policy went."""
        return (
            not self.loss.entropy
            and not self.loss.entropy_band
            and not self.teachers
            and self.loss.target_kl is None
            and not (self.loss.kl.kind != "none" and self.loss.kl.coefficient)
        )

    def _summary(self, sums: Sums) -> dict[str, float]:
        minibatches, steps, choices = (max(1.0, sums[name]) for name in ("minibatches", "steps", "choices"))
        counts = ("steps", "computed_tokens", "padded_tokens", "rows", "skipped_rows", "skipped_steps")
        metrics = {
            "loss": sums["loss"] / minibatches,
            "grad_norm": sums["grad_norm"] / steps,
            "entropy": sums["entropy"] / choices,
            "clip_fraction": sums["clipped"] / choices,
            "kl_to_sampler": sums["kl_old"] / choices,
            "mismatch_mean": sums["mismatch_sum"] / sums["mismatch_tokens"] if sums["mismatch_tokens"] else math.nan,
            "mismatch_max": sums["mismatch_max"] if sums["mismatch_tokens"] else math.nan,
            **{name: sums[name] for name in counts},
        }
        if self.loss.target_kl is not None:
            metrics["stopped"] = sums["stopped"]
        if self.teachers:
            metrics["distillation"] = sums["distillation"] / minibatches
        if self.loss.kl.kind != "none":
            metrics["kl_to_reference"] = sums["kl"] / minibatches
        return metrics
