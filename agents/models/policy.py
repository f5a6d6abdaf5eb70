"""The language model that acts: loading, log-probabilities, saving. It leaves sampling to engines and updates to the learner.

Three sources under one class: a model made here for the environment (`tiny`), SmolLM2 from a registry package, and any causal
LM by hub name or local folder; each trained whole or through LoRA.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from agents.models import architecture, ranks
from agents.models.blocks import Blocks
from agents.models.temperature import Temperature, entropy, tempered

REFERENCE = "reference"
"""Name of the frozen adapter that holds what a continued one was at first."""


class PolicyError(RuntimeError):
    """A model cannot be loaded or used; the message says which and what to do."""


class Policy:
    """A causal LM and its tokenizer. Holds state: the weights."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, device: str | torch.device = "cpu") -> None:
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self.model: Any = model.to(self.device)
        self.causal: Any = _unwrapped(model)
        """The transformers model itself, below a LoRA wrapper if there is one."""
        self.model.eval()
        shape = architecture.text(self.causal.config)
        self.max_length = int(getattr(shape, "max_position_embeddings", None) or 1 << 20)
        self.attention = str(getattr(shape, "_attn_implementation", None) or "sdpa")
        """Implementation of attention: sdpa, eager or flash_attention_2."""
        slots = architecture.own_cache(self.causal.config, self.max_length, self.attention) is None
        self.kept: architecture.Kept = "slots" if slots else "chunks"
        """What keeps its sessions while they are sampled; with slots, texts that begin alike may share tokens, too."""
        self.trunk = Trunk(self.causal, self._probe_head())
        self._takes_blocks = self.attention == "sdpa" and self._probe_blocks()
        self._frozen: Policy | None = None

    @property
    def dtype(self) -> torch.dtype:
        return next(self.causal.parameters()).dtype

    @property
    def vocabulary(self) -> int:
        """Width of the logits."""
        return int(architecture.text(self.causal.config).vocab_size)

    @property
    def width(self) -> int:
        """Of the hidden states."""
        return int(architecture.text(self.causal.config).hidden_size)

    @property
    def sharing(self) -> Literal["blocks", "mask"] | None:
        """How texts that begin alike can share tokens in a pass: by attention over blocks (agents.models.blocks), by a mask
        over all tokens, or not at all, where layers build masks of their own."""
        return None if self.kept != "slots" else "blocks" if self._takes_blocks else "mask"

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end a text by the model's own generation settings."""
        settings = getattr(self.causal, "generation_config", None)
        ends = getattr(settings, "eos_token_id", None)
        return () if ends is None else tuple(ends) if isinstance(ends, (list, tuple)) else (int(ends),)

    @property
    def size(self) -> dict[str, int]:
        """Number of weights, of those that are trained, and bits of each, for logs."""
        total = sum(p.numel() for p in self.model.parameters())
        trained = sum(p.numel() for _, p in self.trainable())
        return {"parameters": total, "trainable": trained, "bits": torch.finfo(self.dtype).bits}

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Named parameters that receive gradients, in a fixed order."""
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def forward(
        self, ids: Tensor, positions: Tensor | None, mask: Tensor | Blocks | None, select: Tensor, cache: Any = None
    ) -> Tensor:
        """Logits [M, V] in float32 at the flat places `select` [M] of `ids` [B, L].

        `mask` is None (causal; right padding needs nothing else), boolean [B, 1, L, K], or blocks over a single row. Only
        selected places go through the output head, which for a large vocabulary costs more than the rest of a small model.
        """
        found: Tensor = self.trunk(ids, positions, mask, select, cache)
        return found

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Within: gradient checkpointing, if the model has it, works; transformers does it in training mode only."""
        self.model.train()
        try:
            yield
        finally:
            self.model.eval()

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        """Within: the policy before training: without its adapter, or with that adapter as it was, if a former run's is trained
        on. Only for LoRA; a fully trained model has a frozen copy."""
        if self.model is self.causal:
            raise PolicyError("a reference by switched-off adapters needs model.lora.enabled=true")
        if REFERENCE not in self.model.peft_config:
            with self.model.disable_adapter():
                yield
            return
        self.model.base_model.set_adapter(REFERENCE, inference_mode=True)
        try:
            yield
        finally:
            self.model.base_model.set_adapter("default")

    def frozen(self) -> Policy:
        """A copy that never changes, of the policy as it was when somebody first asked. All who ask share it.

        For a policy that is trained whole; where only an adapter is, `reference` is the same without a copy.
        """
        if self._frozen is None:
            self._frozen = Policy(copy.deepcopy(self.model).requires_grad_(False), self.tokenizer, self.device)
        return self._frozen

    def twin(self) -> Policy:
        """A policy of its own, over the same weights: no tensor is copied, and nothing of this policy's state is shared."""
        shared = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in self.model.parameters()}
        twin = copy.copy(self)
        twin.model = copy.deepcopy(self.model, shared)
        twin.causal = _unwrapped(twin.model)
        twin.trunk = Trunk(twin.causal, self.trunk.head_is_plain)
        twin._frozen = None
        return twin

    def named_tensors(self) -> dict[str, Tensor]:
        """The weights by the model's own names, by reference; those below a LoRA adapter are merged with it, in new tensors."""
        found = {name: ranks.full(p.detach()) for name, p in self._published(adapter=False).items()}
        for path, module in self.causal.named_modules():
            if hasattr(module, "get_delta_weight"):
                found[f"{path}.weight"] = found[f"{path}.weight"] + module.get_delta_weight("default").detach()
        return found

    def aliases(self) -> dict[str, str]:
        """Further names of weights that stand in several places (a tied output head): each with that of `named_tensors`."""
        published = self._published(adapter=False)
        name_of = {id(p): name for name, p in published.items()}
        every = ((name.replace(".base_layer.", "."), p) for name, p in self.causal.named_parameters(remove_duplicate=False))
        return {name: name_of[id(p)] for name, p in every if name not in published and id(p) in name_of}

    def adapter_tensors(self) -> dict[str, Tensor]:
        """The weights of the LoRA adapter by the names that its file has, by reference; {} without one."""
        return {name: p.detach() for name, p in self._published(adapter=True).items()}

    def _published(self, adapter: bool) -> dict[str, nn.Parameter]:
        """Parameters of the LoRA adapter, or of the model below it, by the names that they are published under."""
        if adapter:
            named = ((name, p) for name, p in self.model.named_parameters() if ".lora_" in name and ".default." in name)
            return {name.replace(".default.", "."): p for name, p in named}
        named = ((name, p) for name, p in self.causal.named_parameters() if ".lora_" not in name)
        return {name.replace(".base_layer.", "."): p for name, p in named}

    @torch.no_grad()
    def take(self, tensors: Mapping[str, Tensor], adapter: bool = False) -> None:
        """Use `tensors` (by the names of `named_tensors`, or of `adapter_tensors`) from now on: by reference where device and
        format are the same. Whole weights have the adapter merged in: one of this policy's own is switched off from then on.
        Raises ValueError for weights of another model."""
        mine = self._published(adapter)
        if unknown := sorted(tensors.keys() - mine.keys()):
            raise ValueError(f"these weights are of another model: here is no '{unknown[0]}'")
        for name, tensor in tensors.items():
            held = mine[name]
            if (held.device, held.dtype, held.shape) == (tensor.device, tensor.dtype, tensor.shape):
                held.data = tensor
            else:
                held.copy_(tensor)
        for module in self.causal.modules():
            if not adapter and hasattr(module, "get_delta_weight"):
                module.enable_adapters(False)

    def weights(self) -> dict[str, Tensor]:
        """All weights and buffers by the names of `model`, gathered where ranks share them."""
        return {name: ranks.full(tensor.detach()) for name, tensor in self.model.state_dict().items()}

    @property
    def has_frozen(self) -> bool:
        """Whether somebody has asked for the frozen copy."""
        return self._frozen is not None

    def save(self, folder: Path) -> None:
        """Write the model and tokenizer by `save_pretrained`: of LoRA the adapter, merged where its base could not be found.

        All ranks gather, and rank 0 writes."""
        if self.model is not self.causal and self.model.peft_config["default"].base_model_name_or_path:
            if ranks.rank() == 0:
                self.model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)
        elif ranks.size() > 1:
            weights = self.named_tensors()  # tied ones once
            if ranks.rank() == 0:
                self.causal.save_pretrained(folder, state_dict=weights)
        elif self.model is self.causal:
            self.model.save_pretrained(folder)
        else:
            copy.deepcopy(self.model).merge_and_unload().save_pretrained(folder)
        if ranks.rank() == 0:
            self.tokenizer.save_pretrained(folder)

    @torch.no_grad()
    def _probe_head(self) -> bool:
        """Whether logits are just the output embedding of the last hidden state (no soft cap, no scaling)."""
        if self.causal.base_model is self.causal:  # it would compute all of them on the way to its hidden states
            return False
        ids = torch.arange(4, device=self.device)[None] % self.vocabulary
        full = self.causal(input_ids=ids).logits
        hidden = self.causal.base_model(input_ids=ids).last_hidden_state
        return torch.allclose(full, self.causal.get_output_embeddings()(hidden), rtol=1e-3, atol=1e-3)

    @torch.no_grad()
    def _probe_blocks(self) -> bool:
        """Whether blocks reach the attention of all layers: two texts are then read in one line as each is alone, and not as if
        the second one followed the first."""
        ids = torch.arange(6, device=self.device)[None] % self.vocabulary
        positions = torch.tensor([[0, 1, 2, 3, 2, 3]], device=self.device)
        blocks = Blocks.of(np.array([6, 6, 4, 4, 6, 6]), 3, self.device, self.dtype)
        try:
            found = hidden_states(self.causal, ids, positions, blocks)[0, 4:]
        except Exception:  # code of any model
            return False
        alone = hidden_states(self.causal, ids[:, [0, 1, 4, 5]], None, None)[0, 2:]
        following = hidden_states(self.causal, ids, None, None)[0, 4:]
        return float((found - alone).norm()) < 0.3 * float((following - alone).norm())


class Trunk(nn.Module):
    """A transformers model as one module, through which all passes of the learner go: ranks gather its weights there."""

    def __init__(self, causal: Any, head_is_plain: bool = True) -> None:
        """head_is_plain: logits are just the output embedding of the last hidden state."""
        super().__init__()
        self.causal, self.head_is_plain = causal, head_is_plain

    def forward(
        self,
        ids: Tensor,
        positions: Tensor | None,
        mask: Tensor | Blocks | None,
        select: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Logits [M, V] in float32 at the flat places `select` [M], or without them the last layer's states [B, L, H]."""
        if select is None or self.head_is_plain:
            hidden = hidden_states(self.causal, ids, positions, mask, cache)
            if select is None:
                return hidden
            logits: Tensor = self.causal.get_output_embeddings()(hidden.reshape(-1, hidden.shape[-1])[select])
            return logits.float()
        logits = self.causal(**_inputs(self.causal, ids, positions, mask, cache)).logits
        return logits.reshape(-1, logits.shape[-1])[select].float()

    def shard(self, offload: bool) -> None:
        """Deal the weights out to the ranks, but for adapters, which all hold whole."""
        names = set(getattr(self.causal, "_no_split_modules", None) or ())
        layers = [module for module in self.causal.modules() if type(module).__name__ in names]
        kept = {p for name, p in self.causal.named_parameters() if ".lora_" in name}
        ranks.shard(self, layers, kept, offload)


def hidden_states(
    causal: Any, ids: Tensor, positions: Tensor | None, mask: Tensor | Blocks | None, cache: Any = None
) -> Tensor:
    """[B, L, H] of the last layer, of a transformers model; arguments as in `Policy.forward`."""
    inputs = _inputs(causal, ids, positions, mask, cache)
    hidden: Tensor
    if causal.base_model is causal:  # some classes name no inner model
        hidden = causal(**inputs, output_hidden_states=True).hidden_states[-1]
    else:
        hidden = causal.base_model(**inputs).last_hidden_state
    return hidden


def _inputs(causal: Any, ids: Tensor, positions: Tensor | None, mask: Tensor | Blocks | None, cache: Any) -> dict[str, Any]:
    """What is handed to the model: nothing that it would make itself, since not every model takes it."""
    if isinstance(mask, Blocks):
        # A mask of four dimensions keeps the model from making one; what is handed on to attention says what is seen.
        unused = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids.device)
        return {"input_ids": ids, "use_cache": False, "position_ids": positions, "attention_mask": unused, "blocks": mask}
    if mask is not None and architecture.text(causal.config)._attn_implementation == "eager":
        # Eager attention adds its mask to the scores.
        dtype = causal.get_input_embeddings().weight.dtype
        mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
    given = {"position_ids": positions, "attention_mask": mask, "past_key_values": cache}
    return {"input_ids": ids, "use_cache": cache is not None} | {k: v for k, v in given.items() if v is not None}


def _unwrapped(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def token_logprobs(
    logits: Tensor, targets: Tensor, allowed: Tensor | None, temperature: Temperature = 1.0, which: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probability [M] of `targets` [M] and entropy [M] under softmax(`logits` [D, V] / temperature).

    `which` [M]: the line of `logits` for each target; None: the first for the first, and so on. `allowed` [D, V] (bool)
    restricts and renormalizes the distribution as constrained sampling does.
    """
    logp = torch.log_softmax(tempered(logits, temperature, allowed), dim=-1)
    uncertain = entropy(logp)
    if which is None:
        return logp.gather(-1, targets[:, None])[:, 0], uncertain
    return logp[which, targets], uncertain[which]
