"""The columns that methods and shapings read: flat numpy arrays over the steps of an iteration's episodes, float64."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass, field, fields
from enum import IntEnum
from functools import cached_property
from itertools import compress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from envs.trajectory import Trajectory

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


Need = Literal[
    "values",
    "sum_pi_squared",
    "greedy",
    "token_ids",
    "token_text",
    "entropy",
    "divergence",
    "influence",
    "waad",
    "fai",
    "hindsight",
    "answers",
    "parts",
    "state_values",
    "prefix_values",
    "tree",
    "segment",
]
"""What a method or a transform reads of a batch beyond its steps: the fields of `Batch` with these names. The last four come
from branches that are played for it, see `algorithms.branching`."""


class Part(IntEnum):
    """What a sampled token belongs to, in turns that say whether they switch to another subgoal, then which, then act."""

    NONE = 0
    SWITCH = 1
    SUBGOAL = 2
    ACTION = 3


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
    """[N] never True for a faulted trajectory."""
    faulted: Bools
    """[N] cut off by a fault (timeout, crash): no outcome is known, so it enters no statistics and gets no advantage."""
    cut_off: Bools | None = None
    """[N] stopped before the environment ended it (time limit, length of the conversation)."""
    trajectories: Sequence[Trajectory] = ()
    """[N] the episodes themselves, for judges and reward models; a batch made of columns alone has none."""
    shaped: dict[str, Floats] = field(default_factory=dict)
    """[S] further rewards by name; 0 where a step has none."""
    shaped_tokens: dict[str, Floats] = field(default_factory=dict)
    """[T] how those of `shaped` that reward single tokens are divided among them: each step's sum to its entry there."""
    state_text: list[str] | None = None
    """[S] the step's observation, for grouping by similarity."""
    next_state: Ints | None = None
    """[S] number of the state that the step led to, of those in `state` and further ones; -1 if its key is empty."""
    final_text: list[str] | None = None
    """[N] what was seen after the trajectory's last step; empty if that was not kept."""
    action: Ints | None = None
    """[S] number of its action: equal in two steps if and only if the texts are."""
    token_ids: Ints | None = None
    """[T] the sampled tokens."""
    logprobs: Floats | None = None
    """[T] log-probability of each sampled token under the policy that sampled it."""
    tree: Ints | None = None
    """[N] number of the tree that the trajectory is a leaf of: equal for those that were branched from one another. None: each
    was played alone."""
    segment: Ints | None = None
    """[T] number of the part of the tree that the token was sampled in, from one branching to the next: equal in leaves that
    share the part, and in no others."""
    values: Floats | None = None
    """[T] the critic's value of what stands before each sampled token, [T, V] if it gives several. Only for methods that need
    it, like all that follows."""
    state_values: Floats | None = None
    """[S] mean return from the step on, over continuations sampled from before it; nan where none was."""
    prefix_values: Floats | None = None
    """[T] mean return from the step on, over continuations sampled from before the token; nan where none was."""
    entropy: Floats | None = None
    """[T] entropy in nats of the distribution that each token was sampled from, before its temperature followed that."""
    sum_pi_squared: Floats | None = None
    """[T] sum of the squared probabilities of all tokens at each sampled token's place."""
    greedy: Floats | None = None
    """[S] return of the same task's greedy episode."""
    token_text: list[str] | None = None
    """[T] what each sampled token adds to the text of its response; the texts of a response's tokens are the response."""
    divergence: Floats | None = None
    """[T] how far the next-token distributions of the group's trajectories differ at the token's place."""
    influence: Floats | None = None
    """[T] how much raising the token's log-probability raises that of all tokens of the group's successes; nan where the group
    has none."""
    waad: Floats | None = None
    """[T] how far back the token attends on average, in tokens, by heads that attend to what is near."""
    fai: Floats | None = None
    """[T] how much later tokens attend to the token on average, by heads that attend to what is far."""
    hindsight: Floats | None = None
    """[S] mean log-probability of the action's tokens where the prompt also says how the episode ended; nan where that was not
    asked."""
    parts: Ints | None = None
    """[T] which part of its turn each sampled token belongs to: numbers of `Part`."""
    switches: Bools | None = None
    """[S] whether the turn says that it switches to another subgoal; comes with `parts`."""
    answers: Floats | None = None
    """[S] mean log-probability of the tokens of the task's true answer, if the policy gave it instead of the step's action; nan
    where no answer is known."""

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
        if len(self.success) != len(self.faulted):
            raise ValueError(f"batch.success has {len(self.success)} entries, batch.faulted {len(self.faulted)}")
        first = np.cumsum(self.length) - self.length  # [N]
        if not np.array_equal(self.position, np.arange(len(self.group)) - first[self.episode]):
            raise ValueError("the steps of a batch must stand trajectory by trajectory, in time order, each of them once")
        self.success = self.success & ~self.faulted

    @cached_property
    def length(self) -> Ints:
        """[N] steps of each trajectory."""
        return np.bincount(self.episode, minlength=len(self.faulted)).astype(np.int64)

    @cached_property
    def included(self) -> Bools:
        """[S] steps of trajectories that did not fail: those that enter statistics."""
        return ~self.faulted[self.episode]

    def finished(self) -> dict[str, Any]:
        """The columns by name, without trajectories that failed or have no step: neither their steps nor their tokens."""
        columns: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(Batch)}
        there = ~self.faulted & (self.length > 0)
        if there.all():
            return columns
        kept = {"N": there, "S": self.included, "T": np.repeat(self.included, self.tokens)}
        columns["episode"] = (np.cumsum(kept["N"]) - 1)[self.episode]
        for name, value in columns.items():
            of = kept[SIZES.get(name, "S")]
            if isinstance(value, dict):
                columns[name] = {key: values[of] for key, values in value.items()}
            elif value is not None and len(value):
                columns[name] = value[of] if isinstance(value, np.ndarray) else list(compress(value, of))
        return columns


def following(state: Ints, length: Ints, final: Ints) -> Ints:
    """[S] the state after each step: the next step's `state` [S], or the trajectory's `final` one [N]; length [N]."""
    after, played = np.roll(state, -1), length > 0
    after[np.cumsum(length)[played] - 1] = final[played]
    return after


SIZES = {
    **dict.fromkeys(("success", "faulted", "cut_off", "trajectories", "tree", "final_text"), "N"),
    **dict.fromkeys(("values", "parts", "logprobs", "token_ids", "segment", "prefix_values", "entropy", "sum_pi_squared"), "T"),
    **dict.fromkeys(("token_text", "divergence", "influence", "waad", "fai"), "T"),
    "shaped_tokens": "T",
}
"""What the fields of a batch count, where that is not steps [S]: trajectories [N], sampled tokens [T]."""
