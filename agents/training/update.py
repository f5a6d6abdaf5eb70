"""From an iteration's episodes to new weights: shaping, values, advantages, updates of reward models, critic and policy.

It asks the method and the shapings what they need, and knows none of them by name.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from agents import judges
from agents.config.sections import TrainConfig
from agents.rollout.assembly import Assembly
from agents.rollout.planner import GREEDY, Played
from agents.training.collision import collision
from agents.training.critic import Critic
from agents.training.learner import Learner
from agents.training.packing import rebuild_tokens
from agents.training.reward_model import RewardModel
from agents.training.tokens import Tokens
from algorithms import base as algorithms
from algorithms import shaping
from algorithms.base import Advantages, Batch
from envs.trajectory import Trajectory

ROUNDING = {torch.float32: 1e-3}
"""Mean difference of log-probabilities that rounding explains, by number format."""
COARSE = 0.05
"""Of all other formats."""


class MismatchError(RuntimeError):
    """Sampling and training compute different probabilities; the message says by how much, and what to try."""

    resume_with = "loss.correction.kind=token"


class RolloutError(RuntimeError):
    """An iteration brought nothing to learn from; the message says why."""


class Update:
    """Holds what learns besides the policy's weights themselves: learner, critic, reward models. Made after the warm start."""

    def __init__(self, parts: Assembly, config: TrainConfig) -> None:
        self.config, self.policy = config, parts.policy
        constrained = config.engine.constrained
        self.tries = parts.prompter.tries if constrained == "admissible" else None
        self.algorithm = algorithms.build(config.algo)
        self.shapings = {name: shaping.build(name, settings) for name, settings in config.shaping.items()}
        self.judge = self._judge(parts)
        optim, temperature = config.optim, config.engine.temperature
        self.learner = Learner(self.policy, optim, config.loss, config.iterations, config.seed, temperature, parts.scoring)
        self.critic = Critic(self.policy, config.critic, optim, config.seed) if "values" in self.algorithm.needs else None
        self.reward_models: dict[str, RewardModel] = {}
        asking: dict[str, Any] = {name: one for name, one in self.shapings.items() if getattr(one, "needs_model", False)}
        for name, one in asking.items():
            one.model = self.reward_models[name] = RewardModel(
                self.policy, one, optim.lr, self.tries, optim.token_budget, temperature, config.seed
            )

    def _judge(self, parts: Assembly) -> judges.Judge | None:
        """Who judges, given to the shapings that ask for one."""
        asking: list[Any] = [one for one in self.shapings.values() if getattr(one, "needs_judge", False)]
        if not asking:
            return None
        judge = judges.build(self.config.judge, parts)
        for one in asking:
            one.judge, one.discount = judge, self.algorithm.discount
        return judge

    def run(self, played: Played, iteration: int, spent: float = 0.0) -> dict[str, float]:
        """Credit and update of iteration 1, 2, ...; episodes without a step, or cut off by a fault, take no part. One that ran
        out of time or context is learnt from like any that was lost. Raises RolloutError.

        spent: share of the run's budget of environment steps that was used up before this iteration.
        """
        kept = [t for t in played.trajectories if t.error is None and t.steps]
        if not kept:
            raise RolloutError(self._nothing(played, iteration))
        metrics: dict[str, float] = {}
        clock = _Clock(metrics)
        for name, one in self.shapings.items():
            one.shape(kept)
            metrics.update({f"{name}/{key}": value for key, value in getattr(one, "metrics", {}).items()})
        self.algorithm.shape(kept)
        clock.split("shaping")
        tokens = Tokens.of(kept, self.tries)
        batch = self._batch(kept, tokens, played.greedy)
        clock.split("values")
        advantages = self.algorithm.advantages(batch)
        tokens.credit(*advantages.per_token(batch))
        clock.split("credit")
        _note(kept, batch, advantages)
        if self.critic is not None:
            if advantages.returns is None or batch.values is None:
                raise ValueError(f"{type(self.algorithm).__name__} needs values, but gives no `returns` to fit them to")
            found = self.critic.update(kept, tokens, advantages.returns, batch.values, iteration - 1)
            metrics.update({f"critic/{key}": value for key, value in found.items()})
        clock.split("critic")
        if self.critic is None or iteration > self.config.critic.alone:
            found = self.learner.update(kept, tokens, iteration - 1, spent)
            self._stop_at_mismatch(found["mismatch_mean"], found["mismatch_max"])
            metrics.update({f"update/{key}": value for key, value in found.items()})
        beside = float(sum(one.take_tokens() for one in (self.critic, *self.reward_models.values()) if one is not None))
        metrics.update({f"credit/{key}": value for key, value in advantages.metrics.items()})
        metrics["tokens/update"] = metrics.get("update/computed_tokens", 0.0) + beside
        metrics["tokens/rebuild_update"] = float(rebuild_tokens(kept) * self.config.optim.epochs)
        return metrics

    def _stop_at_mismatch(self, mean: float, most: float) -> None:
        """Raises MismatchError if what was sampled is not what is trained; nothing of this iteration is then saved."""
        loss = self.config.loss
        bound = ROUNDING.get(self.policy.dtype, COARSE) if loss.mismatch_stop == "auto" else loss.mismatch_stop
        expected = loss.correction.kind != "none" or loss.correction.reject != "none" or self.config.engine.top_p < 1
        if bound is None or expected or mean <= bound:
            return
        raise MismatchError(
            f"before any step, the log-probabilities of sampling and training differ by {mean:.2g} on average (at most "
            f"{most:.2g}); loss.mismatch_stop allows {bound:g}. The run would learn from another policy than acted. "
            "Try model.attention=eager, model.dtype=float32, or a shorter model.max_length; loss.correction.kind=token weighs "
            "the difference, loss.mismatch_stop=null goes on with it"
        )

    def _batch(self, kept: Sequence[Trajectory], tokens: Tokens, greedy: Sequence[Trajectory]) -> Batch:
        batch = Batch.from_trajectories(kept)
        batch.logprobs = tokens.old_logprobs.double().numpy()
        if self.critic is not None:
            batch.values = self.critic.values(kept, tokens)
        if "collision" in self.algorithm.needs:
            optim, temperature = self.config.optim, self.config.engine.temperature
            batch.collision = collision(self.policy, kept, tokens, optim.token_budget, temperature)
        if "greedy" in self.algorithm.needs:
            # A greedy episode that a fault cut off says nothing; 0 leaves the return itself, which is unbiased too. Such faults
            # are counted as train/greedy_faults.
            returns = {t.group_id.removesuffix(GREEDY): t.total_reward for t in greedy if t.error is None}
            batch.greedy = np.repeat([returns.get(t.group_id, 0.0) for t in kept], batch.length)
        return batch

    def _nothing(self, played: Played, iteration: int) -> str:
        """Why an iteration left nothing to learn from."""
        faults = [t.error for t in played.trajectories if t.error is not None]
        outgrown = len(played.trajectories) - len(faults)
        reasons = [f"{len(faults)} episodes were cut off by a fault (the first: {faults[0]})"] if faults else []
        if outgrown:
            reasons.append(
                f"in {outgrown} episodes the first prompt alone was longer than the model can read: raise "
                f"model.max_length={self.config.model.max_length}"
            )
        return f"iteration {iteration} left nothing to learn from: {'; '.join(reasons)}"

    def close(self) -> None:
        """Let go of the judge's files and connections, before the event loop is closed."""
        if self.judge is not None:
            self.judge.close()

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything the next update depends on besides the policy's weights."""
        state: dict[str, Any] = {"learner": self.learner.state()}
        if self.policy.frozen_weights is not None:
            state["frozen"] = self.policy.frozen_weights
        if self.critic is not None:
            state["critic"] = self.critic.state()
        if self.judge is not None:
            state["judge"] = self.judge.state()
        if self.reward_models:
            state["reward_models"] = {name: model.state() for name, model in self.reward_models.items()}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        if self.policy.frozen_weights is not None:
            self.policy.frozen().model.load_state_dict(state["frozen"])
        self.learner.load_state(state["learner"])
        if self.critic is not None:
            self.critic.load_state(state["critic"])
        if self.judge is not None:
            self.judge.load_state(state["judge"])
        for name, model in self.reward_models.items():
            model.load_state(state["reward_models"][name])


class _Clock:
    """Seconds since the last split, as metrics."""

    def __init__(self, metrics: dict[str, float]) -> None:
        self._metrics, self._last = metrics, time.perf_counter()

    def split(self, name: str) -> None:
        now = time.perf_counter()
        self._metrics[f"time/{name}"], self._last = now - self._last, now


def _note(kept: Sequence[Trajectory], batch: Batch, advantages: Advantages) -> None:
    """Keep each step's credit, and the number of the group it was compared in, for whoever looks at single episodes."""
    steps = [step for trajectory in kept for step in trajectory.steps]
    for step, credit in zip(steps, advantages.per_step(batch), strict=True):
        step.info["credit"] = credit
    if advantages.step_group is not None:
        for step, group in zip(steps, advantages.step_group.tolist(), strict=True):
            step.info["step_group"] = group
