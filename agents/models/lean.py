"""The forward pass of Llama-shaped models without their modules: what engine=hf samples with where a model allows it.

In transformers' modules a decoding step of a small model takes several times as long as its arithmetic. Here the same weights
go through the same arithmetic in some fifteen calls a layer: RMSNorm, rotary positions, grouped queries, optional biases and
norms of queries and keys, a gated feed-forward layer. Only real tokens are computed, and of the last layer only those whose
logits are wanted. Which models qualify is read off their modules, and every weight must have its place; whether the numbers are
the model's own is measured before one is used (agents.models.probe).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.models import architecture
from agents.models.policy import Policy


@dataclass(slots=True)
class Tokens:
    """The N real tokens of a pass, and where each stands."""

    ids: Tensor
    """[N]"""
    positions: Tensor
    """[N] for the rotation."""
    cells: Tensor
    """[N x heads] where their keys and values go, in a layer's buffers seen as [slots x heads x places, width]."""
    rows: slice | Tensor
    """The B slots whose keys are seen."""
    grid: Tensor | None
    """[N] their places in a grid of B rows x W queries, row by row; None if they fill it in this order."""
    mask: Tensor
    """[B, 1, W, L], added to the scores; L places are seen."""
    select: Tensor | None
    """[M] which of them predict something; None for all."""


class KeysValues(NamedTuple):
    """A layer's buffers, each [slots, heads, places, width]."""

    keys: Tensor
    values: Tensor


class Decoder:
    """The forward pass. Holds the weights as they were at the last `renew`, and rotations of the positions met so far."""

    def __init__(self, policy: Policy) -> None:
        """Raises AttributeError or ValueError for a model of another shape."""
        causal = policy.causal
        base, shape = causal.base_model, architecture.text(causal.config)
        if architecture.changing_rotation(causal.config):
            raise ValueError("its rotation changes with the length")
        if type(causal.get_input_embeddings()) is not nn.Embedding:
            raise ValueError("its embeddings are no plain table")
        if extra := {id(p) for p in causal.parameters()} - {id(p) for part in _parts(causal) for p in part.parameters()}:
            raise ValueError(f"{len(extra)} of its weights have no place here")
        attention = base.layers[0].self_attn
        self.width = int(attention.head_dim)
        self.heads = int(shape.num_key_value_heads)
        """Of keys and values."""
        self._groups = int(shape.num_attention_heads) // self.heads
        self._scale = float(attention.scaling)
        self._embedding: Tensor = causal.get_input_embeddings().weight
        self._layers = [_Layer.of(layer) for layer in base.layers]
        self._norm = _Norm.of(base.norm)
        self._head = _Linear([causal.get_output_embeddings()])
        self._rotary, self._longest = base.rotary_emb, policy.max_length
        self._turns = self._embedding.new_zeros((0, 2, 1, self.width))

    @property
    def layers(self) -> int:
        return len(self._layers)

    @property
    def like(self) -> Tensor:
        """A tensor of the keys' format and device."""
        return self._turns

    def renew(self) -> None:
        """Take the weights as they are now; to be called after every change."""
        for linear in self._linear():
            linear.renew()

    def addresses(self) -> list[int]:
        """Where the weights lie: a recorded pass is right as long as these are the same."""
        norms = [self._norm, *(norm for layer in self._layers for norm in layer.norms())]
        held = [self._embedding, *(norm.weight for norm in norms), *(one for linear in self._linear() for one in linear.held())]
        return [tensor.data_ptr() for tensor in held]

    def reach(self, length: int) -> bool:
        """Make sure that positions below `length` can be turned; returns whether that needed a new table."""
        if more := length > len(self._turns):
            count = max(length, min(max(2 * len(self._turns), 256), self._longest))
            places = torch.arange(count, device=self._turns.device)
            cos, sin = self._rotary(self._embedding, places[None])
            half = self.width // 2
            # x cos + rotate_half(x) sin, where the latter is x with its halves exchanged and the first one's sign turned.
            self._turns = torch.stack([cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], -1)], 1)[:, :, None]
        return more

    def __call__(self, tokens: Tokens, memory: Sequence[KeysValues]) -> Tensor:
        """Logits [M, V] in float32; the tokens' keys and values are left in `memory`, one of each layer."""
        queries = self._groups * self.heads
        cos, sin = self._turns.index_select(0, tokens.positions).unbind(1)
        mask = tokens.mask
        if self._groups > 1 and mask.shape[2] > 1:
            mask = mask.repeat_interleave(self._groups, 2)
        x = functional.embedding(tokens.ids, self._embedding)
        for number, (layer, buffers) in enumerate(zip(self._layers, memory, strict=True)):
            heads = layer.queries_keys_values(layer.before_attention(x)).view(len(x), -1, self.width)
            turned, values = heads[:, : queries + self.heads], heads[:, queries + self.heads :]
            if layer.queries is not None and layer.keys is not None:
                turned = torch.cat([layer.queries(turned[:, :queries]), layer.keys(turned[:, queries:])], 1)
            turned = torch.addcmul(turned * cos, torch.roll(turned, self.width // 2, -1), sin)
            for buffer, new in zip(buffers, (turned[:, queries:], values)):
                buffer.view(-1, self.width).index_copy_(0, tokens.cells, new.reshape(-1, self.width))
            seen = self._attend(turned[:, :queries], buffers, tokens, mask)
            if tokens.select is not None and number == len(self._layers) - 1:
                x, seen = x[tokens.select], seen[tokens.select]
            x = x + layer.out(seen)
            gate, up = layer.gate_up(layer.before_gate(x)).chunk(2, -1)
            x = x + layer.down(layer.activation(gate) * up)
        return self._head(self._norm(x)).float()

    def _attend(self, queries: Tensor, buffers: KeysValues, tokens: Tokens, mask: Tensor) -> Tensor:
        """[N, queries' heads, width] -> [N, heads x width]. Queries of one head of keys stand in its rows: no key is copied."""
        rows, _, wide, length = tokens.mask.shape
        if tokens.grid is not None:
            spread = queries.new_zeros((rows * wide, *queries.shape[1:]))
            queries = spread.index_copy_(0, tokens.grid, queries)
        grouped = queries.reshape(rows, wide, self.heads, self._groups, self.width).transpose(1, 2)
        keys, values = (
            one[tokens.rows, :, :length] if isinstance(tokens.rows, slice) else one[:, :, :length].index_select(0, tokens.rows)
            for one in buffers
        )
        seen = functional.scaled_dot_product_attention(
            grouped.reshape(rows, self.heads, wide * self._groups, self.width), keys, values, attn_mask=mask, scale=self._scale
        )
        seen = seen.reshape(rows, self.heads, wide, -1).transpose(1, 2).reshape(rows * wide, -1)
        return seen if tokens.grid is None else seen[tokens.grid]

    def _linear(self) -> Iterator[_Linear]:
        for layer in self._layers:
            yield from (layer.queries_keys_values, layer.out, layer.gate_up, layer.down)
        yield self._head


class _Linear:
    """Linear layers that read the same input, as one: [N, inputs] -> [N, all their outputs]. Holds their weights.

    Where oneDNN computes they are held once more in its own layout, in which a step of few rows takes half the time; elsewhere
    they stay the model's. What LoRA adds is computed beside: merged into a coarse format it would be rounded away.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self._layers = layers
        self.renew()

    def renew(self) -> None:
        bases = [getattr(layer, "base_layer", layer) for layer in self._layers]
        biases = [base.bias for base in bases]
        self._parts: list[tuple[Tensor, Tensor | None]] = [(base.weight, base.bias) for base in bases]
        self._packed: Tensor | None = None
        if _packs(bases[0].weight):
            whole = torch.cat([base.weight.detach() for base in bases])
            bias = None if biases[0] is None else torch.cat([bias.detach() for bias in biases])
            self._packed = torch.ops.mkldnn._reorder_linear_weight(whole, None)
            self._parts = [(self._packed, bias)]
        self._terms: list[tuple[slice, Any, Any, float]] = []
        start = 0
        for layer, base in zip(self._layers, bases, strict=True):
            columns = slice(start, start := start + len(base.weight))
            if layer is not base and not layer.disable_adapters:
                if layer.lora_variant:
                    raise ValueError("its adapters are no plain LoRA")
                for name in layer.active_adapters:
                    self._terms.append((columns, layer.lora_A[name], layer.lora_B[name], layer.scaling[name]))

    def held(self) -> list[Tensor]:
        """Tensors that are read."""
        terms = [one for _, a, b, _ in self._terms for one in (a.weight, b.weight, b.bias)]
        return [one for one in (*(tensor for part in self._parts for tensor in part), *terms) if one is not None]

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed is not None:
            y = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._parts[0][1], "none", [], "")
        elif len(self._parts) == 1:
            y = functional.linear(x, *self._parts[0])
        else:
            y = torch.cat([functional.linear(x, *part) for part in self._parts], -1)
        for columns, a, b, scale in self._terms:
            inner = functional.linear(x.to(a.weight.dtype), a.weight)
            y[:, columns].add_(functional.linear(inner, b.weight, b.bias), alpha=scale)
        return y


def _packs(weight: Tensor) -> bool:
    """Whether oneDNN computes with such weights here."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return False
    return weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Norm(NamedTuple):
    """RMSNorm over the last dimension."""

    weight: Tensor
    epsilon: float

    @classmethod
    def of(cls, module: Any) -> _Norm:
        return cls(module.weight, float(module.variance_epsilon))

    def __call__(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32:
            return functional.rms_norm(x, x.shape[-1:], self.weight, self.epsilon)
        # As the models do it: rounded to their format before the weight is multiplied.
        return functional.rms_norm(x, x.shape[-1:], None, self.epsilon) * self.weight


class _Layer(NamedTuple):
    """A layer's parts."""

    before_attention: _Norm
    queries_keys_values: _Linear
    queries: _Norm | None
    keys: _Norm | None
    out: _Linear
    before_gate: _Norm
    gate_up: _Linear
    activation: Callable[[Tensor], Tensor]
    down: _Linear

    @classmethod
    def of(cls, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        return cls(
            before_attention=_Norm.of(layer.input_layernorm),
            queries_keys_values=_Linear([attention.q_proj, attention.k_proj, attention.v_proj]),
            queries=_Norm.of(attention.q_norm) if hasattr(attention, "q_norm") else None,
            keys=_Norm.of(attention.k_norm) if hasattr(attention, "k_norm") else None,
            out=_Linear([attention.o_proj]),
            before_gate=_Norm.of(layer.post_attention_layernorm),
            gate_up=_Linear([mlp.gate_proj, mlp.up_proj]),
            activation=mlp.act_fn,
            down=_Linear([mlp.down_proj]),
        )

    def norms(self) -> list[_Norm]:
        return [norm for norm in (self.before_attention, self.queries, self.keys, self.before_gate) if norm is not None]


def _parts(causal: Any) -> Iterator[nn.Module]:
    """The modules whose weights are used here. Raises AttributeError for a model that lacks one."""
    base = causal.base_model
    yield from (causal.get_input_embeddings(), causal.get_output_embeddings(), base.norm)
    for layer in base.layers:
        attention, mlp = layer.self_attn, layer.mlp
        yield from (layer.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        yield from (getattr(attention, name) for name in ("q_norm", "k_norm") if hasattr(attention, name))
        yield from (layer.post_attention_layernorm, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
