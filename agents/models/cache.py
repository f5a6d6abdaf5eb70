"""Keys and values of all live sessions in one buffer a layer. Who sees what is left to the engine's masks."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache


class SlotCache(Cache):
    """A slot a session; a forward pass sees the slots it works on. Call `set_pass` before each pass."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def set_pass(self, rows: Tensor | int, real: Tensor, slots: Tensor, places: Tensor, length: int) -> None:
        """`rows`: slots that take part, or an int n for the first n (a view, no copy). `real` [R]: flat indices of the pass's
        tokens that are no padding; `slots` and `places` [R]: where their keys go. `length`: places that the pass sees."""
        self._rows, self._real, self._slots, self._places, self.length = rows, real, slots, places, length

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object) -> tuple:
        if layer_idx == len(self._keys):
            for buffers, new in ((self._keys, key_states), (self._values, value_states)):  # their widths may differ
                buffers.append(new.new_zeros((self.capacity, new.shape[1], 128, new.shape[3])))
        self._grow(layer_idx)
        seen = []
        for buffers, new in ((self._keys, key_states), (self._values, value_states)):
            buffer = buffers[layer_idx]
            flat = new.transpose(1, 2).reshape(-1, new.shape[1], new.shape[3])
            if len(self._real) != flat.shape[0]:
                flat = flat[self._real]
            buffer[self._slots, :, self._places] = flat
            # Cut to length before rows are gathered: a buffer is as long as the longest episode ever was.
            needed = buffer[:, :, : self.length]
            seen.append(needed[: self._rows] if isinstance(self._rows, int) else needed.index_select(0, self._rows))
        return seen[0], seen[1]

    def _grow(self, layer: int) -> None:
        for buffers in (self._keys, self._values):
            old = buffers[layer]
            if old.shape[2] < self.length:
                bigger = old.new_zeros((*old.shape[:2], max(self.length, 2 * old.shape[2]), old.shape[3]))
                bigger[:, :, : old.shape[2]] = old
                buffers[layer] = bigger

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    @torch.inference_mode()
    def save(self, slot: int, length: int) -> list[Tensor]:
        """A copy of the first `length` places of a slot."""
        return [buffer[slot, :, :length].clone() for buffer in (*self._keys, *self._values)]

    @torch.inference_mode()
    def load(self, slot: int, saved: list[Tensor], length: int) -> None:
        """Put into a slot the first `length` places of what was saved of another one."""
        for buffer, places in zip((*self._keys, *self._values), saved, strict=True):
            buffer[slot, :, :length] = places[:, :length]

    @torch.inference_mode()
    def move(self, source: int, target: int) -> None:
        """Copy a slot, so that live slots stay the first ones."""
        for buffer in (*self._keys, *self._values):
            buffer[target] = buffer[source]
