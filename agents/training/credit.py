"""From rewards to one advantage a sampled token: shapings, what the method reads, the method.

It asks the method and the shapings what they need, and knows none of them by name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from agents import judges
from agents.config.commands import TrainConfig
from agents.models import ranks
from agents.training.aside import IN_TURN, Aside
from agents.training.experience import Experience
from agents.training.hindsight import Noted, rows_with_notes
from agents.training.learner import Learner
from agents.training.packing import Row
from algorithms import base as algorithms
from algorithms import shaping
from algorithms.shaping import Shaping
from algorithms.stats import step_sums


class Credit:
    """Holds the method, the shapings and the judge of a run; has the learner make the critic and reward models they need."""

    def __init__(
        self,
        learner: Learner,
        config: TrainConfig,
        build_judge: Callable[[], judges.Judge],
        noted: Noted,
        aside: Aside = IN_TURN,
    ) -> None:
        """build_judge: called once if a shaping asks for a judge. noted: puts a note into a prompt. aside: where models
        compute."""
        self.learner, self._noted, self._aside = learner, noted, aside
        self.method = algorithms.build(config.algo)
        self.shapings: dict[str, Shaping] = {name: shaping.build(name, settings) for name, settings in config.shaping.items()}
        self.judge: judges.Judge | None = None
        if "values" in self.method.needs:
            learner.add_critic(self.method.values_per_token)
        for name, one in self.shapings.items():
            if one.learns:
                made = learner.add_reward_model(name, one, noted)
                one.model = ranks.led(["learner", "reward_models", name], made)
                if one.needs_other:
                    one.other = learner.add_reward_model(f"{name} other", one)
                if one.distills:
                    learner.distill(one)
            one.discount = self.method.discount
            if one.asks:
                one.judge = self.judge = self.judge or build_judge()

    async def assign(self, experience: Experience, done: float = 0.0) -> dict[str, float]:
        """Write shaped rewards, advantages and returns into the experience, and into its steps what one looks at afterwards.

        done: share of the run's iterations before this one. Returns metrics. Raises ValueError for a method that needs values
        and gives no returns to fit them to.
        """
        metrics: dict[str, float] = {}
        started = time.perf_counter()
        for name in self.shapings:
            metrics |= await self.shape(name, experience)
        shaped = time.perf_counter()
        await self.observe(experience)
        observed = time.perf_counter()
        for one in self.method.changes.values():
            one.learn(experience)
        found = self.method.advantages(experience, done)
        if "values" in self.method.needs and found.returns is None:
            raise ValueError(f"{type(self.method).__name__} needs values, but gives no `returns` to fit them to")
        experience.advantages, experience.defined = found.per_token(experience)
        experience.returns = found.returns
        experience.beside = {name: torch.from_numpy(column).float() for name, column in found.beside.items()}
        credited = time.perf_counter()
        for step, credit in zip(experience.steps, found.per_step(experience), strict=True):
            step.credit = credit
        if found.step_group is not None:
            for step, group in zip(experience.steps, found.step_group.tolist(), strict=True):
                step.step_group = group
        metrics |= {f"credit/{key}": value for key, value in found.metrics.items()}
        metrics |= {"time/shaping": shaped - started, "time/values": observed - shaped, "time/credit": credited - observed}
        return metrics

    async def observe(self, experience: Experience) -> None:
        """Fill the columns that the method reads and a model computes."""
        await self._aside.run(partial(self.learner.observe, experience, self.method.reads, self._with_notes(experience)))

    def _with_notes(self, experience: Experience) -> list[Row]:
        """For a method that judges actions in hindsight: the rows of the episodes of which it has something to say."""
        if "hindsight" not in self.method.needs:
            return []
        notes = [self.method.note(trajectory) for trajectory in experience.trajectories]
        return list(rows_with_notes(experience, notes, self._noted, self.learner.policy.max_length))

    async def shape(self, name: str, experience: Experience) -> dict[str, float]:
        """Rewards of one shaping, into the steps that have one and, with 0 elsewhere, into the experience. A step's reward is
        the sum over its tokens where these are what is rewarded."""
        one = self.shapings[name]
        shaping = one.shape(experience)
        rewards = await (self._aside.finish(shaping) if one.learns and not one.asks else shaping)  # [S] or [T]
        if one.rewards_tokens:
            by_token = np.nan_to_num(rewards)
            experience.shaped_tokens = {**experience.shaped_tokens, name: by_token}
            rewards = step_sums(experience, by_token)
        has = ~np.isnan(rewards)
        if has.any():
            # In the order of names, in which they are summed.
            columns = {**experience.shaped, name: np.where(has, rewards, 0.0)}
            experience.shaped = {key: columns[key] for key in sorted(columns)}
        for number in np.flatnonzero(has).tolist():
            experience.steps[number].shaped_rewards[name] = float(rewards[number])
        return {f"{name}/{key}": value for key, value in one.metrics.items()}

    async def close(self) -> None:
        """Let go of the judge's files and connections."""
        if self.judge is not None:
            await self.judge.close()

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What a resumed run must go on with."""
        state: dict[str, Any] = {} if self.judge is None else {"judge": self.judge.state()}
        if shaped := {name: kept for name, one in self.shapings.items() if (kept := one.state())}:
            state["shapings"] = shaped
        if remembered := {name: kept for name, one in self.method.changes.items() if (kept := one.state())}:
            state["transforms"] = remembered
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        if self.judge is not None:
            self.judge.load_state(state["judge"])
        for name, kept in state.get("shapings", {}).items():
            self.shapings[name].load_state(kept)
        self.load_transforms(state)

    def load_transforms(self, state: Mapping[str, Any]) -> None:
        """What transforms remember; one that is new in a resumed run remembers nothing."""
        for name, remembered in state.get("transforms", {}).items():
            if name in self.method.changes:
                self.method.changes[name].load_state(remembered)
