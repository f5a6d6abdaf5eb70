"""Constrained sampling inside vLLM: a logits processor that leaves each row what its trie allows there.

vLLM takes log-probabilities after its processors, so they are renormalized over the allowed tokens, as in the update.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, process_dict_updates

from agents.rollout.constraint import Node

CHOICES = "choices"
"""Key of a request's `extra_args`: the trie's node at which it begins, as nested dictionaries."""


class _Row:
    """A request's place in its trie."""

    def __init__(self, node: Node, written: list[int]) -> None:
        self.node, self.written, self.seen = node, written, 0

    def follow(self) -> Node:
        """The node after what vLLM has sampled by now, in a list that it goes on filling."""
        while self.seen < len(self.written):
            self.node = self.node[self.written[self.seen]]
            self.seen += 1
        return self.node


class Choices(LogitsProcessor):
    """Holds the tries of the rows of vLLM's batch that have one."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._rows: dict[int, _Row] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._rows, batch_update, _row)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        if not self._rows:
            return logits
        pairs = [(index, token) for index, row in self._rows.items() for token in row.follow()]
        rows, tokens = torch.tensor(pairs, device=self._device).T
        allowed = logits[rows, tokens]
        logits[list(self._rows)] = -torch.inf
        logits[rows, tokens] = allowed
        return logits


def _row(params: SamplingParams, prompt: list[int] | None, written: list[int]) -> _Row | None:
    node = (params.extra_args or {}).get(CHOICES)
    return None if node is None else _Row(node, written)
