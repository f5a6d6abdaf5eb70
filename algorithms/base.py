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

from algorithms import transforms
from algorithms.batch import Batch, Bools, Floats, Ints, Need
from algorithms.stats import discounted_returns, episode_returns, episodes_without_signal, share, step_sums
from envs.common.registry import Registry
from envs.common.structured import check, plain
from envs.trajectory import Trajectory

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Advantages",
    "Algorithm",
    "Batch",
    "Bools",
    "Floats",
    "Ints",
    "Need",
    "Scored",
    "build",
    "get",
    "names",
    "register",
]

Entry = Literal["reward", "return", "advantage", "none"]
"""Where a shaped reward enters, see `Algorithm.shaped_at`."""


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
    by_token: Floats
    """[T] the part of `reward` that was paid to single tokens, at these; the rest is the step's as a whole."""

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
    beside: dict[str, Floats] = field(default_factory=dict)
    """[T] what the loss reads beside the advantage, by name; from transforms."""

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
        sized += [(f"'{name}' for the loss", column, tokens) for name, column in self.beside.items()]
        for name, values, size in sized:
            if values is not None and len(values) != size:
                raise ValueError(f"{name} has {len(values)} entries where the batch has {size}")
        if not np.isfinite(self.values[self.defined]).all():
            raise ValueError("an advantage is not finite: look for inf or nan among the rewards")

    def of_tokens(self, batch: Batch) -> Advantages:
        """The same by token: all tokens of a step have what the step has."""
        if self.level == "token":
            return self

        def spread(of_step: Any) -> Any:
            return np.repeat(of_step, batch.tokens)

        parts = {name: spread(part) for name, part in self.parts.items()}
        return replace(self, values=spread(self.values), defined=spread(self.defined), level="token", parts=parts)

    def per_token(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Values (float32) and defined (bool), [T]: every sampled token exactly once. Raises ValueError if a size is wrong."""
        import torch

        self.check(batch)
        found = self.of_tokens(batch)
        values = np.where(found.defined, found.values, 0.0)
        return torch.from_numpy(values.astype(np.float32)), torch.from_numpy(found.defined.copy())

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

    transforms: list[Any] = field(default_factory=list)
    """What is done to the advantages afterwards, in this order: names, or mappings that hold a name and settings, for example
    [hicra] or [{name: forking, share: 0.1}, hicra]."""

    min_group_size: ClassVar[int] = 1
    """Episodes of a task that the method needs."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What the method needs in the batch beyond its steps; what is to be filled in is `reads`."""
    values_per_token: ClassVar[int] = 1
    """How many values the critic gives before each token, if the method needs any."""
    reads_shaping: ClassVar[str | None] = None
    """A shaping without which the method makes no sense."""
    divides_by_rewards: ClassVar[bool] = False
    """No episode may return less than 0."""
    reads_sources: ClassVar[bool] = False
    """Whether it reads what shapings add apart from the environment's own reward."""
    credits_steps: ClassVar[bool] = True
    """Whether it matters at which step of an episode a reward was paid, beyond those that enter after normalization."""

    def __post_init__(self) -> None:
        check(self)
        self.shaped_at = {"invalid_action": "advantage", **self.shaped_at}
        self.changes = transforms.built(self.transforms)
        """The transforms by name."""
        self.transforms = [{"name": name, **plain(one)} for name, one in self.changes.items()]

    def credit(self, batch: Scored) -> Advantages:
        """Hook: the advantage of each step or token of episodes that ended without a fault.

        What enters at `advantage`, after normalization, is added to it; `zero_episodes` or `zero_tokens` joins its metrics.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define credit(batch)")

    @property
    def reads(self) -> frozenset[Need]:
        """What the trainer must fill in the batch: for the method and for its transforms."""
        return self.needs.union(*(one.needs for one in self.changes.values()))

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

    def advantages(self, batch: Batch, done: float = 0.0) -> Advantages:
        """The advantage of every step or token: `credit`, what shapings add to it, what transforms make of it, and no opinion
        on faulted episodes. done: share of the run's iterations before this one.

        Raises ValueError if a size is wrong or an advantage not finite.
        """
        scored = self.score(batch)
        found = self.credit(scored)
        shaped = self.shaped_rewards(scored, "advantage")
        if any(self._enters(name) == "advantage" for name in scored.shaped_tokens):
            found = found.of_tokens(scored)
        if found.level == "token":
            by_token = self.shaped_by_token(scored, "advantage")
            shaped = np.repeat(shaped - step_sums(scored, by_token), scored.tokens) + by_token
        found = replace(found, parts={**found.parts, "shaped": shaped})
        found.check(scored)
        found.values = np.where(found.defined, found.values + shaped, 0.0)
        for name, one in self.changes.items():
            found = transformed(found, name, one, scored, done)
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
        by_token = self.shaped_by_token(kept, "reward") + self.shaped_by_token(kept, "return")
        entered = {"environment": environment, "backed_up": backed_up, "own": own, "by_token": by_token}
        return Scored(**columns, reward=backed_up + own, **entered)

    def shaped_rewards(self, batch: Batch, where: Entry) -> Floats:
        """[S] sum of the shaped rewards that enter at `where`."""
        total = np.zeros(len(batch.reward))
        for name, values in batch.shaped.items():
            if self._enters(name) == where:
                total += values
        return total

    def shaped_by_token(self, batch: Batch, where: Entry) -> Floats:
        """[T] the part of them that was paid to single tokens."""
        total = np.zeros(int(batch.tokens.sum()))
        for name, values in batch.shaped_tokens.items():
            if self._enters(name) == where:
                total += values
        return total

    def _enters(self, name: str) -> Entry:
        return self.shaped_at.get(name, "reward")


def transformed(found: Advantages, name: str, by: transforms.Transform, batch: Batch, done: float) -> Advantages:
    """Advantages after a transform: by token, with a part of its name, which says what it added to each advantage (nan where it
    took a token out). Raises ValueError if a size is wrong or an advantage not finite."""
    before = found.of_tokens(batch)
    after = by.apply(batch, before.values, before.defined, done)
    defined = before.defined & after.defined
    added = np.where(defined, after.values - before.values, np.nan)
    changed = (added != 0) & before.defined  # nan is not 0
    found = replace(
        before,
        values=np.where(defined, after.values, 0.0),
        defined=defined,
        parts={**before.parts, name: added},
        beside={**before.beside, **after.beside},
        metrics={**before.metrics, f"{name}_changed": share(changed, before.defined)},
    )
    found.check(batch)
    return found


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
        beside={name: spread(values, tokens, 0.0) for name, values in found.beside.items()},
    )


_registry: Registry[type[Algorithm]] = Registry("method", "stepcredit.algorithms", base=Algorithm)
register, names, get = _registry.register, _registry.names, _registry.get
register("bi_level_gae", "algorithms.bi_level:BiLevelGAE")
register("brpo", "algorithms.brpo:BRPO")
register("empg", "algorithms.empg:EMPG")
register("g2po", "algorithms.g2po:G2PO")
register("gdpo", "algorithms.gdpo:GDPO")
register("gigpo", "algorithms.gigpo:GiGPO")
register("grounded_prm", "algorithms.grounded:GroundedPRM")
register("gpg", "algorithms.gpg:GPG")
register("graphgpo", "algorithms.graphgpo:GraphGPO")
register("grpo", "algorithms.grpo:GRPO")
register("hapo", "algorithms.hapo:HAPO")
register("hcapo", "algorithms.hcapo:HCAPO")
register("hgpo", "algorithms.hgpo:HGPO")
register("hiper", "algorithms.hiper:HiPER")
register("igpo", "algorithms.igpo:IGPO")
register("ma_ppo", "algorithms.macro:MacroPPO")
register("maxrl", "algorithms.maxrl:MaxRL")
register("opo", "algorithms.opo:OPO")
register("oprl", "algorithms.oprl:OPRL")
register("otb", "algorithms.otb:OTB")
register("passk_grpo", "algorithms.passk:PassKGRPO")
register("poad", "algorithms.poad:POAD")
register("ppo", "algorithms.ppo:PPO")
register("proxmo", "algorithms.proxmo:ProxMO")
register("pure", "algorithms.pure:PURE")
register("reinforce_pp", "algorithms.reinforce:ReinforcePP")
register("reinforce_pp_baseline", "algorithms.reinforce:ReinforceBaseline")
register("remax", "algorithms.remax:ReMax")
register("rloo", "algorithms.rloo:RLOO")
register("salt", "algorithms.salt:SALT")
register("shaped", "algorithms.shaped:Shaped")
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
