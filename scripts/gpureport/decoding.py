"""Decoding alone, by batch size and engine."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from gpureport.random_model import model_folder
from gpureport.setup import Note, Setup


def decoding(setup: Setup, note: Note) -> None:
    """Tokens a second of decoding at the recipe's shape: prompts of 512 tokens, by batch size, with CUDA graphs and without."""
    import torch

    from agents.config import engines
    from agents.config.sections import EngineConfig, ModelConfig
    from agents.models.sources import load_pretrained
    from agents.rollout.engines.hf import HFEngine

    batches, prompt, answer = ((1, 4), 16, 6) if setup.small else ((1, 8, 32, 128), 512, 128)
    model = ModelConfig(
        str(model_folder(setup)), dtype="float32" if setup.small else "bfloat16", max_length=prompt + answer + 8
    )
    policy = load_pretrained(model, setup.device)
    config = EngineConfig(max_batch=max(batches), max_tokens=answer)
    variants: dict[str, Callable[[], Any]] = {
        "hf, transformers' modules": lambda: HFEngine(policy.twin(), max(batches), lean=False),
        "hf": lambda: HFEngine.open(policy, config),
    }
    if setup.device == "cuda":
        variants["hf, without CUDA graphs"] = lambda: _without_graphs(policy, config)
    if importlib.util.find_spec("vllm") is not None:
        variants["vllm"] = lambda: engines.get("vllm").open(policy, EngineConfig("vllm", max_batch=max(batches)))
    rows: list[dict[str, Any]] = []
    for name, opened in variants.items():
        with torch.inference_mode():
            for batch in batches:
                rows.append({"engine": name, "batch": batch, **_decoded(opened(), batch, prompt, answer)})
                note({"prompt": prompt, "answer": answer, "rows": rows})


def _without_graphs(policy: Any, config: Any) -> Any:
    """The engine whose steps are launched kernel by kernel."""
    from agents.rollout.engines.hf import HFEngine

    with patch("agents.models.probe.cuda_recorder", lambda: lambda run: run):
        return HFEngine.open(policy, config)


def _decoded(engine: Any, batch: int, prompt: int, answer: int) -> dict[str, float]:
    """Tokens a second after the prompts have been read, and of reading them."""
    import torch

    from agents.rollout.engines.base import Request, Sampling, new_session

    draw = torch.Generator().manual_seed(0)

    async def run(tokens: int) -> float:
        ids = torch.randint(256, 4000, (batch, prompt), generator=draw).tolist()
        sessions = [new_session() for _ in ids]
        started = time.perf_counter()
        asked = (Request(s, one, Sampling(max_tokens=tokens), n) for n, (s, one) in enumerate(zip(sessions, ids, strict=True)))
        done = await asyncio.gather(*map(engine.generate, asked))
        seconds = time.perf_counter() - started
        assert all(len(one.ids) == tokens for one in done)
        for session in sessions:
            engine.release(session)
        return seconds

    async def both() -> tuple[float, float]:
        await run(answer)  # warms up
        return await run(1), await run(answer)

    try:
        read, whole = asyncio.run(both())
    finally:
        engine.close()
    return {"prefill_tokens_per_s": batch * prompt / read, "tokens_per_s": batch * (answer - 1) / (whole - read)}
