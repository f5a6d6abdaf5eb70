"""What shapings share whose language models learn beside the policy which of a task's episodes were better.

A model is fitted by the log-ratios of its probabilities of the sampled tokens to those of another policy: the one before RL, or
the one that sampled. What the ratios are good for is a shaping's own, in a file of its own. The model is left to the trainer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from algorithms.base import Batch, Bools, Floats
from algorithms.shaping import NeedsModel, Shaping, TokenModel
from algorithms.shaping.preference import Fit, dpo
from envs.common.structured import AboveZero, Positive


class Learned(NamedTuple):
    """Log-ratios of the tokens [T] of the finished episodes, before and after a model learned from them."""

    before: Floats
    after: Floats
    metrics: dict[str, float]
    """loss, number and accuracy of pairs (of episodes the model has not seen), norm of the gradient."""


@dataclass
class Outcomes(Shaping):
    """What is read off the outcomes of a task's episodes: which were better."""

    beta: AboveZero = 0.1
    """Scale of log-ratios in the loss."""
    score_threshold: float | None = None
    """An episode is better than others of its task if its score is above this and theirs is not (SOTOPIA: 6); null: if it is a
    success and they are not."""

    min_group_size: ClassVar[int] = 2

    def labels(self, batch: Batch) -> Floats:
        """[N] above 0 for a trajectory that is to be preferred. Raises ValueError."""
        if self.score_threshold is None:
            return batch.success.astype(np.float64)
        return np.array([one.score > self.score_threshold for one in batch.trajectories], dtype=np.float64)

    def of_trainer(self, model: Any) -> Any:
        """A model that was set. Raises ValueError."""
        if model is None:
            raise ValueError(f"shaping {type(self).__name__} has no model; the trainer sets it before the first iteration")
        return model


@dataclass
class OutcomeModel(Outcomes):
    """Settings of a language model that learns from outcomes, and how it learns."""

    epochs: Positive = 1
    """Optimizer steps an iteration, each on all of its trajectories."""
    lr: AboveZero | None = None
    """Learning rate of the model; null: twice the policy's (paper of OPRL), or, of an adapter beside a policy that is trained
    whole, ten times, since low-rank weights need a higher one. The same in every iteration: of the policy's schedule it is the
    peak."""
    grad_clip: AboveZero = 10.0
    """Largest norm of its gradient (paper of OPRL)."""
    kind: Literal["adapter", "copy"] = "adapter"
    """adapter: the policy as it was before RL, frozen, plus low-rank weights (with model.lora the frozen model is the policy's
    own, and memory stays near one model); copy: a second model that starts as the policy, the same weights of it trained."""
    rank: Positive = 16
    """Rank of the adapter."""
    alpha: AboveZero = 32.0
    """The adapter's output is multiplied by alpha / rank."""
    targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])
    """Names of the linear layers that the adapter adds to."""

    needs_model: ClassVar[NeedsModel] = "tokens"
    shapes_weights: ClassVar[tuple[str, ...]] = ("kind", "rank", "targets")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.targets:
            raise ValueError("targets is empty; name the linear layers that get an adapter, for example q_proj")

    def fit(self, batch: Batch, label: Floats, ratio: Floats) -> tuple[Fit, Floats]:
        """The loss, and its gradient [T] with respect to the log-ratios `ratio` [T]: DPO over all pairs. label: [N]."""
        episode = np.repeat(batch.episode, batch.tokens)
        score = self.beta * np.bincount(episode, ratio, len(label)).astype(np.float64)
        found = dpo(score, label > 0, batch.group[batch.position == 0])
        return found, self.beta * found.gradient[episode]

    def learned(
        self,
        batch: Batch,
        against: Floats,
        model: TokenModel | None = None,
        fit: Callable[[Batch, Floats, Floats], tuple[Fit, Floats]] | None = None,
        after: bool = True,
    ) -> Learned:
        """The model's log-ratios to `against` [T], before and (if `after`) after its steps. Faulted episodes take no part.

        model: by default the first one; fit: by default `self.fit`. Raises ValueError without a model.
        """
        learner: TokenModel = self.of_trainer(model or self.model)
        fit = fit or self.fit
        counted, played = np.repeat(batch.included, batch.tokens), Batch(**batch.finished())
        label = self.labels(played)

        def ratio() -> Floats:
            return (learner.logprobs(batch) - against)[counted]

        def descend(gradient: Floats) -> dict[str, float]:
            slope = np.zeros(len(counted))
            slope[counted] = gradient
            return learner.descend(batch, slope)

        before = ratio()
        found, gradient = fit(played, label, before)
        metrics = {"pairs": float(found.compared)}
        if not found.compared:
            return Learned(before, before, metrics)
        metrics |= {"loss": found.loss, "accuracy": found.accuracy} | descend(gradient)
        for _ in range(self.epochs - 1):
            descend(fit(played, label, ratio())[1])
        return Learned(before, ratio() if after else before, metrics)


def everywhere(values: Floats, there: Bools) -> Floats:
    """Values of some places as those of all: nan where nothing is `there`."""
    found = np.full(len(there), np.nan)
    found[there] = values
    return found
