"""How much arithmetic a model's tokens take, and how long a card needs for it at best.

Model FLOP of a token, forward: 2 for each weight of the layers, 2 x hidden x vocabulary where logits are computed, and for
attention 4 x layers x heads x head size x the tokens that it sees (2 for the scores, 2 for the values). Backward is twice that,
so training takes 6 for each weight. What is computed again for gradient checkpointing is no model FLOP. Model FLOP utilization
(MFU; Chowdhery et al. 2022, "PaLM", appendix B) is model FLOP / seconds / the card's dense bfloat16 peak.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A graphics card by its data sheet."""

    name: str
    tflops: float | None
    """Dense bfloat16 peak with float32 sums, 10^12 FLOP a second; None: not in the table."""
    gbs: float | None
    """Memory bandwidth, 10^9 bytes a second."""


CARDS = (
    Card("H200", 989.0, 4800.0),
    Card("H100 PCIe", 756.0, 2000.0),
    Card("H100 NVL", 835.0, 3900.0),
    Card("H100", 989.0, 3350.0),
    Card("A100-SXM4-80GB", 312.0, 2039.0),
    Card("A100 80GB PCIe", 312.0, 1935.0),
    Card("A100", 312.0, 1555.0),
    Card("RTX 4090", 165.0, 1008.0),
)
"""From the makers' data sheets, without sparsity; the first whose words are all in a device's name counts."""


def card(device: str) -> Card:
    """The data sheet of a device by the name that CUDA gives it."""
    for one in CARDS:
        if all(word in device for word in one.name.split()):
            return one
    return Card("unknown", None, None)


@dataclass(frozen=True)
class Shape:
    """What the arithmetic of a decoder depends on."""

    layers: int
    heads: int
    kv_heads: int
    head: int
    hidden: int
    vocabulary: int
    body: int
    """Weights of the layers, embeddings left out."""

    @classmethod
    def of(cls, config: object, parameters: int) -> Shape:
        """Of a transformers configuration and all the model's weights."""
        c: dict[str, int | None] = {
            name: getattr(config, name, None)
            for name in (
                "num_hidden_layers",
                "num_attention_heads",
                "num_key_value_heads",
                "head_dim",
                "hidden_size",
                "vocab_size",
            )
        }
        layers, heads, hidden, vocabulary = (
            int(c[name] or 0) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size")
        )
        tables = 1 if getattr(config, "tie_word_embeddings", False) else 2
        body = parameters - tables * hidden * vocabulary
        return cls(layers, heads, c["num_key_value_heads"] or heads, c["head_dim"] or hidden // heads, hidden, vocabulary, body)

    def forward(self, tokens: float, logits: float, seen: float) -> float:
        """Model FLOP of a forward pass over `tokens` that see `seen` tokens on average, with logits at `logits` places."""
        attention = 4 * self.layers * self.heads * self.head * seen
        return tokens * (2 * self.body + attention) + logits * 2 * self.hidden * self.vocabulary

    def training(self, tokens: float, logits: float, seen: float) -> float:
        """Model FLOP of a forward and a backward pass."""
        return 3 * self.forward(tokens, logits, seen)

    def cache_bytes(self, tokens: float, size: int = 2) -> float:
        """Bytes of the keys and values of `tokens`."""
        return tokens * 2 * self.layers * self.kv_heads * self.head * size


def utilization(flop: float, seconds: float, on: Card) -> float | None:
    """MFU, 0..1; None on an unknown card."""
    return None if on.tflops is None or seconds <= 0 else flop / seconds / (1e12 * on.tflops)


def seconds_at_peak(flop: float, on: Card) -> float | None:
    """The least time for the arithmetic alone."""
    return None if on.tflops is None else flop / (1e12 * on.tflops)


def seconds_of_decoding(shape: Shape, weights_bytes: float, steps: float, tokens: float, seen: float, on: Card) -> float | None:
    """The least time that decoding takes to read memory: all weights at each of `steps`, and what each token sees."""
    if on.gbs is None:
        return None
    return (steps * weights_bytes + tokens * shape.cache_bytes(seen)) / (1e9 * on.gbs)


def mean_seen(lengths: list[int]) -> float:
    """How many tokens a token of these sequences sees on average, itself included."""
    return sum(n * (n + 1) / 2 for n in lengths) / max(1, sum(lengths))
