"""What an engine keeps of each session between passes, so that only what is new in a prompt is computed.

By what the model's layers are (agents.models.architecture): slots of one buffer, where sessions share their passes, or the
model's own cache for each session, one session at a time, where layers keep windows or states that no slot holds. Slots are
read through transformers' modules, or through the lean pass (agents.models.lean_slots) where it gives the model's numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from agents.models.architecture import Kept
from agents.models.cache import SlotCache
from agents.models.policy import Policy


@dataclass(frozen=True, slots=True)
class Part:
    """What is new of one session."""

    place: int
    """The session's place among the live ones."""
    start: int
    """Ids that were read before."""
    ids: Sequence[int]
    """Ids to be read now, at least one."""


@dataclass(slots=True)
class Grid:
    """A pass of B rows padded to width W, which see L places of their slots."""

    ids: Tensor
    """[B, W]"""
    positions: Tensor
    """[B, W]"""
    mask: Tensor
    """[B, 1, W, L] bool"""
    real: Tensor
    """[R] flat indices of what is no padding."""
    rows: list[int]
    """[B] slots that are seen."""
    slots: Tensor
    """[R] and"""
    places: Tensor
    """[R] where their keys go."""
    select: Tensor
    """[M] flat indices of the outputs that predict something."""


class Memory(Protocol):
    """Holds what was read, by a session's place."""

    def read(self, policy: Policy, parts: Sequence[Part]) -> Tensor:
        """Logits [B, V] after the last id of each part."""

    def renew(self) -> None:
        """The policy's weights have changed."""

    def keep(self, place: int, read: int, wanted: int) -> int:
        """How many of the first `wanted` of the `read` ids of a session can stay; what comes after them is forgotten."""

    def move(self, source: int, target: int) -> None:
        """A session gets another place; what was there is forgotten."""

    def save(self, place: int, read: int) -> Any:
        """A copy of what is kept of a session that has `read` so many ids."""

    def load(self, place: int, saved: Any, read: int, wanted: int) -> int:
        """Begin a session at `place` with what was saved of another one; how many of the first `wanted` ids of it there are."""

    def forget(self, place: int) -> None: ...

    def clear(self) -> None:
        """Let go of everything that is kept."""


class Slots:
    """Memory in a buffer of slots, read by the model's own modules."""

    def __init__(self, capacity: int) -> None:
        self._cache = SlotCache(capacity)

    def read(self, policy: Policy, parts: Sequence[Part]) -> Tensor:
        """All parts in one pass, padded on the right."""
        width = max(len(part.ids) for part in parts)
        ids = np.zeros((len(parts), width), dtype=np.int64)
        positions = np.zeros((len(parts), width), dtype=np.int64)
        real = np.zeros((len(parts), width), dtype=bool)
        for row, part in enumerate(parts):
            ids[row, : len(part.ids)] = part.ids
            positions[row] = part.start + np.arange(width)
            real[row, : len(part.ids)] = True
        length = int((positions * real).max()) + 1
        positions_seen = torch.from_numpy(np.minimum(positions, length - 1))
        flat = np.flatnonzero(real.ravel())
        rows = [part.place for part in parts]
        grid = Grid(
            ids=torch.from_numpy(ids),
            positions=positions_seen,
            mask=(torch.arange(length)[None, None, :] <= positions_seen[:, :, None])[:, None],
            real=torch.from_numpy(flat),
            rows=rows,
            slots=torch.from_numpy(np.repeat(np.asarray(rows), width)[flat]),
            places=torch.from_numpy(positions.ravel()[flat]),
            select=torch.tensor([row * width + len(part.ids) - 1 for row, part in enumerate(parts)]),
        )
        return self.read_grid(policy, grid)

    def read_grid(self, policy: Policy, grid: Grid) -> Tensor:
        """Logits [M, V] at what the grid selects."""
        device, rows = policy.device, grid.rows
        self._cache.set_pass(
            len(rows) if rows == list(range(len(rows))) else torch.tensor(rows, device=device),
            grid.real.to(device),
            grid.slots.to(device),
            grid.places.to(device),
            grid.mask.shape[-1],
        )
        ids, positions, mask, select = (one.to(device) for one in (grid.ids, grid.positions, grid.mask, grid.select))
        return policy.forward(ids, positions, mask, select, self._cache)

    def renew(self) -> None:
        """They are read where they are."""

    def keep(self, place: int, read: int, wanted: int) -> int:
        return wanted

    def move(self, source: int, target: int) -> None:
        self._cache.move(source, target)

    def save(self, place: int, read: int) -> list[Tensor]:
        return self._cache.save(place, read)

    def load(self, place: int, saved: list[Tensor], read: int, wanted: int) -> int:
        self._cache.load(place, saved, wanted)
        return wanted

    def forget(self, place: int) -> None:
        """Nothing is to be undone: what lies in a free slot is seen by nobody."""

    def clear(self) -> None:
        self._cache = SlotCache(self._cache.capacity)


class OwnCaches:
    """Memory in the model's own cache for each session. Masks and positions are the model's own, too."""

    def __init__(self, one_by_one: bool) -> None:
        """one_by_one: what continues a session is read token by token; some states can be continued in no other way."""
        self._one_by_one = one_by_one
        self._caches: dict[int, DynamicCache] = {}

    def read(self, policy: Policy, parts: Sequence[Part]) -> Tensor:
        """A pass or more for each part."""
        return torch.cat([self._read(policy, part) for part in parts])

    def _read(self, policy: Policy, part: Part) -> Tensor:
        cache = self._caches.get(part.place) if part.start else None
        if cache is None:
            cache = self._caches[part.place] = DynamicCache(config=policy.causal.config)
        ids = torch.tensor([list(part.ids)], device=policy.device)
        for piece in ids.split(1, dim=1) if self._one_by_one and part.start else (ids,):
            last = torch.tensor([piece.shape[1] - 1], device=policy.device)
            logits = policy.forward(piece, None, None, last, cache)
        return logits

    def renew(self) -> None:
        """They are read where they are."""

    def keep(self, place: int, read: int, wanted: int) -> int:
        """All or nothing: a state cannot go back."""
        if wanted == read:
            return wanted
        self.forget(place)
        return 0

    def move(self, source: int, target: int) -> None:
        self.forget(target)
        if source in self._caches:
            self._caches[target] = self._caches.pop(source)

    def save(self, place: int, read: int) -> DynamicCache:
        return copy.deepcopy(self._caches[place])

    def load(self, place: int, saved: DynamicCache, read: int, wanted: int) -> int:
        """All or nothing."""
        if wanted < read:
            return 0
        self._caches[place] = copy.deepcopy(saved)
        return wanted

    def forget(self, place: int) -> None:
        self._caches.pop(place, None)

    def clear(self) -> None:
        self._caches.clear()


def memory_for(kept: Kept, capacity: int) -> Slots | OwnCaches:
    """The memory of an engine with `capacity` sessions."""
    return Slots(capacity) if kept == "slots" else OwnCaches(one_by_one=kept == "tokens")
