"""Memory of sessions in slots that the lean pass reads: which keys a pass sees, how its buffers grow, what shares a pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.models.lean import Decoder, KeysValues, Tokens
from agents.models.memory import Grid, Part
from agents.models.policy import Policy
from agents.models.recorded import SHORTEST, Recorded, Recorder, bucket

LARGEST_MASK = 1 << 25
"""Elements: parts whose mask would have more take further passes."""
WORTH_A_PASS = 256
"""Tokens: so many do not share a pass with parts of more than twice their length, whose queries they would be padded to."""


class LeanSlots:
    """Memory in a buffer of slots, read by the lean pass. The buffers grow with the sessions and with what these have read."""

    def __init__(self, decoder: Decoder, recorder: Recorder | None = None) -> None:
        """recorder: what records steps of one token a session, on a GPU."""
        self._decoder = decoder
        self._buffers: list[KeysValues] = []
        self._slots = self._length = 0
        self._recorded = Recorded(decoder, recorder) if recorder else None

    @torch.inference_mode()
    def read(self, policy: Policy, parts: Sequence[Part]) -> Tensor:
        """All parts in one pass, or in a few of parts of like length."""
        passes = _passes(parts)
        if len(passes) == 1:
            return self._read(policy, parts)
        logits = torch.cat([self._read(policy, [parts[i] for i in chosen]) for chosen in passes])
        return logits[torch.tensor([i for chosen in passes for i in chosen]).argsort().to(logits.device)]

    def _read(self, policy: Policy, parts: Sequence[Part]) -> Tensor:
        size = np.array([len(part.ids) for part in parts])
        start = np.array([part.start for part in parts])
        slots = np.array([part.place for part in parts])
        wide, length = int(size.max()), int((start + size).max())
        if wide == 1 and (logits := self._replayed(parts, start, slots, length)) is not None:
            return logits
        first, last = int(slots.min()), int(slots.max()) + 1
        # Where most of a run of slots takes part, the others are looked at in vain: cheaper than to copy all keys but theirs.
        run = (last - first - len(parts)) * wide <= len(parts)
        row_of = slots - first if run else np.arange(len(parts))
        rows = last - first if run else len(parts)
        number = np.repeat(np.arange(len(parts)), size)
        within = np.arange(len(number)) - np.repeat(np.cumsum(size) - size, size)
        positions = start[number] + within
        grid = row_of[number] * wide + within
        looks = np.zeros(rows * wide, dtype=np.int64)
        looks[grid] = positions
        device = policy.device
        return self._pass(
            ids=torch.tensor([token for part in parts for token in part.ids], device=device),
            positions=torch.from_numpy(positions).to(device),
            slots=slots[number],
            places=positions,
            rows=slice(first, last) if run else torch.from_numpy(slots).to(device),
            grid=None if len(grid) == len(looks) and bool((grid[1:] > grid[:-1]).all()) else torch.from_numpy(grid).to(device),
            seen=torch.arange(length, device=device) <= torch.from_numpy(looks).to(device).view(rows, 1, wide, 1),
            select=None if wide == 1 else torch.from_numpy(np.cumsum(size) - 1).to(device),
        )

    def _replayed(
        self, parts: Sequence[Part], start: NDArray[np.int64], slots: NDArray[np.int64], length: int
    ) -> Tensor | None:
        """Logits of a recorded step, if steps are recorded and most slots take part in this one."""
        shape = bucket(int(slots.max()) + 1), max(SHORTEST, bucket(length))
        if self._recorded is None or not self._recorded.works or 4 * len(parts) < shape[0]:
            return None
        self._grow(*shape)
        return self._recorded.step([part.ids[0] for part in parts], start, slots, shape, self._buffers)

    @torch.inference_mode()
    def read_grid(self, policy: Policy, grid: Grid) -> Tensor:
        """Logits [M, V] at what the grid selects."""
        device, rows = policy.device, grid.rows
        # Among the real tokens alone.
        select = torch.searchsorted(grid.real, grid.select)
        return self._pass(
            ids=grid.ids.view(-1)[grid.real].to(device),
            positions=grid.positions.view(-1)[grid.real].to(device),
            slots=grid.slots.numpy(),
            places=grid.places.numpy(),
            rows=slice(0, len(rows)) if rows == list(range(len(rows))) else torch.tensor(rows, device=device),
            grid=None if len(grid.real) == grid.ids.numel() else grid.real.to(device),
            seen=grid.mask.to(device),
            select=select.to(device),
        )

    def _pass(
        self,
        ids: Tensor,
        positions: Tensor,
        slots: NDArray[np.int64],
        places: NDArray[np.int64],
        rows: slice | Tensor,
        grid: Tensor | None,
        seen: Tensor,
        select: Tensor | None,
    ) -> Tensor:
        """One pass; arguments as in `Tokens`, `seen` [B, 1, W, L] bool."""
        self._grow(int(slots.max()) + 1, seen.shape[-1])
        heads = self._decoder.heads
        cells = ((slots[:, None] * heads + np.arange(heads)) * self._length + places[:, None]).ravel()
        mask = torch.zeros(seen.shape, dtype=self._decoder.like.dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
        return self._decoder(
            Tokens(ids, positions, torch.from_numpy(cells).to(ids.device), rows, grid, mask, select), self._buffers
        )

    def _grow(self, slots: int, length: int) -> None:
        moved = self._decoder.reach(length)
        if self._recorded and (moved or slots > self._slots or length > self._length):
            self._recorded.drop()
        if slots <= self._slots and length <= self._length:
            return
        kept = slice(0, self._slots), slice(None), slice(0, self._length)
        self._slots = self._slots if slots <= self._slots else max(slots, 2 * self._slots)
        self._length = self._length if length <= self._length else max(length, 2 * self._length, 128)
        spare = 1 if self._recorded else 0  # a slot that no session has
        shape = self._slots + spare, self._decoder.heads, self._length, self._decoder.width
        for layer in range(self._decoder.layers):
            fresh = KeysValues(self._decoder.like.new_zeros(shape), self._decoder.like.new_zeros(shape))
            if layer < len(self._buffers):
                for new, old in zip(fresh, self._buffers[layer]):
                    new[kept] = old[kept]
                self._buffers[layer] = fresh
            else:
                self._buffers.append(fresh)

    def clear(self) -> None:
        if self._recorded:
            self._recorded.drop()
        self._buffers.clear()
        self._slots = self._length = 0

    def renew(self) -> None:
        self._decoder.renew()
        if self._recorded:
            self._recorded.renewed()

    def keep(self, place: int, read: int, wanted: int) -> int:
        return wanted

    @torch.inference_mode()
    def move(self, source: int, target: int) -> None:
        if source < self._slots:  # else it has read nothing yet
            for layer in self._buffers:
                for buffer in layer:
                    buffer[target] = buffer[source]

    @torch.inference_mode()
    def save(self, place: int, read: int) -> list[Tensor]:
        return [buffer[place, :, :read].clone() for layer in self._buffers for buffer in layer]

    @torch.inference_mode()
    def load(self, place: int, saved: list[Tensor], read: int, wanted: int) -> int:
        self._grow(place + 1, wanted)
        for buffer, places in zip((buffer for layer in self._buffers for buffer in layer), saved, strict=True):
            buffer[place, :, :wanted] = places[:, :wanted]
        return wanted

    def forget(self, place: int) -> None:
        """As with `Slots`."""


def _passes(parts: Sequence[Part]) -> list[list[int]]:
    """Numbers of the parts that are read together."""
    sizes = [len(part.ids) for part in parts]
    if max(sizes) == 1:
        return [list(range(len(parts)))]
    passes: list[list[int]] = []
    tokens = shortest = longest = 0
    for number in sorted(range(len(parts)), key=sizes.__getitem__):
        size, end = sizes[number], parts[number].start + sizes[number]
        unlike = size > 2 * shortest and tokens >= WORTH_A_PASS
        if not passes or unlike or (len(passes[-1]) + 1) * size * max(longest, end) > LARGEST_MASK:
            passes.append([])
            tokens, shortest, longest = 0, size, 0
        passes[-1].append(number)
        tokens, longest = tokens + size, max(longest, end)
    return [sorted(chosen) for chosen in passes]
