"""Latent rewards (LaRe, arXiv 2412.11120): an episode's return, divided among its steps by factors that a language model wrote.

A factor is an expression over what the environment reports of a step (`expressions`), which is read and bounded here and is
never run as code. A decoder turns the factors into a step's reward. It is fitted as it goes, so that an episode's rewards sum
to its return. Who writes is left to the judge, the decoder to the trainer.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np

from algorithms.base import Algorithm, Batch, Floats, Ints
from algorithms.shaping import FactorModel, NeedsJudge, NeedsModel, Shaping
from algorithms.shaping.expressions import Expression, ExpressionError, parse
from algorithms.shaping.facts import Facts
from algorithms.shaping.replacing import refuse_elsewhere
from algorithms.stats import episode_returns
from envs.common.structured import AboveZero, AtLeast, Natural, Positive

log = logging.getLogger("stepcredit.run")

NAME = "latent"
MOST = 16
"""Factors of a run."""
LARGEST = 100.0
"""A factor beyond it becomes it: what the decoder reads stays bounded."""
ATTEMPTS = 3
"""Iterations in which the judge is asked for factors, if none came before."""


@dataclass
class Latent(Shaping):
    """The return of an episode, decoded step by step from written factors."""

    factors: list[str] | None = field(default_factory=lambda: ["new_subgoals", "valid and changed", "returned", "log(repeats)"])
    """Expressions over what the environment reports (docs/methods.md lists the names). The default is written by hand, for any
    environment; null: the judge writes them, in the first iteration."""
    replaces: bool = True
    """The environment's own reward is taken off where it was paid, so that only this shaping's is left (paper). False: both
    count."""
    proposals: Positive = 5
    """factors=null: lists of factors that the judge writes, before it is asked to merge them (paper)."""
    repairs: Natural = 2
    """factors=null: how often it may mend a list in which something is wrong."""
    epochs: Positive = 20
    """Optimizer steps of the decoder an iteration, each on all of its episodes."""
    lr: AboveZero = 3e-4
    """Learning rate of the decoder (official)."""
    grad_clip: AboveZero = 1.0
    """Largest norm of its gradient."""
    hidden: Annotated[list[int], AtLeast(1)] = field(default_factory=lambda: [256, 256, 256])
    """Widths of the decoder's inner layers (official); []: a linear one."""
    sampled: Positive | None = None
    """Steps of an episode that the loss looks at, drawn anew for each optimizer step; null: all."""
    unbiased: bool = False
    """sampled: take off what drawing adds to the squared error on average."""

    needs_judge: ClassVar[NeedsJudge] = "factors"
    needs_model: ClassVar[NeedsModel] = "factors"
    shapes_weights: ClassVar[tuple[str, ...]] = ("factors", "hidden")

    _attempts: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factors is not None and not 0 < len(self.factors) <= MOST:
            raise ValueError(f"factors has {len(self.factors)} entries; allowed: 1 to {MOST}, or null: the judge writes them")
        for number, factor in enumerate(self.factors or ()):
            if wrong := fault(factor):
                raise ValueError(f"factors[{number}] is {factor[:80]!r}: {wrong}")

    @property
    def asks(self) -> bool:
        return self.factors is None

    def check(self, method: Algorithm) -> None:
        """Raises ValueError for a method with which nothing can be replaced."""
        refuse_elsewhere(NAME, self.replaces, method)

    async def shape(self, batch: Batch) -> Floats:
        """[S] the decoded reward, after the decoder was fitted to the returns. Faulted episodes take no part. Without factors,
        which a judge may fail to write, no step has one, and the environment's reward is left as it is.

        metrics: factors; loss of the decoder before it was fitted, which has not seen these episodes, and the share of the
        variance of returns that it explains.
        """
        if self.model is None:
            raise ValueError(f"shaping {NAME} has no decoder; the trainer sets it before the first iteration")
        decoder: FactorModel = self.model
        self.metrics = {}
        found = np.full(len(batch.reward), np.nan)
        played = Batch(**batch.finished())
        facts = Facts(played)
        if decoder.factors is None:
            factors = self.factors if self.factors is not None else await self._written(played, facts)
            if factors:
                decoder.begin(factors)
        self.metrics["factors"] = float(len(decoder.factors or ()))
        if decoder.factors is None or not len(played.reward):
            return found
        table = np.stack([factor_values(parse(factor), facts) for factor in decoder.factors], axis=1)
        returns = episode_returns(played, played.reward)

        def gradient(rewards: Floats, draw: np.random.Generator) -> Floats:
            if self.sampled is None:
                return whole_loss(played, rewards, returns)[1]
            return sampled_loss(played, rewards, returns, chosen(played, self.sampled, draw), self.unbiased)[1]

        before, after, fitted = decoder.fit(table, gradient, self.epochs)
        first = played.position == 0
        left, spread = (episode_returns(played, before) - returns)[first], returns[first]
        self.metrics |= {**fitted, "loss": whole_loss(played, before, returns)[0]}
        if spread.var() > 0:
            self.metrics["explained"] = float(1 - left.var() / spread.var())
        found[batch.included] = after - played.reward if self.replaces else after
        return found

    async def _written(self, played: Batch, facts: Facts) -> list[str]:
        """What the judge writes; [] if it could not, or was asked often enough."""
        if self.judge is None:
            raise ValueError(f"shaping {NAME} has no judge; the trainer gives one before the first iteration")
        if self._attempts >= ATTEMPTS:
            return []
        self._attempts += 1
        found = await self.judge.factors(played.trajectories, lambda one: fault(one, facts), self.proposals, self.repairs)
        self.metrics |= self.judge.metrics
        if not found:
            log.warning(
                "the judge wrote no reward factor that can be used (attempt %d of %d): the environment's own reward stays",
                self._attempts,
                ATTEMPTS,
            )
        return found[:MOST]

    def state(self) -> dict[str, Any]:
        return {"attempts": self._attempts}

    def load_state(self, state: dict[str, Any]) -> None:
        self._attempts = int(state["attempts"])


def fault(factor: str, facts: Facts | None = None) -> str | None:
    """What is wrong with a factor, in words for who wrote it; None: nothing. facts: of steps that it is to tell apart."""
    try:
        expression = parse(factor)
    except ExpressionError as error:
        return str(error)
    if facts is None or facts.steps < 2:
        return None
    values = factor_values(expression, facts)
    return f"it is {values[0]:g} at all of {facts.steps} steps: it tells nothing" if np.ptp(values) == 0 else None


def factor_values(expression: Expression, facts: Facts) -> Floats:
    """[S] the factor at each step, within LARGEST."""
    return np.clip(expression.values(facts), -LARGEST, LARGEST)


def whole_loss(batch: Batch, rewards: Floats, returns: Floats) -> tuple[float, Floats]:
    """Mean over episodes of ((sum of rewards - return) / steps)^2, and its gradient [S]. rewards, returns: [S]."""
    steps, first = batch.length[batch.episode], batch.position == 0
    missing = (episode_returns(batch, rewards) - returns) / steps
    episodes = max(1, int(first.sum()))
    return float((missing[first] ** 2).sum() / episodes), 2 * missing / (steps * episodes)


def chosen(batch: Batch, count: int, draw: np.random.Generator) -> Ints:
    """[N, count] times of steps of each episode, drawn without replacement, or with it from an episode that has fewer."""
    return np.array([draw.choice(steps, count, replace=count > steps) for steps in batch.length.tolist()]).reshape(-1, count)


def sampled_loss(batch: Batch, rewards: Floats, returns: Floats, times: Ints, unbiased: bool) -> tuple[float, Floats]:
    """As `whole_loss`, of the steps at `times` [N, K]: mean over episodes of (mean of the K rewards - return / steps)^2.

    unbiased: less the K rewards' variance (ddof 1) times (1 - K / steps) / K. Every episode has a step.
    """
    first = np.flatnonzero(batch.position == 0)  # [N]
    places = first[:, None] + times  # [N, K]
    episodes, count = places.shape
    drawn, steps = rewards[places], batch.length
    missing = drawn.mean(axis=1) - returns[first] / steps
    loss, slope = missing**2, np.repeat(2 * missing[:, None] / count, count, axis=1)
    if unbiased and count > 1:
        scale = np.maximum(1 - count / steps, 0.0) / count
        away = drawn - drawn.mean(axis=1, keepdims=True)
        loss = loss - (away**2).sum(axis=1) / (count - 1) * scale
        slope = slope - 2 * away / (count - 1) * scale[:, None]
    gradient = np.zeros(len(rewards))
    np.add.at(gradient, places, slope / max(1, episodes))
    return float(loss.mean()) if episodes else 0.0, gradient
