"""Numbers read off a text: an MLP on hidden states of the policy as it was before RL, and its optimizer.

With a frozen base every hidden state is computed once an iteration; the MLP's steps then cost next to nothing. Which places are
read, and what the numbers are to be, is the business of who uses it: the critic, a shaping's model of steps.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from agents.models import ranks
from agents.models.policy import Policy, Trunk
from agents.training.experience import Experience
from agents.training.optimizer import Optimizer
from agents.training.packing import Row
from agents.training.passes import MicroBatch, joined, passes
from envs.common.seeding import derive


class HeadSettings(Protocol):
    """What a configuration says of a head."""

    @property
    def trains(self) -> Literal["head", "all"]:
        """head: the base stays frozen; all: it is a copy of the policy that is trained too."""

    @property
    def hidden(self) -> list[int]:
        """Widths of the inner layers."""


class Head:
    """Holds the MLP and its optimizer, and with trains=all a copy of the policy."""

    def __init__(
        self, policy: Policy, settings: HeadSettings, lr: float, outputs: int, tokens_per_microbatch: int, name: str, seed: int
    ) -> None:
        """name: of its own, for the seed of its first weights."""
        self.settings, self._policy, self._tokens_per_microbatch = settings, policy, tokens_per_microbatch
        self.whole = settings.trains == "all"
        self._adapters = policy.model is not policy.causal and not self.whole
        if self.whole:
            self.trunk = Trunk(copy.deepcopy(policy.causal).requires_grad_(True).eval())
        else:
            self.trunk = policy.trunk if self._adapters else policy.frozen().trunk
        width, widths = int(self.trunk.causal.config.get_text_config().hidden_size), [*settings.hidden, outputs]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, name, "weights"))
            layers = [nn.Linear(a, b, bias=False) for a, b in pairwise([width, *widths])]
        nn.init.zeros_(layers[-1].weight)  # before it has learned anything it has no opinion
        joined = [part for layer in layers for part in (layer, nn.ReLU())][:-1]
        self.mlp = nn.Sequential(*joined).to(policy.device)
        self.optimizer = Optimizer(self._parameters, lr)
        self._tokens = 0
        self._kept: Tensor | None = None
        """[P, H] on the CPU: the frozen base's hidden states of the places that were read."""
        self._mine = torch.zeros(0, dtype=torch.bool)
        """[P] the places whose states are kept here, and not by another rank."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """[M, outputs] for hidden states [M, H]."""
        found: Tensor = self.mlp(hidden.float())
        return found

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        found = [(f"head.{key}", p) for key, p in self.mlp.named_parameters()]
        if self.whole:
            found += [(f"base.{key}", p) for key, p in self.trunk.causal.base_model.named_parameters()]
        return found

    @torch.no_grad()
    def read(self, experience: Experience, rows: Sequence[Row], places: int) -> Tensor:
        """[P, outputs] float64 for all places that `rows` predict; 0 where none is. States are kept until `forget`."""
        outputs = int(self.mlp[-1].out_features)  # type: ignore[arg-type]
        found = torch.zeros(places, outputs)
        self._kept = kept = None
        self._mine = mine = torch.zeros(places, dtype=torch.bool)
        for numbers, hidden in self._pass(experience, rows):
            found[numbers] = self(hidden).cpu()
            mine[numbers] = True
            if not self.whole:
                kept = torch.empty(places, hidden.shape[1], dtype=hidden.dtype) if kept is None else kept
                kept[numbers] = hidden.cpu()
        self._kept = kept
        return joined(found.double(), mine)

    def states(self, experience: Experience, rows: Sequence[Row], numbers: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers [M] and hidden states [M, H] of the places `numbers`, which are those of `rows`, by micro-batch; of this
        rank's share."""
        if self._kept is None:
            yield from self._pass(experience, rows)
            return
        if ranks.size() > 1:
            numbers = numbers[self._mine[numbers]]
        for part in numbers.split(self._tokens_per_microbatch):
            yield part, self._kept[part].to(self._policy.device)

    def forget(self) -> None:
        """Let go of the states that were kept."""
        self._kept = None

    @contextmanager
    def training(self) -> Iterator[None]:
        """Within it, a base that is trained is in training mode: gradient checkpointing works in no other."""
        self.trunk.causal.train(self.whole)
        yield
        self.trunk.causal.eval()

    def take_tokens(self) -> int:
        """Tokens that went through the base since the last call."""
        taken, self._tokens = self._tokens, 0
        return taken

    def _pass(self, experience: Experience, rows: Sequence[Row]) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in passes(experience, rows, self._policy, self._tokens_per_microbatch, forced=True):
            self._tokens += batch.real_tokens
            yield batch.tokens, self._forward(batch)

    def _forward(self, batch: MicroBatch) -> Tensor:
        frozen: AbstractContextManager[Any] = nullcontext() if self.whole else torch.no_grad()
        with frozen, self._policy.reference() if self._adapters else nullcontext():
            hidden = self.trunk(batch.ids, batch.positions, batch.mask)
        return hidden.reshape(-1, hidden.shape[-1])[batch.before][batch.which]

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the next numbers and steps depend on."""
        state: dict[str, Any] = {"head": self.mlp.state_dict(), "optimizer": self.optimizer.state()}
        if self.whole:
            state["base"] = ranks.full_tree(dict(self.trunk.causal.state_dict()))
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        self.mlp.load_state_dict(state["head"])
        if self.whole:
            ranks.put(state["base"], self.trunk.causal.state_dict())
        self.optimizer.load_state(state["optimizer"])
