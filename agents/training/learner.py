"""What learns: policy, critic and reward models. It knows no method and no engine: credit comes with the experience."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.config.commands import TrainConfig
from agents.models import ranks
from agents.models.policy import Policy
from agents.models.temperature import ByEntropy, Temperature
from agents.training.actor import Actor
from agents.training.answers import answer_logprobs
from agents.training.attention import attention
from agents.training.critic import Critic
from agents.training.decoder import Decoder
from agents.training.divergence import divergence
from agents.training.experience import Experience
from agents.training.hindsight import Noted, by_step
from agents.training.influence import influence
from agents.training.packing import Row, rebuild_tokens
from agents.training.passes import MicroBatch, logprobs, passes, per_token, sum_pi_squared
from agents.training.reward_model import PolicyReader, RewardModel
from agents.training.spelling import spelled
from agents.training.step_model import StepModel
from algorithms.base import Floats, Need

ROUNDING = {torch.float32: 1e-3}
"""Mean difference of log-probabilities that rounding explains, by number format."""
COARSE = 0.05
"""Of all other formats."""


def staleness(versions: Tensor, version: int) -> dict[str, float]:
    """How old the weights that sampled each token [T] are as `version` is trained: in versions, and the share of each age."""
    age = version - versions
    shares = {f"update/stale_{old}": float((age == old).double().mean()) for old in age[age > 0].unique().tolist()}
    most = float(age.max()) if len(age) else 0.0
    return {"update/stale_mean": float(age.double().mean()) if len(age) else 0.0, "update/stale_max": most, **shares}


class MismatchError(RuntimeError):
    """Sampling and training compute different probabilities; the message says by how much, and what to try."""

    resume_with = "loss.correction.kind=token"


class Learner:
    """Holds the policy, its critic and reward models, and their optimizers. Made after the warm start."""

    def __init__(self, policy: Policy, config: TrainConfig) -> None:
        self.policy, self.config = policy, config
        loss = config.loss
        if loss.correction.kind == "auto" and config.rollout.overlap:
            loss = replace(loss, correction=replace(loss.correction, kind="token"))
        self.temperature: Temperature = config.engine.temperature
        """Of what is sampled to be learned from, until the end of the next update."""
        self.actor = Actor(policy, config.optim, loss, config.iterations, config.seed, self.temperature)
        self.critic: Critic | None = None
        self.reward_models: dict[str, PolicyReader | StepModel | Decoder] = {}

    def add_critic(self, values: int = 1) -> None:
        """For methods that need values, how many of them before each token; before anything is learned."""
        self.critic = Critic(self.policy, self.config.critic, self.config.optim, self.config.seed, values)

    def add_reward_model(self, name: str, settings: Any, noted: Noted | None = None) -> PolicyReader | StepModel | Decoder:
        """For a shaping that asks for a model of tokens, steps or factors, or the policy itself; before anything is learned."""
        optim, temperature, seed = self.config.optim, self.temperature, self.config.seed
        made: PolicyReader | StepModel | Decoder
        if settings.needs_model == "factors":
            made = Decoder(settings, name, self.policy.device, seed)
        elif settings.needs_model == "steps":
            made = StepModel(self.policy, settings, name, optim.tokens_per_microbatch, seed)
        elif settings.needs_model == "policy":
            made = PolicyReader(self.policy, optim.tokens_per_microbatch, temperature, noted, settings.reads_reference)
        else:
            made = RewardModel(self.policy, settings, optim.lr, optim.tokens_per_microbatch, temperature, seed)
        self.reward_models[name] = made
        return made

    def distill(self, settings: Any) -> None:
        """Move the policy towards what a shaping makes of both of its models; before anything is learned."""

        def teacher(batch: MicroBatch, student: Tensor) -> Tensor:
            loss: Tensor = settings.distill(student, settings.model.distributions(batch), settings.other.distributions(batch))
            return loss

        self.actor.teachers.append(teacher)

    def shard(self, offload: bool) -> None:
        """Deal out the weights of all models to the ranks, once all of them are made and before anything is learned."""
        readers = [model for model in self.reward_models.values() if not isinstance(model, Decoder)]
        trunks = [self.policy.trunk, *(model.trunk for model in readers)]
        trunks += [self.critic.head.trunk] if self.critic is not None else []
        if self.policy.has_frozen:
            trunks.append(self.policy.frozen().trunk)
        for trunk in dict.fromkeys(trunks):
            trunk.shard(offload)

    def observe(self, experience: Experience, needs: Collection[Need], noted: Sequence[Row] = ()) -> None:
        """Fill the columns that a method reads and a model computes, before any update.

        noted: rows whose prompts also say how the episode ended, for `hindsight`.
        """
        temperature, budget = self.temperature, self.config.optim.tokens_per_microbatch
        if self.critic is not None and "values" in needs:
            experience.values = self.critic.values(experience)
        if "sum_pi_squared" in needs:
            experience.sum_pi_squared = self._ask(
                experience, experience.plain_rows(), lambda one: sum_pi_squared(self.policy, one, temperature), forced=1.0
            )
        if "entropy" in needs:
            experience.entropy = self._entropy(experience)
        if "hindsight" in needs:
            known = self._ask(experience, noted, lambda one: logprobs(self.policy, one, temperature)[0], forced=0.0)
            experience.hindsight = by_step(experience, known)
        if "answers" in needs:
            experience.answers = answer_logprobs(experience, self.policy, budget, temperature)
        if "token_text" in needs:
            experience.token_text = spelled(experience.steps, self.policy.tokenizer)
        if "divergence" in needs:
            experience.divergence = divergence(experience, self.policy, budget, temperature)
        if "influence" in needs:
            experience.influence = influence(experience, self.policy, budget, temperature)
        if "waad" in needs:
            experience.waad, experience.fai = attention(experience, self.policy)

    def _entropy(self, experience: Experience) -> Floats:
        """[T] of the distributions that tokens were sampled from, before their temperature followed it."""
        base, rows = self.config.engine.temperature, experience.plain_rows()
        return self._ask(experience, rows, lambda one: logprobs(self.policy, one, base)[1], forced=0.0)

    def _ask(self, experience: Experience, rows: Sequence[Row], of: Callable[[MicroBatch], Tensor], forced: float) -> Floats:
        """[T] what the policy says of the sampled tokens in some rows; `forced` of tokens that had no alternative, nan where a
        token is in no row."""
        found = np.full(experience.sampled, np.nan)
        asked = [number for row in rows for number in row.tokens]
        batches = passes(experience, rows, self.policy, self.config.optim.tokens_per_microbatch)
        found[asked] = per_token(experience, batches, of, otherwise=forced).numpy()[asked]
        return found

    def update(self, experience: Experience, iteration: int, spent: float = 0.0) -> dict[str, float]:
        """From version `iteration` - 1 of the weights to version `iteration` = 1, 2, ... Returns metrics. Raises MismatchError.

        spent: share of the run's budget of environment steps that was used up before this iteration.
        """
        metrics = staleness(experience.weights_version, iteration - 1)
        if self.config.rollout.temperature_tau and experience.entropy is None:  # now, by the policy that sampled
            experience.entropy = self._entropy(experience)
        started = time.perf_counter()
        if self.critic is not None:
            found = self.critic.update(experience, iteration - 1)
            metrics |= {f"critic/{key}": value for key, value in found.items()}
        metrics["time/critic"] = time.perf_counter() - started
        if self.critic is None or iteration > self.config.critic.warmup:
            found = self.actor.update(experience, iteration - 1, spent)
            self._stop_at_mismatch(found["mismatch_mean"], found["mismatch_max"])
            metrics |= {f"update/{key}": value for key, value in found.items()}
        if self.config.rollout.temperature_tau:
            metrics["update/temperature"] = self._follow(experience)
        beside = float(sum(one.take_tokens() for one in (self.critic, *self.reward_models.values()) if one is not None))
        metrics["tokens/update"] = metrics.get("update/computed_tokens", 0.0) + ranks.added_up_number(beside)
        metrics["tokens/rebuild_update"] = float(rebuild_tokens(experience.trajectories) * self.config.optim.epochs)
        return metrics

    def _follow(self, experience: Experience) -> float:
        """Let the temperature of the next iteration follow the entropies of this one, where there was a choice; returns the
        mean that it had in this one."""
        assert experience.entropy is not None
        entropy = experience.entropy[experience.chosen.numpy()]
        if not len(entropy):
            return math.nan
        now, base, tau = self.temperature, self.config.engine.temperature, self.config.rollout.temperature_tau
        self._heat(ByEntropy.fitted(base, tau, entropy))
        return float(now.at(torch.from_numpy(entropy)).mean()) if isinstance(now, ByEntropy) else now

    def _heat(self, temperature: Temperature) -> None:
        """The temperature of what is sampled from now on, for all who compute its probabilities."""
        self.temperature = self.actor.temperature = temperature
        for model in self.reward_models.values():
            if isinstance(model, PolicyReader):
                model.temperature = temperature

    def _stop_at_mismatch(self, mean: float, most: float) -> None:
        """Raises MismatchError if what was sampled is not what is trained; nothing of this iteration is then saved."""
        loss = self.config.loss
        bound = ROUNDING.get(self.policy.dtype, COARSE) if loss.mismatch_stop == "auto" else loss.mismatch_stop
        asked = loss.correction.kind in ("token", "sequence") or loss.correction.reject != "none"
        expected = asked or self.config.engine.top_p < 1
        if bound is None or expected or not mean > bound:  # nan: no token of the newest weights
            return
        raise MismatchError(
            f"before any step, the log-probabilities of sampling and training differ by {mean:.2g} on average (at most "
            f"{most:.2g}); loss.mismatch_stop allows {bound:g}. The run would learn from another policy than acted. "
            "Try model.attention=eager, model.dtype=float32, or a shorter model.max_length; loss.correction.kind=token weighs "
            "the difference, loss.mismatch_stop=null goes on with it"
        )

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything the next update depends on besides the policy's weights."""
        state: dict[str, Any] = {"learner": {"optimizer": self.actor.optimizer.state()}}
        if isinstance(self.temperature, ByEntropy):
            state["learner"]["temperature"] = asdict(self.temperature)
        if self.policy.has_frozen:
            state["frozen"] = self.policy.frozen().weights()
        if self.critic is not None:
            state["critic"] = self.critic.state()
        if self.reward_models:
            state["reward_models"] = {name: model.state() for name, model in self.reward_models.items()}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        if self.policy.has_frozen:
            ranks.put(state["frozen"], self.policy.frozen().model.state_dict())
        self.actor.optimizer.load_state(state["learner"]["optimizer"])
        if (tau := self.config.rollout.temperature_tau) and (followed := state["learner"].get("temperature")):
            self._heat(ByEntropy(**{**followed, "base": self.config.engine.temperature, "tau": tau}))
        if self.critic is not None:
            self.critic.load_state(state["critic"])
        for name, model in self.reward_models.items():
            model.load_state(state["reward_models"][name])
