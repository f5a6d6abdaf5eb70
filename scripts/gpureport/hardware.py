"""What fits on which card, by the dry run's estimate."""

from __future__ import annotations

from gpureport.page import table

MODELS = (
    "smollm2",
    "Qwen/Qwen2.5-0.5B-Instruct",
    "Qwen/Qwen2.5-1.5B-Instruct",
    "Qwen/Qwen2.5-3B-Instruct",
    "Qwen/Qwen2.5-7B-Instruct",
)
CARDS = (12, 16, 24, 48, 80, 141)
"""GiB of common cards."""
SPARE = 0.92
"""Share of a card's memory that is left beside CUDA itself and fragments."""
COMMON = (
    *("env=alfworld", "algo=gigpo", "env.context=window", "shaping=invalid_action", "model.dtype=bfloat16", "device=cpu"),
    *(
        "model.gradient_checkpointing=true",
        "model.max_length=2048",
        "optim.tokens_per_microbatch=8192",
        "engine.max_tokens=256",
    ),
    *("engine.max_batch=64", "engine.constrained=none"),
)
KINDS = {"all weights": (), "LoRA": ("model.lora.enabled=true", "model.lora.targets=all-linear")}


def hardware() -> str:
    """A Markdown table: estimated GiB of a training run, and the smallest common card that has them."""
    from agents.config.loading import load
    from agents.runs.dryrun import estimate

    rows = []
    for model in MODELS:
        name = ["model=smollm2"] if model == "smollm2" else ["model=hub", f"model.name={model}"]
        row = [model]
        for kind in KINDS.values():
            needed = estimate(load([*name, *COMMON, *kind])).total / 2**30
            card = next((size for size in CARDS if SPARE * size >= needed), None)
            row += [f"{needed:.1f} GiB", f"{card} GB" if card else "more than one"]
        rows.append(row)
    return table(["model", *(column for kind in KINDS for column in (kind, "card"))], rows)
