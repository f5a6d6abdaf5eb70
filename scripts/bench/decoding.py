"""What a decoding step of engine=hf costs, with the lean pass and through the model's modules.

    python scripts/bench/decoding.py [--models tiny small smollm2] [--batches 1 8 16 32] [--device cuda] [--json FILE]

tiny is the model that model=tiny makes for ALFWorld; small a Qwen3-shaped one of 3.3 million random weights; smollm2 needs its
package. Every episode has read a prompt and samples free tokens, and both ways sample the same ones. A step's time is that of a
run with --tokens more of them, less that of a run with one, so that prefilling is left out. The ways take turns, and of each
length the quickest of --repeats counts. On a processor it is processor time on one thread, which others on the machine disturb
less than a clock; on a GPU, the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import Qwen3Config, Qwen3ForCausalLM

from agents.config.loading import load
from agents.models.lean_slots import LeanSlots
from agents.models.policy import Policy
from agents.rollout.build import fresh_policy
from agents.rollout.engines.base import Request, Sampling, new_session
from agents.rollout.engines.hf import HFEngine


@dataclass
class Row:
    """One model at one number of episodes."""

    model: str
    parameters: int
    dtype: str
    device: str
    episodes: int
    modules_ms: float
    """A step through transformers' modules."""
    lean_ms: float
    """A step of the lean pass."""

    @property
    def ratio(self) -> float:
        return self.modules_ms / self.lean_ms


def made(name: str, dtype: str, device: str) -> Policy:
    """The model of this name."""
    given = ["env=alfworld", "algo=gigpo", f"device={device}", "seed=0"]
    if name == "smollm2":
        return fresh_policy(load([*given, "model=smollm2", f"model.dtype={dtype}"]))
    tiny = fresh_policy(load(given))
    if name == "tiny":
        return tiny
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=1500,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    return Policy(Qwen3ForCausalLM(shape).to(getattr(torch, dtype)), tiny.tokenizer, device)


def seconds(engine: HFEngine, clock: Callable[[], float], episodes: int, prompt: int, tokens: int) -> float:
    """Of `episodes` that read a prompt and sample `tokens` each."""

    async def one(number: int) -> None:
        generator, session = torch.Generator().manual_seed(number), new_session()
        ids = torch.randint(3, engine.policy.vocabulary, (prompt,), generator=generator).tolist()
        await engine.generate(Request(session, ids, Sampling(max_tokens=tokens), seed=number))
        engine.release(session)

    async def together() -> None:
        await asyncio.gather(*map(one, range(episodes)))

    started = clock()
    asyncio.run(together())
    return clock() - started


def measure(options: argparse.Namespace) -> list[Row]:
    """All models at all numbers of episodes."""
    clock = time.perf_counter if options.device == "cuda" else time.process_time
    rows = []
    for name in options.models:
        policy = made(name, options.dtype, options.device)
        engines = [HFEngine(policy, lean=lean) for lean in (False, True)]
        if not isinstance(engines[1]._memory, LeanSlots):
            raise SystemExit(f"{name} has no lean pass here")
        for episodes in options.batches:
            lengths = 1, 1 + options.tokens
            found: dict[tuple[HFEngine, int], list[float]] = {(engine, length): [] for engine in engines for length in lengths}
            for _ in range(options.repeats):
                for engine, length in found:
                    found[engine, length].append(seconds(engine, clock, episodes, options.prompt, length))
            steps = [
                1000 * (min(found[engine, lengths[1]]) - min(found[engine, lengths[0]])) / options.tokens for engine in engines
            ]
            shape = name, policy.size["parameters"], str(policy.dtype).removeprefix("torch."), str(policy.device)
            rows.append(Row(*shape, episodes, *steps))
    return rows


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=["tiny", "small", "smollm2"], default=["tiny", "small"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 16, 32], metavar="N", help="episodes at once")
    parser.add_argument("--prompt", type=int, default=200, metavar="N", help="tokens read before (200)")
    parser.add_argument("--tokens", type=int, default=32, metavar="N", help="decoding steps of a run (32)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of small and smollm2")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(options)
    unit = "ms" if options.device == "cuda" else "CPU ms"
    table = Table(title=f"A decoding step after {options.prompt} tokens, {unit}")
    for column in ("model", "weights", "format", "episodes", "modules", "lean", "modules/lean", "lean, tokens/s"):
        table.add_column(column, justify="left" if column in ("model", "format") else "right")
    for row in rows:
        figures = f"{row.modules_ms:.2f}", f"{row.lean_ms:.2f}", f"{row.ratio:.2f}", f"{1000 * row.episodes / row.lean_ms:,.0f}"
        table.add_row(row.model, f"{row.parameters / 1e6:.1f} M", row.dtype, str(row.episodes), *figures)
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
