"""What every credit-assignment method shares: what it reads, the advantages it gives, its one hook, and its name.

A method is a dataclass whose fields are its settings, with the ranges of numbers in their annotations. It implements `credit`
and nothing else: shaped rewards, faulted episodes and sizes are the base's work. Statistics are numpy in float64; only
`Advantages.per_token` makes tensors, so that a configuration is checked without importing torch. Losses are left to
`surrogates.py` and `losses.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from algorithms.batch import Batch, Bools, Floats, Ints
from algorithms.stats import discounted_returns, episode_returns, episodes_without_signal, share
from envs.common.registry import Registry
from envs.common.structured import check
from envs.trajectory import Trajectory

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Advantages", "Algorithm", "Batch", "Bools", "Floats", "Ints", "Scored", "build", "get", "names", "register"]

Entry = Literal["reward", "return", "advantage", "none"]
"""Where a shaped reward enters, see `Algorithm.shaped_at`."""
Need = Literal[
    "values",
    "sum_pi_squared",
    "greedy",
    "token_ids",
    "entropy",
    "hindsight",
    "answers",
    "parts",
    "state_values",
    "prefix_values",
    "tree",
    "segment",
]
"""What a method reads of a batch beyond its steps: the fields of `Batch` with these names. The last four come from branches
that are played for it, see `algorithms.branching`."""


@dataclass(eq=False, kw_only=True)
class Scored(Batch):
    """A batch as methods read it: no faulted episode is in it, and shaped rewards have entered.

    `reward` [S] holds the shaped rewards that enter as `reward` and as `return`. Returns are to be taken from `returns` and
    `scores`, which keep the two apart; a method that backs rewards up itself takes `reward`.
    """

    environment: Floats
    """[S] the environment's own reward."""
    backed_up: Floats
    """[S] the environment's reward and what enters as `reward`: the part of `reward` that earlier steps' returns get too."""
    own: Floats
    """[S] what enters as `return`: it belongs to its own step's return alone."""

    def returns(self, gamma: float) -> Floats:
        """[S] discounted return from each step on."""
        return discounted_returns(self, self.backed_up, gamma) + self.own

    def scores(self) -> Floats:
        """[S] undiscounted return of each step's whole episode."""
        return episode_returns(self, self.backed_up) + self.own


@dataclass(eq=False)
class Advantages:
    """What a method says about every step [S] or every sampled token [T] of a batch."""

    values: Floats
    """[S] or [T]; 0 where undefined."""
    defined: Bools = None  # type: ignore[assignment]
    """[S] or [T] False: no opinion (the token is not trained on), which differs from an advantage of 0. Default: all True."""
    level: Literal["step", "token"] = "step"
    parts: dict[str, Floats] = field(default_factory=dict)
    """[S] or [T] what the values are made of, by name, for whoever looks at single episodes."""
    returns: Floats | None = None
    """[T] what the critic is to predict before each sampled token; nan where it has no target there. [T, V] of a critic that
    gives V values."""
    step_group: Ints | None = None
    """[S] number of the group that the step was compared in, for whoever looks at single episodes."""
    metrics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.defined is None:
            self.defined = np.ones(len(self.values), dtype=bool)

    def check(self, batch: Batch) -> None:
        """Raises ValueError if a size is not the batch's, or an advantage not finite."""
        steps, tokens = len(batch.tokens), int(batch.tokens.sum())
        expected = steps if self.level == "step" else tokens
        if not len(self.values) == len(self.defined) == expected:
            raise ValueError(f"{len(self.values)} values and {len(self.defined)} flags for a batch of {expected} {self.level}s")
        sized: list[tuple[str, Sized | None, int]] = [("returns", self.returns, tokens), ("step_group", self.step_group, steps)]
        sized += [(f"part '{name}'", part, expected) for name, part in self.parts.items()]
        for name, values, size in sized:
            if values is not None and len(values) != size:
                raise ValueError(f"{name} has {len(values)} entries where the batch has {size}")
        if not np.isfinite(self.values[self.defined]).all():
            raise ValueError("an advantage is not finite: look for inf or nan among the rewards")

    def per_token(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Values (float32) and defined (bool), [T]: every sampled token exactly once. Raises ValueError if a size is wrong."""
        import torch

        self.check(batch)
        values, defined = np.where(self.defined, self.values, 0.0), self.defined
        if self.level == "step":
            values, defined = np.repeat(values, batch.tokens), np.repeat(defined, batch.tokens)
        return torch.from_numpy(values.astype(np.float32)), torch.from_numpy(defined.copy())

    def per_step(self, batch: Batch) -> list[dict[str, Any]]:
        """[S] `advantage` and each part, by name: a number, or one for each sampled token; None where there is none."""
        named = {"advantage": np.where(self.defined, self.values, np.nan), **self.parts}
        numbers = {name: [float(value) if np.isfinite(value) else None for value in values] for name, values in named.items()}
        if self.level == "step":
            return [dict(zip(numbers, of_step, strict=True)) for of_step in zip(*numbers.values(), strict=True)]
        ends = np.cumsum(batch.tokens).tolist()
        return [{name: values[a:b] for name, values in numbers.items()} for a, b in pairwise([0, *ends])]


@dataclass
class Algorithm:
    """A method: subclasses add their settings as fields and implement `credit`. Raises ConfigError for a wrong setting."""

    shaped_at: dict[str, Entry] = field(default_factory=dict)
    """How rewards of each shaping enter, by the shaping's name. reward: added to the environment's reward, before returns.
    return: added to the step's own return after discounting, and to the episode score of that step. advantage: added to the
    step's advantage after normalization. none: left out. Names not given: `advantage` for invalid_action (inside a normalized
    return it becomes the whole signal where all episodes of a group fail, and training collapses), else `reward`."""

    min_group_size: ClassVar[int] = 1
    """Episodes of a task that the method needs."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What the trainer must fill in the batch."""
    values_per_token: ClassVar[int] = 1
    """How many values the critic gives before each token, if the method needs any."""
    reads_shaping: ClassVar[str | None] = None
    """A shaping without which the method makes no sense."""
    divides_by_rewards: ClassVar[bool] = False
    """No episode may return less than 0."""
    credits_steps: ClassVar[bool] = True
    """Whether it matters at which step of an episode a reward was paid, beyond those that enter after normalization."""

    def __post_init__(self) -> None:
        check(self)
        self.shaped_at = {"invalid_action": "advantage", **self.shaped_at}

    def credit(self, batch: Scored) -> Advantages:
        """Hook: the advantage of each step or token of episodes that ended without a fault.

        What enters at `advantage`, after normalization, is added to it; `zero_episodes` or `zero_tokens` joins its metrics.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define credit(batch)")

    @property
    def discount(self) -> float:
        """Discount of the return that the method maximizes; 1: the plain sum of an episode's rewards."""
        return 1.0

    @property
    def credits_tokens(self) -> bool:
        """Whether the tokens of one action may get different advantages: each must then have been a choice of its own."""
        return False

    @property
    def reads_success(self) -> bool:
        """Whether the method asks which episodes succeeded, beside what they were paid."""
        return False

    def check(self, shapings: Sequence[str]) -> None:
        """Hook: raise ValueError for settings that mean nothing with the shapings of a run."""

    def note(self, trajectory: Trajectory) -> str | None:
        """Hook of methods that need `hindsight`: what the episode's prompts then say of its outcome; None: it is not needed."""
        return None

    def advantages(self, batch: Batch) -> Advantages:
        """The advantage of every step or token: `credit`, what shapings add to it, and no opinion on faulted episodes.

        Raises ValueError if a size is wrong or an advantage not finite.
        """
        scored = self.score(batch)
        found = self.credit(scored)
        shaped = self.shaped_rewards(scored, "advantage")
        if found.level == "token":
            shaped = np.repeat(shaped, scored.tokens)
        found = replace(found, parts={**found.parts, "shaped": shaped})
        found.check(scored)
        found.values = np.where(found.defined, found.values + shaped, 0.0)
        if found.level == "step":
            found.metrics = {**found.metrics, "zero_episodes": episodes_without_signal(scored, found.values)}
        else:
            found.metrics = {**found.metrics, "zero_tokens": share(found.values == 0, found.defined)}
        return found if not batch.faulted.any() else _spread(found, batch)

    def score(self, batch: Batch) -> Scored:
        """The batch as the method reads it: without faulted episodes, and with the shaped rewards entered."""
        columns = batch.finished()
        environment = columns.pop("reward")
        kept = Batch(reward=environment, **columns)
        backed_up, own = environment + self.shaped_rewards(kept, "reward"), self.shaped_rewards(kept, "return")
        return Scored(**columns, reward=backed_up + own, environment=environment, backed_up=backed_up, own=own)

    def shaped_rewards(self, batch: Batch, where: Entry) -> Floats:
        """[S] sum of the shaped rewards that enter at `where`."""
        total = np.zeros(len(batch.reward))
        for name, values in batch.shaped.items():
            if self.shaped_at.get(name, "reward") == where:
                total += values
        return total


def _spread(found: Advantages, batch: Batch) -> Advantages:
    """What was found for the episodes without a fault as that of all: the others have advantage 0, undefined, and no part."""
    steps, tokens = batch.included, np.repeat(batch.included, batch.tokens)
    places = steps if found.level == "step" else tokens

    def spread(values: Any, there: Bools, default: Any) -> Any:
        whole = np.full((len(there), *values.shape[1:]), default, dtype=values.dtype)
        whole[there] = values
        return whole

    return replace(
        found,
        values=spread(found.values, places, 0.0),
        defined=spread(found.defined, places, False),
        parts={name: spread(values, places, np.nan) for name, values in found.parts.items()},
        returns=None if found.returns is None else spread(found.returns, tokens, np.nan),
        step_group=None if found.step_group is None else spread(found.step_group, steps, -1),
    )


_registry: Registry[type[Algorithm]] = Registry("method", "stepcredit.algorithms", base=Algorithm)
register, names, get = _registry.register, _registry.names, _registry.get
register("bi_level_gae", "algorithms.bi_level:BiLevelGAE")
register("empg", "algorithms.empg:EMPG")
register("g2po", "algorithms.g2po:G2PO")
register("gdpo", "algorithms.gdpo:GDPO")
register("gigpo", "algorithms.gigpo:GiGPO")
register("gpg", "algorithms.gpg:GPG")
register("graphgpo", "algorithms.graphgpo:GraphGPO")
register("grpo", "algorithms.grpo:GRPO")
register("hcapo", "algorithms.hcapo:HCAPO")
register("hgpo", "algorithms.hgpo:HGPO")
register("hiper", "algorithms.hiper:HiPER")
register("igpo", "algorithms.igpo:IGPO")
register("maxrl", "algorithms.maxrl:MaxRL")
register("opo", "algorithms.opo:OPO")
register("oprl", "algorithms.oprl:OPRL")
register("otb", "algorithms.otb:OTB")
register("passk_grpo", "algorithms.passk:PassKGRPO")
register("poad", "algorithms.poad:POAD")
register("ppo", "algorithms.ppo:PPO")
register("proxmo", "algorithms.proxmo:ProxMO")
register("reinforce_pp", "algorithms.reinforce:ReinforcePP")
register("reinforce_pp_baseline", "algorithms.reinforce:ReinforceBaseline")
register("remax", "algorithms.remax:ReMax")
register("rloo", "algorithms.rloo:RLOO")
register("salt", "algorithms.salt:SALT")
register("spo_chain", "algorithms.spo_chain:SPOChain")
register("spo_tree", "algorithms.spo_tree:SPOTree")
register("steppo", "algorithms.steppo:StepPO")
register("tempo", "algorithms.tempo:TEMPO")
register("tree_grpo", "algorithms.tree_grpo:TreeGRPO")
register("vineppo", "algorithms.vineppo:VinePPO")


def build(config: Mapping[str, Any]) -> Algorithm:
    """The method of a configuration section: its `name`, and its settings beside it. Raises UnknownName, ValueError."""
    if "name" not in config:
        raise ValueError(f"the method has no name; give one of: {', '.join(names())}")
    return _registry.build(config["name"], {key: value for key, value in config.items() if key != "name"})
