"""What sharing tokens among rows that begin alike saves an update: tokens and CPU seconds, on episodes that were played.

    python scripts/bench/rows.py [--shapes NAME ...] [--keep FOLDER] [--repeats N] [--json FILE]

For each shape (environment and context) the tiny model is warm-started for a short time and plays one iteration of its usual
size; --keep keeps these runs, and finds them again. Then the first mini-batch goes forward and backward through the model:

- plain: its rows side by side, padded;
- two levels: the packing before prefix trees, which joined rebuilt prompts that begin alike and left conversations alone. Its
  tokens are counted here, without padding; its seconds are in docs/performance.md, measured before it went;
- tree: as the update does it now. Where trees are counted to cost more than they save, this is plain, too.

Seconds are of the processor, the least of some repetitions; `layout` is what of it goes into making micro-batches.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from agents.models.policy import Policy
    from agents.training.experience import Experience
    from agents.training.packing import Row

SHAPES = {
    "alfworld": ["env=alfworld"],
    "alfworld-window": ["env=alfworld", "env.context=window"],
    "alfworld-scored": ["env=alfworld", "engine.constrained=scored"],
    "webshop": ["env=webshop"],
    "webshop-window": ["env=webshop", "env.context=window"],
    "minihack": ["env=minihack"],
}
SHORT = [
    *("algo=gigpo", "model=tiny", "iterations=1", "threads=1", "warmstart.steps=400", "warmstart.demonstrations=1500"),
    *("evaluation.before=false", "evaluation.after=false", "evaluation.every=0", "tracker=console"),
]
FEWEST = 32
"""Prefixes shorter than this were not joined by the former packing."""


def two_levels(rows: Sequence[Row], longest: int) -> int:
    """Tokens of rows with prompts of their own, joined as they were before there were prefix trees: neighbors in the order of
    their ids, one prefix for all that are joined, at most `longest` tokens together."""
    total = count = prefix = size = 0
    first: list[int] = []
    for ids, start in sorted((row.ids.tolist(), row.targets[0]) for row in rows):
        differ = (n for n, (a, b) in enumerate(zip(first, ids)) if a != b)
        shared = min(next(differ, min(len(first), len(ids))), prefix, start - 1)
        joined = size + len(ids) - shared + (prefix - shared) * (count - 1)
        if count and shared >= FEWEST and 2 * shared >= prefix and joined <= longest:
            size, prefix, count = joined, shared, count + 1
        else:
            total += size
            first, prefix, size, count = ids, start - 1, len(ids), 1
    return total + size


def played(name: str, folder: Path) -> tuple[Experience, Policy, list[int], int]:
    """Experience of a shape, the policy after its iteration, the members of the first mini-batch, and the token budget."""
    from agents.config.loading import load
    from agents.models.sources import load_pretrained
    from agents.rollout.build import make_env, open_sampler
    from agents.rollout.collect import Collected
    from agents.runs.folder import RunFolder
    from agents.train import train
    from agents.training.gathering import gather
    from envs import trajectory_file

    config = load([*SHORT, *SHAPES[name], f"out={folder}", f"run={name}"])
    run = RunFolder(folder / name)
    if not run.iterations():
        train(config)
    config.model.name = str(folder / name / "model")
    policy = load_pretrained(config.model, "cpu")
    sampler = open_sampler(config, policy)
    try:
        experience = gather(
            Collected([list(trajectory_file.read(run.trajectories(1)))], [], []), 1, config, sampler, make_env(config)
        )
    finally:
        sampler.close()
    o = config.optim
    members = next(experience.mini_batches(o.minibatch_episodes, 1, config.seed, "minibatches", 0))
    return experience, policy, members, o.tokens_per_microbatch


def measure(name: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Tokens and CPU seconds of each layout."""
    experience, policy, members, budget = played(name, folder)
    rows = experience.rows(members)
    found: dict[str, Any] = {"episodes": len(members), "rows": len(rows), "plain_tokens": sum(len(row.ids) for row in rows)}
    windows = experience.scoring is None and experience.trajectories[0].context == "window"
    found["two_levels_tokens"] = two_levels(rows, budget) if windows else found["plain_tokens"]
    if experience.scoring is not None:  # all candidates of a conversation stood in one row
        found["plain_tokens"] = sum(len(text) for row in rows for text in row.texts)
        trunks = sum(len(row.ids) for row in experience.plain_rows(members))
        found["two_levels_tokens"] = trunks + sum(sum(row.behind) for row in rows)
    kept = policy.kept
    for layout in ("tree", "plain") if experience.scoring is None else ("tree",):
        policy.kept = kept if layout == "tree" else "chunks"  # as a model whose rows cannot share
        times = [_forward_and_backward(policy, experience, rows, budget) for _ in range(repeats)]
        found |= {f"{layout}_{key}": min(one[key] for one in times) for key in times[0]}
    return {"shape": name, **found}


def _forward_and_backward(policy: Policy, experience: Experience, rows: list[Row], budget: int) -> dict[str, float]:
    from agents.training.passes import logprobs, passes

    policy.model.zero_grad()
    layout, computed, padded = 0.0, 0, 0
    began = mark = time.process_time()
    with policy.training():
        for batch in passes(experience, rows, policy, budget):
            layout += time.process_time() - mark
            computed, padded = computed + batch.real_tokens, padded + batch.ids.numel()
            logprobs(policy, batch, 1.0)[0].sum().backward()
            mark = time.process_time()
    return {"computed": computed, "padded": padded, "cpu_s": time.process_time() - began, "layout_s": layout}


def show(found: Sequence[dict[str, Any]]) -> None:
    table = Table(title="one mini-batch, forward and backward")
    for column in ("shape", "rows", "plain", "two levels", "tree", "tokens", "plain, CPU s", "tree, CPU s", "layout"):
        table.add_column(column, justify="left" if column == "shape" else "right")
    for one in found:
        tree, plain = one["tree_computed"], one["plain_tokens"]
        plain_s = one.get("plain_cpu_s")
        table.add_row(
            one["shape"],
            f"{one['rows']:,}",
            f"{plain:,}",
            f"{one['two_levels_tokens']:,}",
            f"{tree:,}",
            f"{plain / tree:.2f} : {one['two_levels_tokens'] / tree:.2f} : 1",
            "-" if plain_s is None else f"{plain_s:.2f}",
            f"{one['tree_cpu_s']:.2f}",
            f"{one['tree_layout_s'] / one['tree_cpu_s']:.1%}",
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="NAME", help=", ".join(SHAPES))
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(name, options.keep or Path(folder), options.repeats) for name in options.shapes]
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
