"""Decoding steps that are recorded once and replayed: on a GPU one CUDA graph instead of some hundred launches.

A recording has fixed shapes and addresses. A step of one token a session is padded to the next bucket of slots and of places;
rows that take no part write to a spare slot. Recordings are dropped when anything they read has moved, and given up for good
when one fails: the steps are then computed as they are elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.models.lean import Decoder, KeysValues, Tokens

Recorder = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""From a computation over tensors that stay where they are to its replay."""
SHORTEST = 256
"""Places of the smallest bucket."""

log = logging.getLogger("stepcredit.models")


def bucket(count: int) -> int:
    """The next size that is recorded: a quarter, two, three or four of the next power of two."""
    step = max(1, (1 << (count - 1).bit_length()) // 4)
    return -(-count // step) * step


def cuda_recorder() -> Recorder:
    """Records CUDA graphs, which share their memory: a result holds until the next replay of any of them."""
    alive: WeakSet[torch.cuda.CUDAGraph] = WeakSet()
    pool: Any = None

    def record(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what is made at first use is not to be recorded
            for _ in range(2):
                run()
        torch.cuda.current_stream().wait_stream(side)
        nonlocal pool
        if not alive:  # a pool ends with the last of its graphs
            pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # An update in another thread (rollout.overlap) may allocate meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            result = run()
        alive.add(graph)

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay

    return record


@dataclass(slots=True)
class _Step:
    """A recorded step of B rows."""

    given: Tensor
    """[B x (2 + heads)] ids, positions and cells."""
    replay: Callable[[], Tensor]


class Recorded:
    """Recorded steps by bucket. Holds them, and whether recording works here."""

    def __init__(self, decoder: Decoder, recorder: Recorder) -> None:
        self._decoder, self._recorder = decoder, recorder
        self._steps: dict[tuple[int, int], _Step] = {}
        self._addresses = decoder.addresses()
        self.works = True

    def drop(self) -> None:
        """What was recorded reads what is no longer there."""
        self._steps.clear()

    def renewed(self) -> None:
        """The decoder has new weights: in most cases at the old addresses."""
        if (addresses := self._decoder.addresses()) != self._addresses:
            self._addresses = addresses
            self.drop()

    def step(
        self,
        ids: Sequence[int],
        positions: NDArray[np.int64],
        slots: NDArray[np.int64],
        shape: tuple[int, int],
        buffers: Sequence[KeysValues],
    ) -> Tensor | None:
        """Logits [N, V] after a token of each of N slots, as a step of `shape` (rows, places); None if it cannot be recorded.

        The last slot of the buffers is nobody's.
        """
        rows, length = shape
        heads, spare, places = self._decoder.heads, len(buffers[0].keys) - 1, buffers[0].keys.shape[2]
        given = np.zeros(rows * (2 + heads), dtype=np.int64)
        given[slots], given[rows + slots] = ids, positions
        slot, place = np.full(rows, spare), np.zeros(rows, dtype=np.int64)
        slot[slots], place[slots] = slots, positions
        given[2 * rows :] = ((slot[:, None] * heads + np.arange(heads)) * places + place[:, None]).ravel()
        at = torch.from_numpy(slots).to(self._decoder.like.device)
        step = self._steps.get(shape)
        if step is not None:
            step.given.copy_(torch.from_numpy(given))
            return step.replay()[at]
        held = torch.from_numpy(given).to(self._decoder.like.device)
        try:
            step = self._steps[shape] = _Step(held, self._recorder(lambda: self._run(held, rows, length, buffers)))
            return step.replay()[at]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a driver or kernel does not allow
            self.works = False
            self.drop()
            log.warning("decoding without CUDA graphs: %s: %s", type(error).__name__, str(error)[:200])
            return None

    def _run(self, given: Tensor, rows: int, length: int, buffers: Sequence[KeysValues]) -> Tensor:
        ids, positions, cells = given[:rows], given[rows : 2 * rows], given[2 * rows :]
        unseen = torch.arange(length, device=given.device) > positions[:, None, None, None]
        mask = torch.zeros(unseen.shape, dtype=self._decoder.like.dtype, device=given.device).masked_fill_(unseen, -torch.inf)
        return self._decoder(Tokens(ids, positions, cells, slice(0, rows), None, mask, None), buffers)
