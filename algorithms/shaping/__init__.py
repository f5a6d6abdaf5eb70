"""Shapings: further step rewards by name, stored beside the environment's reward. Plug-ins: group `stepcredit.shaping`.

How a shaped reward reaches the advantage is the method's setting `shaped_at` (algorithms/base.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from algorithms.base import Algorithm, Batch, Floats
from envs.common.registry import Registry
from envs.common.structured import check
from envs.trajectory import Trajectory

if TYPE_CHECKING:
    from torch import Tensor

NeedsModel = Literal["tokens", "steps", "factors", "policy"] | None
NeedsJudge = Literal["subgoals", "critiques", "factors"] | None


class PolicyReader(Protocol):
    """What the policy makes of the sampled tokens [T] of a batch: as it sampled them, before RL, and told something."""

    def rollout_logprobs(self, batch: Batch) -> Floats:
        """[T] log-probabilities under the policy that sampled."""

    def reference_logprobs(self, batch: Batch) -> Floats:
        """[T] under the policy as it was before RL; only for shapings that say so (`reads_reference`)."""

    def told_logprobs(self, batch: Batch, note: str) -> Floats:
        """[T] under the policy that sampled, with `note` in its prompts; nan where that got too long."""


class TokenModel(PolicyReader, Protocol):
    """A language model that a shaping learns with: log-probabilities of sampled tokens, and a step along a gradient of them.

    All are computed alike: where two models are the same, so are the numbers, exactly. The shaping carries the settings of the
    model among its own.
    """

    def logprobs(self, batch: Batch) -> Floats:
        """[T] under the model as it is now."""

    def contrasted(self, batch: Batch, other: TokenModel, strength: float) -> Floats:
        """[T] under softmax(z + strength (z - z')): z the logits of this model, z' those of the other."""

    def descend(self, batch: Batch, gradient: Floats) -> dict[str, float]:
        """One optimizer step on a loss whose derivative with respect to `logprobs` is `gradient` [T]. Returns metrics."""


class StepModel(Protocol):
    """A number for each step that a shaping learns, read off what the policy thinks when it has said the step's action."""

    def fit(self, batch: Batch, gradient: Callable[[Floats], Floats], epochs: int) -> tuple[Floats, Floats, dict[str, float]]:
        """`epochs` optimizer steps on a loss whose derivative with respect to the numbers [S] is what `gradient` makes of them.

        Returns the numbers [S] before and after, and metrics."""


class FactorModel(Protocol):
    """A number for each step that a shaping learns from factors it has: the decoder of the factors."""

    factors: list[str] | None
    """What is decoded; None: `begin` has not been called, in this run or before it was resumed."""

    def begin(self, factors: Sequence[str]) -> None:
        """Decode these factors from now on."""

    def fit(
        self, table: Floats, gradient: Callable[[Floats, np.random.Generator], Floats], epochs: int
    ) -> tuple[Floats, Floats, dict[str, float]]:
        """As of a StepModel, from the factors `table` [S, F]. The generator is for what the loss draws."""


class Judge(Protocol):
    """Asked about episodes: the environment's rules, or a language model."""

    metrics: dict[str, float]
    """What the last call cost, and what became of its questions."""

    async def judge(self, trajectories: Sequence[Trajectory]) -> list[list[tuple[str, ...]]]:
        """For each trajectory, for each of its steps: names of the subgoals that the step achieved.

        Each transition is judged by itself, whatever was achieved before."""

    async def critiques(self, trajectories: Sequence[Trajectory], count: int) -> list[list[tuple[int, ...] | None]]:
        """For each trajectory `count` critiques: numbers of the steps that each calls wrong; None: it said nothing readable."""

    async def factors(
        self, trajectories: Sequence[Trajectory], fault: Callable[[str], str | None], proposals: int, repairs: int
    ) -> list[str]:
        """Reward factors for the tasks of these trajectories, as `algorithms.shaping.expressions` reads them; [] if none came.

        fault: what is wrong with an expression; None: nothing. proposals: how many lists are written, repairs: how often each
        is mended."""


@dataclass
class Shaping:
    """A source of step rewards: subclasses add their settings as fields and implement `shape`. Raises ConfigError."""

    needs_judge: ClassVar[NeedsJudge] = None
    """What the judge is asked for. The trainer sets `judge` before the first iteration, and `discount` of every shaping."""
    needs_model: ClassVar[NeedsModel] = None
    """The trainer sets `model` before the first iteration: a TokenModel, a StepModel, a FactorModel, or for `policy` a
    PolicyReader."""
    needs_other: ClassVar[bool] = False
    """It learns with two TokenModels: the trainer also sets `other`."""
    rewards_tokens: ClassVar[bool] = False
    """`shape` gives a reward to each sampled token [T], not to each step."""
    distills: ClassVar[bool] = False
    """The update also moves the policy towards what `distill` makes of both models."""
    min_group_size: ClassVar[int] = 1
    """Episodes of a task that the shaping needs."""
    needs_budget: ClassVar[bool] = False
    """Whether it rewards by the budget that episodes were planned with (rollout.curriculum)."""
    reads_branches: ClassVar[bool] = False
    """Whether it learns from the values of states that a method's branches measure."""
    values_tokens: ClassVar[bool] = False
    """Whether its model's log-ratio is what each token is worth, so that answers can be searched by it (evaluation.beams)."""
    shapes_weights: ClassVar[tuple[str, ...]] = ()
    """Settings that a resumed run must keep: the model's saved weights have their shape."""

    judge: Judge | None = field(default=None, init=False, repr=False, compare=False)
    discount: float = field(default=1.0, init=False, repr=False, compare=False)
    """Discount of the return that the method maximizes."""
    model: Any = field(default=None, init=False, repr=False, compare=False)
    """What `needs_model` names."""
    other: Any = field(default=None, init=False, repr=False, compare=False)
    """With `needs_other`: a second model of the same kind."""
    metrics: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Of the last call of `shape`."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def learns(self) -> bool:
        """Whether it uses the model that `needs_model` names; a subclass may have settings with which it does not."""
        return self.needs_model is not None

    @property
    def reads_reference(self) -> bool:
        """Whether it asks its model for `reference_logprobs`."""
        return False

    @property
    def asks(self) -> bool:
        """Whether it uses the judge that `needs_judge` asks for; a subclass may have settings with which it does not."""
        return bool(self.needs_judge)

    def check(self, method: Algorithm) -> None:
        """Hook: raise ValueError for a method that would not feel the reward."""

    async def shape(self, batch: Batch) -> Floats:
        """Hook: [S] the reward of each step, or with `rewards_tokens` [T] of each token; nan where there is none. Faulted
        episodes enter no statistic."""
        raise NotImplementedError(f"{type(self).__name__} does not define shape(batch)")

    def distill(self, student: Tensor, toward: Tensor, away: Tensor) -> Tensor:
        """Hook of shapings with `distills`: [D] the loss at each of some places, with the gradient of `student`.

        All [D, V]: log-probabilities of what may be said there, by the policy, by `model` and by `other`; -inf of what may not.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define distill(student, toward, away)")

    def state(self) -> dict[str, Any]:
        """Hook: what a resumed run must go on with, besides its model and judge."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Hook: go on from `state()`."""


_registry: Registry[type[Shaping]] = Registry("shaping", "stepcredit.shaping", base=Shaping)
register, names, get, build = _registry.register, _registry.names, _registry.get, _registry.build
register("aligndistil", "algorithms.shaping.aligndistil:AlignDistil")
register("calm", "algorithms.shaping.calm:Calm")
register("cdpo", "algorithms.shaping.cdpo:CDPO")
register("critique", "algorithms.shaping.critique:Critique")
register("grounded_prm", "algorithms.shaping.grounded_prm:GroundedPRM")
register("implicit_prm", "algorithms.shaping.implicit_prm:ImplicitPRM")
register("invalid_action", "algorithms.shaping.invalid_action:InvalidAction")
register("latent", "algorithms.shaping.latent:Latent")
register("length", "algorithms.shaping.length:Length")
register("progress", "algorithms.shaping.progress:Progress")
register("t_reg", "algorithms.shaping.t_reg:TREG")
register("tgdpo", "algorithms.shaping.tgdpo:TGDPO")
register("token_reward", "algorithms.shaping.token_reward:TokenReward")
