"""`--dry-run`: what a run would cost, from the configuration and the model's shape alone; no weights are read or made.

Estimates, upper bounds where a length is not known before sampling: they tell whether a run can fit, not how long it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agents.config.commands import TrainConfig
from envs.common.structured import ConfigError

TINY_VOCABULARY = 512
"""Taken for the tiny model, whose word list is only made from the environment's texts when a run starts."""

LOGIT_COPIES = 4
"""Logits, log-probabilities, their products for the entropy, and the gradient."""

# Shapes of models that are often trained, so that a dry run needs no network: (class, width, feed-forward width, layers,
# attention heads, key-value heads, vocabulary, tied embeddings), from the models' published configurations.
KNOWN: dict[str, tuple[str, int, int, int, int, int, int, bool]] = {
    "smollm2": ("llama", 576, 1536, 30, 9, 3, 49152, True),
    "Qwen/Qwen2.5-0.5B-Instruct": ("qwen2", 896, 4864, 24, 14, 2, 151936, True),
    "Qwen/Qwen2.5-1.5B-Instruct": ("qwen2", 1536, 8960, 28, 12, 2, 151936, True),
    "Qwen/Qwen2.5-3B-Instruct": ("qwen2", 2048, 11008, 36, 16, 2, 151936, True),
    "Qwen/Qwen2.5-7B-Instruct": ("qwen2", 3584, 18944, 28, 28, 4, 152064, False),
}


@dataclass(frozen=True)
class Estimate:
    """Bytes and counts of a run."""

    dtype: str
    """Number format of the weights."""
    parameters: int
    trainable: int
    episodes: int
    """Episodes an iteration, without branches."""
    branches: int | None
    """Most branches an iteration; None if the environment has no step limit that is known here."""
    response_tokens: int | None
    """Most tokens sampled in an iteration, branches included; None if the environment has no step limit that is known here."""
    context_tokens: int | None
    """Most tokens read by the forward pass of one epoch."""
    updates: int
    """Optimizer steps an iteration."""
    memory: dict[str, int]
    """Bytes by use."""

    @property
    def total(self) -> int:
        """Bytes in all, as if everything were held at the same time."""
        return sum(self.memory.values())


def estimate(config: TrainConfig) -> Estimate:
    """The cost of a run. Raises ConfigError where the model's shape cannot be found."""
    import torch
    from transformers import AutoModelForCausalLM

    from agents.models import lora
    from agents.models.policy import PolicyError
    from agents.models.precision import choose_dtype
    from agents.models.sources import choose_device

    try:
        whole = _shape(config)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(whole, trust_remote_code=config.model.trust_remote_code)
        parameters = trainable = sum(p.numel() for p in model.parameters())
        if config.model.lora.enabled:
            named = tuple(f".{one}" for one in lora.targets(model, config.model.lora.targets))
            layers: list[Any] = [layer for path, layer in lora.layers_of(model).items() if f".{path}".endswith(named)]
            trainable = config.model.lora.r * sum(sum(layer.weight.shape) for layer in layers)
    except PolicyError as exc:
        raise ConfigError(str(exc)) from exc
    shape = whole.get_text_config()
    device = choose_device(config.device)
    dtype = torch.float32 if config.model.name == "tiny" else choose_dtype(config.model.dtype, device)
    size, half = dtype.itemsize, dtype == torch.bfloat16
    hidden, layers_n = shape.hidden_size, shape.num_hidden_layers
    heads = shape.num_attention_heads
    wide = getattr(shape, "head_dim", None) or hidden // heads
    keys_values = 2 * layers_n * (getattr(shape, "num_key_value_heads", None) or heads) * wide
    budget, longest = config.optim.tokens_per_microbatch, config.model.max_length
    tokens = max(budget, longest)
    steps = getattr(config.env.settings, "max_steps", None)
    window = config.env.context == "window"
    # Logits are computed only where a token was sampled.
    sampled = min(1.0, config.engine.max_tokens * (1 if window else steps or longest) / longest)
    per_token = hidden * 16 + (getattr(shape, "intermediate_size", None) or 4 * hidden) * 3
    kept = tokens * (layers_n * hidden + per_token if config.model.gradient_checkpointing else layers_n * per_token)
    memory = {
        "weights": parameters * size,
        "gradients": trainable * (size + 4 if half else 4),
        "optimizer (AdamW, float32)": trainable * (12 if half else 8),
        "activations of a micro-batch": kept * size,
        "logits of a micro-batch": int(sampled * tokens) * shape.vocab_size * 4 * LOGIT_COPIES,
        "KV cache": config.engine.max_batch * longest * keys_values * size,
    }
    if config.rollout.overlap:  # the old one and the new one while they are exchanged
        memory["weights that are sampled from"] = 2 * (trainable if config.model.lora.enabled else parameters) * size
    if config.engine.name == "hf" and device.type == "cpu":  # agents.models.lean
        memory["weights as decoding reads them, at most"] = parameters * size
    if config.engine.name == "vllm":
        memory["weights in vLLM"] = parameters * size
        if config.engine.vllm.kv_gib is not None:
            memory["KV cache"] = int(config.engine.vllm.kv_gib * 2**30)
    if config.loss.kl.kind != "none" and not config.model.lora.enabled:
        memory["frozen copy of the policy"] = parameters * size
    memory |= _learners(config, parameters, hidden, size)
    episodes = config.rollout.groups * config.rollout.group_size
    branches, learned = _branches(config, episodes, steps)
    read = longest if not window else None if steps is None else steps * longest  # of an episode
    answers = None if steps is None or read is None else min(steps * config.engine.max_tokens, read)
    return Estimate(
        str(dtype).removeprefix("torch."),
        parameters,
        trainable,
        episodes,
        branches,
        None if answers is None or branches is None else (episodes + branches) * answers,
        None if read is None else learned * read,
        max(1, round(learned / config.optim.minibatch_episodes)) * config.optim.epochs,
        memory,
    )


def _branches(config: TrainConfig, episodes: int, steps: int | None) -> tuple[int | None, int]:
    """Most branches of an iteration's episodes, None if that is not known; and most episodes that are learned from."""
    from algorithms import base
    from algorithms.branching import MonteCarloMethod, TreeMethod

    method = base.build(config.algo)
    if isinstance(method, TreeMethod):
        return episodes * method.most_branches, episodes * (1 + method.most_branches)
    if isinstance(method, MonteCarloMethod):
        places = None if steps is None else method.most_places(steps, steps * config.engine.max_tokens)
        return None if places is None else episodes * places * method.continuations, episodes
    return 0, episodes


def _learners(config: TrainConfig, parameters: int, hidden: int, size: int) -> dict[str, int]:
    """Bytes of what a method or a shaping trains beside the policy."""
    from algorithms import base, shaping

    memory = {}
    state = 16 if size == 4 else 18  # weight, gradient, two moments, and below float32 a master
    if "values" in base.get(config.algo["name"]).needs:
        widths = [hidden, *config.critic.hidden, base.get(config.algo["name"]).values_per_token]
        memory["critic"] = 16 * sum(a * b for a, b in pairwise(widths))
        memory["critic"] += parameters * state if config.critic.trains == "all" else 0
    asks = ["critic"] if "critic" in memory and config.critic.trains == "head" else []
    for name, settings in config.shaping.items():
        built = shaping.build(name, settings)
        if not built.learns or built.needs_model == "factors":  # a decoder of a few numbers takes next to nothing
            continue
        whole = settings.get("kind") == "copy" or settings.get("trains") == "all"
        if built.needs_model != "policy":
            memory[f"reward model of {name}"] = parameters * state * (1 + built.needs_other) if whole else 0
        asks += [] if whole and not built.reads_reference else [name]
    if asks and not config.model.lora.enabled:
        memory["frozen copy of the policy"] = parameters * size
    return memory


def report(config: TrainConfig) -> None:
    """Print the estimate as a table."""
    cost = estimate(config)
    table = Table(box=None, padding=(0, 2), show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    rows: list[tuple[str, str]] = [
        ("model", config.model.name),
        ("parameters", f"{cost.parameters / 1e6:,.2f} M"),
        ("trained", f"{cost.trainable / 1e6:,.2f} M"),
        ("format of the weights", cost.dtype),
        ("iterations", f"{config.iterations:,}"),
        ("episodes an iteration", f"{cost.episodes:,} ({config.rollout.groups} tasks x {config.rollout.group_size})"),
        *([("branches an iteration, at most", _count(cost.branches))] if cost.branches != 0 else []),
        ("sampled tokens an iteration, at most", _count(cost.response_tokens)),
        ("tokens read by one epoch, at most", _count(cost.context_tokens)),
        ("optimizer steps an iteration", f"{cost.updates:,}"),
        ("", ""),
        *((name, _bytes(size)) for name, size in cost.memory.items()),
        ("memory in all, estimated", _bytes(cost.total)),
    ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _shape(config: TrainConfig) -> Any:
    from transformers import LlamaConfig, Qwen2Config

    name = config.model.name
    if name == "tiny":
        tiny = config.model.tiny
        row = ("llama", tiny.hidden, tiny.intermediate, tiny.layers, tiny.heads, tiny.heads, TINY_VOCABULARY, True)
    elif name in KNOWN:
        row = KNOWN[name]
    else:
        from agents.models.policy import PolicyError
        from agents.models.sources import check_scoring, shape_of

        try:
            check_scoring(config)
            return shape_of(config.model)
        except PolicyError as exc:
            known = "" if Path(name).is_dir() else f" Known to --dry-run without a network: tiny, {', '.join(KNOWN)}"
            raise ConfigError(f"{str(exc).rstrip('.')}.{known}") from exc
    kind, hidden, intermediate, layers, heads, kv_heads, vocabulary, tied = row
    return (LlamaConfig if kind == "llama" else Qwen2Config)(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
    )


def _count(tokens: int | None) -> str:
    return "not known" if tokens is None else f"{tokens:,}"


def _bytes(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB" if size >= 2**28 else f"{size / 2**20:,.1f} MiB"
