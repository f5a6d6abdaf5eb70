"""What an iteration learns from, made once: columns over steps and sampled tokens, and the rows that are put through models.

Sampled tokens are numbered trajectory by trajectory, step by step, everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.rollout.choice import Scoring
from agents.rollout.constraint import ActionTries
from agents.rollout.planner import GREEDY
from agents.training.columns import columns
from agents.training.packing import Row, acted, choosing, laid_out
from algorithms.base import Batch, Floats, Ints
from envs.common.seeding import generator
from envs.trajectory import Step, Trajectory


@dataclass(eq=False, kw_only=True)
class Experience(Batch):
    """Adds to the columns over steps those over all sampled tokens [T]."""

    weights_version: Tensor
    """[T] version of the weights that sampled the token."""
    rollout_logprobs: Tensor
    """[T] log-probability under the policy that sampled (by the engine), float32."""
    token_episode: Tensor
    """[T] number of the trajectory."""
    token_step: Tensor
    """[T] number of the step."""
    first_token: list[int]
    """[N + 1] number of each trajectory's first token, and of all tokens at the end."""
    allowed: tuple[Ints, Ints, Ints] | None
    """(ids, offsets [K + 1]) of different sets of tokens, and which [T] of them constrained sampling allowed at each place (the
    empty one: all); None if it was free."""
    scoring: Scoring | None
    """If actions were chosen as wholes: how."""
    advantages: Tensor
    """[T] float32; 0 until there is credit."""
    defined: Tensor
    """[T] False where the method has no opinion: such a token is not trained on."""
    true_answers: Sequence[tuple[list[int], list[int]]] | None = None
    """[N] ids of the response that gives the task's true answer: what leads to it, and the answer; empty if it is not known."""
    returns: Floats | None = None
    """[T] what the critic is to predict before each token; nan where it has no target there."""
    beside: dict[str, Tensor] = field(default_factory=dict)
    """[T] what transforms say of each token to the loss, by name, float32."""

    @classmethod
    def of(
        cls,
        trajectories: Sequence[Trajectory],
        tries: ActionTries | None = None,
        scoring: Scoring | None = None,
        greedy: Sequence[Trajectory] = (),
        branched: Mapping[str, Any] = MappingProxyType({}),
        true_answers: Sequence[tuple[list[int], list[int]]] | None = None,
        turns: Sequence[tuple[list[int], bool]] | None = None,
    ) -> Experience:
        """Experience of some trajectories in their order.

        tries: if sampling was constrained by them; greedy: one episode of each group, for methods that compare with it;
        branched: columns of the batch that come of branches (agents.training.branches); true_answers: for methods that follow
        what the policy thinks of them; turns [S]: the part of each token of a step, and whether it switches to another subgoal,
        for methods that tell them apart.

        Raises ValueError if a trajectory is in the list twice, or a sampled token has no log-probability.
        """
        base = columns(trajectories)
        steps = [step for trajectory in trajectories for step in trajectory.steps]
        token_step = np.repeat(np.arange(len(steps)), base["tokens"])
        token_episode = base["episode"][token_step]
        total = len(token_step)
        logprobs = torch.tensor(list(chain.from_iterable(step.rollout_logprobs for step in steps)))
        if len(logprobs) != total:
            raise ValueError(f"{len(logprobs)} log-probabilities for {total} sampled tokens")
        per_episode = np.bincount(token_episode, minlength=len(trajectories))
        made = cls(
            **base,
            **branched,
            weights_version=torch.tensor([version for step in steps for version in step.token_versions]),
            rollout_logprobs=logprobs,
            logprobs=logprobs.double().numpy(),
            token_episode=torch.from_numpy(token_episode),
            token_step=torch.from_numpy(token_step),
            first_token=[0, *np.cumsum(per_episode).tolist()],
            allowed=None if tries is None else _allowed(steps, tries),
            scoring=scoring,
            advantages=torch.zeros(total),
            defined=torch.zeros(total, dtype=torch.bool),
            true_answers=true_answers,
        )
        if turns is not None:
            made.parts = np.array([part for parts, _ in turns for part in parts], dtype=np.int64)
            made.switches = np.array([switch for _, switch in turns], dtype=bool)
        if greedy:
            # A greedy episode that a fault cut off says nothing; 0 leaves the return itself, which is unbiased too. Such faults
            # are counted as train/greedy_faults.
            returns = {t.group_id.removesuffix(GREEDY): t.total_reward for t in greedy if t.error is None}
            made.greedy = np.repeat([returns.get(t.group_id, 0.0) for t in trajectories], made.length)
        return made

    @cached_property
    def steps(self) -> list[Step]:
        """[S]"""
        return [step for trajectory in self.trajectories for step in trajectory.steps]

    @property
    def sampled(self) -> int:
        """Number of sampled tokens."""
        return len(self.token_step)

    @property
    def begins(self) -> Tensor:
        """[T] bool: the first token of a response."""
        return torch.cat([torch.ones(min(1, self.sampled), dtype=torch.bool), self.token_step[1:] != self.token_step[:-1]])

    @property
    def chosen(self) -> Tensor:
        """[T] bool: where a choice was made. A forced token is none; an action as a whole is one, at its first token."""
        if self.scoring is not None:
            return self.begins
        if self.allowed is not None:
            return torch.from_numpy(np.diff(self.allowed[1])[self.allowed[2]] != 1)
        return torch.ones(self.sampled, dtype=torch.bool)

    def numbers(self, members: Iterable[int]) -> Tensor:
        """[M] of the sampled tokens of some trajectories."""
        return torch.cat([torch.arange(self.first_token[m], self.first_token[m + 1]) for m in members])

    def mini_batches(self, size: int, epochs: int, seed: int, name: str, iteration: int) -> Iterator[list[int]]:
        """Trajectories of each mini-batch of about `size`, epoch by epoch, in an order drawn from seed, name and iteration."""
        episodes = len(self.trajectories)
        for epoch in range(epochs):
            order = generator(seed, name, iteration, epoch).permutation(episodes)
            for members in np.array_split(order, max(1, round(episodes / size))):
                yield sorted(members.tolist())

    # -- rows -----------------------------------------------------------------------------------------------------------

    def rows(self, members: Iterable[int] | None = None) -> list[Row]:
        """What the policy is trained on, of some or all trajectories: `plain_rows`, or where actions were chosen as wholes
        those that hold all candidates."""
        return self.plain_rows(members) if self.scoring is None else self._of(self._choices, members)

    def plain_rows(self, members: Iterable[int] | None = None) -> list[Row]:
        """What was read and sampled, of some or all trajectories."""
        return self._of(self._laid_out, members)

    def acted_rows(self) -> list[Row]:
        """What is read to the last token of each response [S]."""
        first = np.cumsum(self.length) - self.length  # [N]
        return [row for trajectory, step in zip(self.trajectories, first.tolist()) for row in acted(trajectory, step)]

    def _of(self, rows: Sequence[Sequence[Row]], members: Iterable[int] | None) -> list[Row]:
        return [row for m in (range(len(rows)) if members is None else members) for row in rows[m]]

    @cached_property
    def _laid_out(self) -> list[list[Row]]:
        return [laid_out(t, first) for t, first in zip(self.trajectories, self.first_token)]

    @cached_property
    def _choices(self) -> list[list[Row]]:
        assert self.scoring is not None
        pairs = zip(self.trajectories, self.first_token)
        return [list(choosing(t, first, self.scoring)) for t, first in pairs]


def experienced(batch: Batch) -> Experience:
    """The batch, which is an experience. Raises TypeError for one that holds columns over steps only."""
    if not isinstance(batch, Experience):
        raise TypeError("a model reads the ids of an Experience; this batch holds columns over steps only")
    return batch


def _allowed(steps: Sequence[Step], tries: ActionTries) -> tuple[Ints, Ints, Ints]:
    found: dict[tuple[int, ...], int] = {}
    which = [
        found.setdefault(tuple(ids), len(found))
        for step in steps
        for ids in (
            tries.trie(step.admissible_actions).allowed(step.response_ids)
            if step.admissible_actions
            else [[]] * len(step.response_ids)
        )
    ]
    offsets = np.cumsum([0, *map(len, found)])
    ids = np.fromiter(chain.from_iterable(found), dtype=np.int64, count=int(offsets[-1]))
    return ids, offsets, np.array(which, dtype=np.int64)
