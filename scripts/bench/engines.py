"""engine=vllm beside engine=hf, in one process and one run: the same tokens, the same log-probabilities, and how fast.

    python scripts/bench/engines.py [--model smollm2] [--dtype float32] [--prompts 200] [--parts greedy sampled speed]
    python scripts/bench/engines.py --run runs/<name>

Prompts are the openings of generated ALFWorld games. greedy: tokens at temperature 0, and at the first that differs the gap of
the two best logits (a tie, where rounding decides). sampled: what vLLM says of its tokens against a plain forward pass. speed:
sampled tokens per second and CPU seconds per 1,000 of them, for batches of 1 to 32, each engine twice, the better one counts.
--run: how much of the prompts of a run with engine=vllm was found in the cache of prefixes.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from agents.config.loading import load
from agents.models.policy import Policy
from agents.rollout.build import fresh_policy, make_env, open_sampler
from agents.rollout.engines.base import Completion, Engine, Request, Sampling
from agents.rollout.engines.vllm import VLLMEngine
from agents.runs.metrics import read_metrics

PARTS = ("greedy", "sampled", "speed")
BATCHES = (1, 2, 4, 8, 16, 32)
EDGES = [0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, np.inf]
"""Of the histogram of |difference of log-probabilities|."""


def openings(config: Any, dialogue: Any, count: int) -> list[list[int]]:
    """The first prompts of different games."""
    env = make_env(config)
    prompts = []
    for task in env.tasks("train")[:count]:
        observation, info = env.reset(seed=0, options={"task": task})
        prompts.append(dialogue.opening(observation, info["admissible_actions"]))
    return prompts


async def answers(engine: Engine, prompts: Sequence[list[int]], sampling: Sampling) -> list[Completion]:
    async def one(i: int, ids: list[int]) -> Completion:
        try:
            return await engine.generate(Request(str(i), ids, sampling, i))
        finally:
            engine.release(str(i))

    return await asyncio.gather(*(one(i, ids) for i, ids in enumerate(prompts)))


@torch.inference_mode()
def logits_of(policy: Policy, ids: list[int], done: Completion) -> torch.Tensor:
    """[tokens, V] that predict the tokens of a response, by a forward pass without a cache."""
    row = torch.tensor([[*ids, *done.ids]], device=policy.device)
    places = torch.arange(len(ids) - 1, len(ids) + len(done.ids) - 1, device=policy.device)
    return policy.forward(row, None, None, places)


def greedy(policy: Policy, hf: Engine, vllm: Engine, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
    """Responses that are equal, and of each other one the place and the gap of the two best logits there."""
    sampling = Sampling(0.0, max_tokens=tokens)
    ours, theirs = (asyncio.run(answers(engine, prompts, sampling)) for engine in (hf, vllm))
    differing = []
    for ids, one, other in zip(prompts, ours, theirs):
        if one.ids != other.ids:
            place = next(i for i, (a, b) in enumerate(zip(one.ids, other.ids)) if a != b)
            best = logits_of(policy, ids, one)[place].topk(2).values
            differing.append({"token": place, "gap": float(best[0] - best[1])})
    return {"prompts": len(prompts), "equal": len(prompts) - len(differing), "differing": differing}


def sampled(policy: Policy, vllm: Engine, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
    """|log p(vLLM) - log p(forward pass)| of every token sampled at temperature 1."""
    found = []
    for ids, done in zip(prompts, asyncio.run(answers(vllm, prompts, Sampling(max_tokens=tokens)))):
        logp = logits_of(policy, ids, done).log_softmax(-1)[torch.arange(len(done.ids)), done.ids]
        found.append((logp.cpu() - torch.tensor(done.logprobs)).abs().numpy())
    off = np.concatenate(found)
    counts = np.histogram(off, EDGES)[0]
    histogram = {f"{low:g} to {high:g}": int(n) for low, high, n in zip(EDGES, EDGES[1:], counts)}
    return {"tokens": len(off), "mean": float(off.mean()), "max": float(off.max()), "histogram": histogram}


def speed(engines: dict[str, Engine], prompts: list[list[int]], tokens: int) -> dict[str, dict[str, dict[str, float]]]:
    """By batch and engine: sampled tokens per second, prefill included, and CPU seconds per 1,000 tokens."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for batch in BATCHES:
        best: dict[str, dict[str, float]] = {}
        for attempt in range(2):
            chosen = [prompts[(batch * (attempt + 1) + i) % len(prompts)] for i in range(batch)]
            for name, engine in engines.items():
                clock, cpu = time.perf_counter(), time.process_time()
                count = sum(len(done.ids) for done in asyncio.run(answers(engine, chosen, Sampling(max_tokens=tokens))))
                seconds, cpu = time.perf_counter() - clock, time.process_time() - cpu
                row = {"tokens_per_s": count / seconds, "cpu_s_per_1000": 1000 * cpu / count}
                if name not in best or row["cpu_s_per_1000"] < best[name]["cpu_s_per_1000"]:
                    best[name] = row
        found[str(batch)] = best
    return found


def hits(run: Path) -> dict[str, Any]:
    """Of the prompts' tokens of a run: the share that was kept, over all iterations."""
    rows = [row for row in read_metrics(run / "metrics.jsonl") if row.get("tokens/prefill")]
    reused, computed = (sum(row[f"tokens/{name}"] for row in rows) for name in ("reused", "prefill"))
    return {"iterations": len(rows), "reused": reused, "computed": computed, "hit_rate": reused / (reused + computed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="smollm2, or a folder with a model")
    parser.add_argument("--prompt", default="chat", choices=["chat", "plain"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--run", type=Path, help="a run with engine=vllm, instead")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    if options.run:
        found = hits(options.run)
        Console().print(found)
    elif importlib.util.find_spec("vllm") is None:
        print("vLLM is not installed here: make test-vllm installs it into .venv-vllm")
        return
    else:
        model = ["model=smollm2"] if options.model == "smollm2" else ["model=hub", f"model.name={options.model}"]
        settings = [f"model.prompt={options.prompt}", f"model.dtype={options.dtype}", "model.max_length=2048"]
        config = load(["env=alfworld", *model, *settings, "engine.max_batch=32", "engine.max_tokens=64"])
        policy = fresh_policy(config)
        sampler = open_sampler(config, policy)
        config.engine.vllm.where = "here"
        vllm, hf = VLLMEngine.open(policy, config.engine), sampler.player.engine
        prompts = openings(config, sampler.player.dialogue, options.prompts)
        found = {
            "model": options.model,
            "dtype": options.dtype,
            "threads": torch.get_num_threads(),
            "prompt_tokens": float(np.mean([len(ids) for ids in prompts])),
        }
        asyncio.run(answers(vllm, prompts[:2], Sampling(max_tokens=2)))
        if "greedy" in options.parts:
            found["greedy"] = greedy(policy, hf, vllm, prompts, options.tokens)
        if "sampled" in options.parts:
            found["sampled"] = sampled(policy, vllm, prompts, options.tokens)
        if "speed" in options.parts:
            found["speed"] = speed({"hf": hf, "vllm": vllm}, prompts, options.tokens)
        show(found)
        vllm.close()
        sampler.close()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def show(found: dict[str, Any]) -> None:
    console = Console()
    console.print(", ".join(f"{name}: {found[name]}" for name in ("model", "dtype", "threads", "prompt_tokens")))
    if "greedy" in found:
        console.print(found["greedy"])
    if "sampled" in found:
        console.print(found["sampled"])
    if "speed" in found:
        table = Table(title="sampled tokens per second (CPU seconds per 1,000 tokens), prefill included")
        for column in ("batch", "hf", "vllm", "vllm / hf", "CPU seconds, hf / vllm"):
            table.add_column(column, justify="right")
        for batch, row in found["speed"].items():
            hf, vllm = row["hf"], row["vllm"]
            each = [f"{one['tokens_per_s']:.0f} ({one['cpu_s_per_1000']:.1f})" for one in (hf, vllm)]
            ratios = (vllm["tokens_per_s"] / hf["tokens_per_s"], hf["cpu_s_per_1000"] / vllm["cpu_s_per_1000"])
            table.add_row(batch, *each, *(f"{ratio:.2f}" for ratio in ratios))
        console.print(table)


if __name__ == "__main__":
    main()
