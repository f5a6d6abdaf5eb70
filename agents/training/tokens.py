"""The sampled tokens of some trajectories as flat tensors, and which tokens were allowed at each place.

The learner, the critic and reward models all number sampled tokens as here: trajectory by trajectory, step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agents.rollout.constraint import ActionTries
from agents.training.packing import MicroBatch
from envs.trajectory import Trajectory


@dataclass(slots=True)
class Tokens:
    """Flat tensors over all sampled tokens [T] of some trajectories, in their order."""

    old_logprobs: Tensor
    """[T] log-probability under the policy that sampled (by the engine)."""
    episode: Tensor
    """[T] number of the trajectory."""
    row: Tensor
    """[T] number of the step."""
    first: list[int]
    """First flat number of each trajectory, and the total at the end."""
    allowed: tuple[np.ndarray, np.ndarray] | None
    """(ids, offsets [T + 1]) of the tokens that constrained sampling allowed at each place; None if it was free."""
    advantages: Tensor
    """[T]; 0 until `credit`."""
    defined: Tensor
    """[T] False where the method has no opinion: such a token is not trained on."""

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory], tries: ActionTries | None) -> Tokens:
        """`tries` if sampling was constrained by them."""
        lengths = [[len(step.response_ids) for step in t.steps] for t in trajectories]
        per_episode = np.array([sum(lens) for lens in lengths], dtype=np.int64)
        per_row = np.array([n for lens in lengths for n in lens], dtype=np.int64)
        return cls(
            old_logprobs=torch.tensor([x for t in trajectories for s in t.steps for x in s.response_logprobs]),
            episode=torch.from_numpy(np.repeat(np.arange(len(trajectories)), per_episode)),
            row=torch.from_numpy(np.repeat(np.arange(len(per_row)), per_row)),
            first=[0, *np.cumsum(per_episode).tolist()],
            allowed=None if tries is None else _allowed(trajectories, tries),
            advantages=torch.zeros(int(per_episode.sum())),
            defined=torch.zeros(int(per_episode.sum()), dtype=torch.bool),
        )

    def credit(self, advantages: Tensor, defined: Tensor) -> None:
        """Set both [T]. Raises ValueError for another number of tokens."""
        if len(advantages) != len(self):
            raise ValueError(f"{len(advantages)} advantages for {len(self)} sampled tokens")
        self.advantages, self.defined = advantages.float(), defined

    def __len__(self) -> int:
        return len(self.episode)

    @property
    def begins(self) -> Tensor:
        """[T] bool: the first token of a response."""
        return torch.cat([torch.ones(min(1, len(self)), dtype=torch.bool), self.row[1:] != self.row[:-1]])

    def choices(self, batch: MicroBatch, vocabulary: int) -> tuple[MicroBatch, Tensor | None]:
        """`batch` without forced tokens (probability 1, no gradient), and a mask [M, V] of what was allowed, if not all."""
        if self.allowed is None:
            return batch, None
        flat, offsets = self.allowed
        numbers = batch.tokens.numpy()
        counts = offsets[numbers + 1] - offsets[numbers]
        free = counts != 1
        keep = torch.from_numpy(np.flatnonzero(free))
        chosen, counts = numbers[free], counts[free]
        batch.before, batch.targets, batch.tokens = (
            batch.before[keep.to(batch.before.device)],
            batch.targets[keep.to(batch.targets.device)],
            batch.tokens[keep],
        )
        mask = np.zeros((len(chosen), vocabulary), dtype=bool)
        line = np.repeat(np.arange(len(chosen)), counts)
        within = np.arange(len(line)) - np.repeat(np.cumsum(counts) - counts, counts)
        mask[line, flat[np.repeat(offsets[chosen], counts) + within]] = True
        mask[counts == 0] = True
        return batch, torch.from_numpy(mask).to(batch.ids.device)


def _allowed(trajectories: Sequence[Trajectory], tries: ActionTries) -> tuple[np.ndarray, np.ndarray]:
    sets = [
        ids
        for t in trajectories
        for step in t.steps
        for ids in (
            tries.trie(step.admissible_actions).allowed(step.response_ids)
            if step.admissible_actions
            else [[]] * len(step.response_ids)
        )
    ]
    offsets = np.zeros(len(sets) + 1, dtype=np.int64)
    np.cumsum([len(ids) for ids in sets], out=offsets[1:])
    return np.fromiter((i for ids in sets for i in ids), dtype=np.int64, count=int(offsets[-1])), offsets
