"""What every credit-assignment method shares: the batch it reads, the advantages it gives, its two hooks, and its name.

A method is a dataclass whose fields are its settings. Statistics are numpy in float64; only `Advantages.per_token` makes
tensors, so that a configuration is checked without importing torch. Losses are left to `losses.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from envs.common.registry import Registry
from envs.trajectory import Trajectory

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Entry = Literal["reward", "return", "after", "none"]
"""Where a shaped reward enters, see `Algorithm.shaped`."""
Need = Literal["values", "collision", "greedy"]
"""What a method reads of a batch beyond the episodes themselves, see `Batch.values`, `Batch.collision`, `Batch.greedy`."""


@dataclass(eq=False)
class Batch:
    """Flat arrays over the steps [S] of all trajectories [N]: trajectory by trajectory, in time order, every step once.

    A step that was copied or padded for a trainer's rows cannot enter: what is not in this order is refused (ValueError).
    """

    group: Ints
    """[S] number of the step's task group."""
    episode: Ints
    """[S] number of its trajectory."""
    position: Ints
    """[S] its time t within the trajectory: 0, 1, 2, ..."""
    state: Ints
    """[S] number of its state: equal in two steps if and only if task group and state key are; -1 if the key is empty."""
    reward: Floats
    """[S] the environment's own reward."""
    valid: Bools
    """[S] False if the environment did not accept the action."""
    tokens: Ints
    """[S] length of its response; the batch's sampled tokens [T] follow each other in this order."""
    success: Bools
    """[N] never True for a failed trajectory."""
    failed: Bools
    """[N] cut off by a fault (timeout, crash): no outcome is known, so it enters no statistics and gets no advantage."""
    shaped: dict[str, Floats] = field(default_factory=dict)
    """[S] further rewards by name; 0 where a step has none."""
    state_text: list[str] | None = None
    """[S] the step's observation, for grouping by similarity."""
    values: Floats | None = None
    """[T] the critic's value of what stands before each sampled token. Only for methods that need it, like the next two."""
    bootstrap: Floats | None = None
    """[N] value of the state after a trajectory's last step; None: 0, every trajectory ended there."""
    logprobs: Floats | None = None
    """[T] log-probability of each sampled token under the policy that sampled it."""
    collision: Floats | None = None
    """[T] sum of the squared probabilities of all tokens at each sampled token's place."""
    greedy: Floats | None = None
    """[S] return of the same task's greedy episode."""

    def __post_init__(self) -> None:
        steps: dict[str, Sized] = {
            "episode": self.episode,
            "position": self.position,
            "state": self.state,
            "reward": self.reward,
        }
        steps |= {"valid": self.valid, "tokens": self.tokens, **{f"shaped[{k!r}]": v for k, v in self.shaped.items()}}
        for name, values in steps.items():
            if len(values) != len(self.group):
                raise ValueError(f"batch.{name} has {len(values)} entries, batch.group {len(self.group)}; both count steps")
        if len(self.success) != len(self.failed):
            raise ValueError(f"batch.success has {len(self.success)} entries, batch.failed {len(self.failed)}")
        first = np.cumsum(self.length) - self.length  # [N]
        if not np.array_equal(self.position, np.arange(len(self.group)) - first[self.episode]):
            raise ValueError("the steps of a batch must stand trajectory by trajectory, in time order, each of them once")
        self.success = self.success & ~self.failed

    @classmethod
    def from_trajectories(cls, trajectories: Sequence[Trajectory]) -> Batch:
        """The batch of some trajectories in their order. Raises ValueError if one of them is in the list twice."""
        if len({id(trajectory) for trajectory in trajectories}) < len(trajectories):
            raise ValueError("a trajectory is in the list twice: copies made to fill a batch must not enter statistics")
        steps = [step for trajectory in trajectories for step in trajectory.steps]
        length = np.array([len(trajectory.steps) for trajectory in trajectories], dtype=np.int64)  # [N]
        groups: dict[str, int] = {}
        group = np.array([groups.setdefault(t.group_id, len(groups)) for t in trajectories], dtype=np.int64)  # [N]
        states: dict[tuple[str, str], int] = {}
        state = [
            states.setdefault((trajectory.group_id, step.state_key), len(states)) if step.state_key else -1
            for trajectory in trajectories
            for step in trajectory.steps
        ]
        names = sorted({name for step in steps for name in step.shaped_rewards})
        return cls(
            group=np.repeat(group, length),
            episode=np.repeat(np.arange(len(length)), length),
            position=np.arange(len(steps)) - np.repeat(np.cumsum(length) - length, length),
            state=np.array(state, dtype=np.int64),
            reward=np.array([step.reward for step in steps], dtype=np.float64),
            valid=np.array([step.valid for step in steps], dtype=bool),
            tokens=np.array([len(step.response_ids) for step in steps], dtype=np.int64),
            success=np.array([trajectory.success for trajectory in trajectories], dtype=bool),
            failed=np.array([trajectory.error is not None for trajectory in trajectories], dtype=bool),
            shaped={name: np.array([step.shaped_rewards.get(name, 0.0) for step in steps], dtype=np.float64) for name in names},
            state_text=[step.observation for step in steps],
        )

    @cached_property
    def length(self) -> Ints:
        """[N] steps of each trajectory."""
        return np.bincount(self.episode, minlength=len(self.failed)).astype(np.int64)

    @cached_property
    def counted(self) -> Bools:
        """[S] steps of trajectories that did not fail: those that enter statistics."""
        return ~self.failed[self.episode]


@dataclass(eq=False)
class Advantages:
    """What a method says about every step [S] or every sampled token [T] of a batch."""

    values: Floats
    """[S] or [T]; 0 where undefined."""
    defined: Bools
    """[S] or [T] False: no opinion (the token is not trained on), which differs from an advantage of 0."""
    level: Literal["step", "token"] = "step"
    parts: dict[str, Floats] = field(default_factory=dict)
    """[S] or [T] what the values are made of, by name, for whoever looks at single episodes."""
    returns: Floats | None = None
    """[T] what the critic is to predict before each sampled token; nan where it has no target there."""
    step_group: Ints | None = None
    """[S] number of the group that the step was compared in, for whoever looks at single episodes."""
    metrics: dict[str, float] = field(default_factory=dict)

    def per_token(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Values (float32) and defined (bool), [T]: every sampled token exactly once. Raises ValueError if a size is wrong."""
        import torch

        expected = len(batch.tokens) if self.level == "step" else int(batch.tokens.sum())
        if not len(self.values) == len(self.defined) == expected:
            raise ValueError(f"{len(self.values)} values and {len(self.defined)} flags for a batch of {expected} {self.level}s")
        if not np.isfinite(self.values[self.defined]).all():
            raise ValueError("an advantage is not finite: look for inf or nan among the rewards")
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
    """A method: subclasses add their settings as fields and fill the two hooks. Raises ValueError for a setting not allowed."""

    shaped: dict[str, Entry] = field(default_factory=dict)
    """How rewards of each shaping enter, by the shaping's name. reward: added to the environment's reward, before returns.
    return: added to the step's own return after discounting, and to the episode score of that step. after: added to the
    step's advantage after normalisation. none: left out. Names not given: `after` for invalid_action (inside a normalised
    return it becomes the whole signal where all episodes of a group fail, and training collapses), else `reward`."""

    smallest_group: ClassVar[int] = 1
    """Episodes of a task that the method needs."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What the trainer must fill in the batch."""
    reads_shaping: ClassVar[str | None] = None
    """A shaping without which the method makes no sense."""

    def __post_init__(self) -> None:
        self.shaped = {"invalid_action": "after", **self.shaped}
        for name, entry in self.shaped.items():
            if entry not in get_args(Entry):
                raise ValueError(f"shaped.{name} is {entry!r}; allowed: {', '.join(get_args(Entry))}")
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(map(str, get_args(hint)))}")

    @property
    def credits_steps(self) -> bool:
        """Whether the steps of one episode may get different advantages, beyond rewards that enter after normalisation."""
        return True

    @property
    def discount(self) -> float:
        """Of the return that the method makes larger: 1 where that is the plain sum of an episode's rewards."""
        return 1.0

    @property
    def credits_tokens(self) -> bool:
        """Whether the tokens of one action may get different advantages: each must then have been a choice of its own."""
        return False

    def check(self, shapings: Sequence[str]) -> None:
        """Hook: raise ValueError for settings that mean nothing with the shapings of a run."""

    def shape(self, trajectories: Sequence[Trajectory]) -> None:
        """Hook: give steps further rewards (`step.shaped_rewards`). The default gives none."""

    def advantages(self, batch: Batch) -> Advantages:
        """Hook: the advantage of every step or token."""
        raise NotImplementedError(f"{type(self).__name__} does not define advantages(batch)")

    def entering(self, batch: Batch, where: Entry) -> Floats:
        """[S] sum of the shaped rewards that enter at `where`."""
        total = np.zeros(len(batch.reward))
        for name, values in batch.shaped.items():
            if self.shaped.get(name, "reward") == where:
                total += values
        return total


_registry: Registry[Algorithm] = Registry("method", "stepcredit.algorithms")
register, names, get = _registry.register, _registry.names, _registry.get
register("archer", "algorithms.poad:ARCHER")
register("gdpo", "algorithms.gdpo:GDPO")
register("gigpo", "algorithms.gigpo:GiGPO")
register("gpg", "algorithms.gpg:GPG")
register("grpo", "algorithms.grpo:GRPO")
register("hgpo", "algorithms.hgpo:HGPO")
register("ntpo", "algorithms.poad:NTPO")
register("opo", "algorithms.opo:OPO")
register("oprl", "algorithms.oprl:OPRL")
register("otb", "algorithms.otb:OTB")
register("passk_grpo", "algorithms.passk:PassKGRPO")
register("poad", "algorithms.poad:POAD")
register("ppo", "algorithms.ppo:PPO")
register("reinforce_pp", "algorithms.reinforce:ReinforcePP")
register("reinforce_pp_baseline", "algorithms.reinforce:ReinforceBaseline")
register("remax", "algorithms.remax:ReMax")
register("rloo", "algorithms.rloo:RLOO")


def build(config: Mapping[str, Any]) -> Algorithm:
    """The method of a configuration section: its `name`, and its settings beside it. Raises UnknownName, ValueError."""
    if "name" not in config:
        raise ValueError(f"the method has no name; give one of: {', '.join(names())}")
    return _registry.build(config["name"], {key: value for key, value in config.items() if key != "name"})
