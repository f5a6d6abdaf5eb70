"""Iterations of training: the paper's recipe with random weights, SmolLM2, and the demo."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from gpureport import arithmetic
from gpureport.random_model import TOKENIZER, model_folder
from gpureport.setup import Note, Setup

RECIPE = "gigpo_alfworld_qwen2.5_1.5b"
WON = 0.8
"""Success that the demo is to reach."""
QUIET = (
    *("evaluation.before=false", "evaluation.after=false", "evaluation.every=0", "checkpoint.keep=0"),
    "loss.mismatch_stop=null",  # the report says how large the difference is, and goes on
)


def demo(setup: Setup, note: Note) -> None:
    """make demo on this device, until success on held-out games at temperature 1 is WON."""
    few = ["warmstart.steps=120", "warmstart.demonstrations=60", "env.train_games=12", "rollout.groups=2", "iterations=2"]
    settings = ["env=alfworld", "algo=gigpo", "evaluation.every=1", "evaluation.temperature=[1.0]", "checkpoint.keep=0"]
    settings += [*few, "evaluation.episodes=4"] if setup.small else []
    stop = threading.Event()

    def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
        curve = [
            {"iteration": row["iteration"], "seconds": row["time/wall"], "success": row["eval/success@1"]}
            for row in rows
            if "eval/success@1" in row
        ]
        reached = next((point["seconds"] for point in curve if point["success"] >= WON), None)
        if reached is not None:
            stop.set()
        return {"curve": curve, "seconds_to_80": reached, "success": WON}

    _train(setup, "demo", settings, lambda rows: note(figures(rows)), stop)


def smollm2(setup: Setup, note: Note) -> None:
    """SmolLM2-135M from its package on generated ALFWorld games, a few iterations."""
    size = ["rollout.groups=8", "rollout.group_size=8", "env.max_steps=15", "iterations=4", "engine.max_batch=64"]
    few = ["rollout.groups=1", "rollout.group_size=2", "env.max_steps=2", "iterations=1", "threads=1"]
    settings = ["env=alfworld", "algo=gigpo", "model=smollm2", "engine.constrained=admissible", "loss.skip_zero=false"]
    settings += [*QUIET, "optim.tokens_per_microbatch=16384", *(few if setup.small else size)]

    def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
        done = [row for row in rows if row["iteration"] > 0]
        late = done[1:] or done  # the first one warms up
        if not late:
            return {}
        names = {"rollout_s": "time/rollout", "update_s": "time/update", "sampled_per_s": "tokens_per_s"}
        return {
            "iterations": len(done),
            "episodes": 2 if setup.small else 64,
            "most_steps": 2 if setup.small else 15,
            **{name: median(row[key] for row in late) for name, key in names.items()},
            "success": [row["train/success"] for row in done],
            "mismatch_mean": max(row["update/mismatch_mean"] for row in done),
        }

    config, memory = _train(setup, "smollm2", settings, lambda rows: note(figures(rows)))
    note(_memory(config, memory))


def window(setup: Setup, note: Note) -> None:
    """An iteration of the paper's recipe as it stands: the prompt is rebuilt at every step."""
    _recipe(setup, "window", [], note)


def full(setup: Setup, note: Note) -> None:
    """The same with one growing conversation an episode, whose keys and values are kept."""
    _recipe(setup, "full", ["model.max_length=16384", "engine.max_batch=64"], note)


def _recipe(setup: Setup, context: str, settings: Sequence[str], note: Note) -> None:
    """An iteration at the recipe's real shape: random weights, answers of 100 tokens, 30 steps, 16 x 8 episodes."""
    official = bool(os.environ.get("ALFWORLD_DATA"))
    size = ["env.max_steps=30", "engine.max_tokens=100"]
    few = ["env.max_steps=3", "engine.max_tokens=6", "rollout.groups=2", "rollout.group_size=2", "threads=1"]
    few += ["model.dtype=float32", "optim.minibatch_episodes=2"]
    games = ["env.source=official"] if official else ["env.source=generated", "env.size=full"]
    chosen = [f"+experiment={RECIPE}", f"model.name={model_folder(setup)}", f"env.context={context}", *games, *settings]
    # Every answer is an impossible action of random tokens, so that all advantages are 0: their rows are computed all the same.
    chosen += [*(few if setup.small else size), "engine.ignore_end=true", "loss.skip_zero=false", "iterations=1"]
    chosen += [*QUIET, *setup.settings]
    run = setup.work / "runs" / context
    played = run / "trajectories" / "iteration_000001.jsonl.gz"

    def look(rows: list[dict[str, Any]]) -> None:
        if len(rows) == 1 and played.exists():  # all that is known if the update does not end in time
            note({"rollout_and_credit_s": played.stat().st_mtime - (run / "metrics.jsonl").stat().st_mtime})

    config, memory = _train(setup, context, chosen, look)
    tokenizer = (setup.work / TOKENIZER).read_text()
    note({"games": config.env.settings.source, "tokenizer": tokenizer, **_memory(config, memory)})
    note(_spent(setup, config, context))


def _spent(setup: Setup, config: Any, run: str) -> dict[str, Any]:
    """Where a run's iteration went: seconds, tokens, model FLOP, and the least that they could take on this card."""
    import torch
    from transformers import AutoConfig

    from agents.runs.dryrun import estimate
    from agents.runs.folder import RunFolder
    from agents.runs.metrics import read_metrics
    from envs import trajectory_file

    row = read_metrics(setup.work / "runs" / run / "metrics.jsonl")[-1]
    shape = arithmetic.Shape.of(AutoConfig.from_pretrained(config.model.name), estimate(config).parameters)
    on = arithmetic.card(torch.cuda.get_device_name(0) if setup.device == "cuda" else "")
    folder = RunFolder(setup.work / "runs" / run)
    episodes = list(trajectory_file.read(folder.trajectories(int(row["iteration"]))))
    read = [[(len(step.prompt_ids), len(step.response_ids)) for step in one.steps] for one in episodes]
    lengths = (
        [sum(map(sum, steps)) for steps in read]
        if config.env.context == "full"
        else [sum(one) for steps in read for one in steps]
    )
    seen, sampled = arithmetic.mean_seen(lengths), row["tokens/sampled"]
    reference = config.loss.kl.kind != "none"
    flop = {
        "rollout": shape.forward(row["tokens/rollout"], sampled, seen),
        "update": shape.training(row["update/computed_tokens"], sampled, seen)
        + reference * shape.forward(row["update/computed_tokens"], sampled, seen),
    }
    again = config.model.gradient_checkpointing * shape.forward(row["update/computed_tokens"], 0, seen)
    steps = max(map(len, read)) * config.engine.max_tokens * -(-len(episodes) // config.engine.max_batch)
    weights = estimate(config).memory["weights"]
    reading = arithmetic.seconds_of_decoding(shape, weights, steps, sampled, seen, on)
    seconds = {
        "rollout": row["time/rollout"],
        "credit": row["time/credit"],
        "update": row["time/update"] - row["time/credit"],
    }
    least = {name: arithmetic.seconds_at_peak(amount, on) for name, amount in flop.items()}
    if reading is not None and least["rollout"] is not None:
        least["rollout"] += reading
    whole = sum(seconds.values())
    return {
        "episodes": len(episodes),
        "steps": row["train/steps"],
        "prompt_tokens": median(prompt for one in read for prompt, _ in one),
        "answer_tokens": config.engine.max_tokens,
        "seconds": {**seconds, "iteration": whole},
        "tokens": {
            "sampled": sampled,
            "rollout": row["tokens/rollout"],
            "update": row["update/computed_tokens"],
            "padded": row["update/padded_tokens"],
            "rebuilt": row["tokens/rebuild_update"],
        },
        "tokens_per_s": {
            "sampled": sampled / seconds["rollout"],
            "rollout": row["tokens/rollout"] / seconds["rollout"],
            "update": row["update/computed_tokens"] / seconds["update"],
        },
        "model_flop": flop,
        "flop_computed_again": again,
        "mfu": {
            **{name: arithmetic.utilization(amount, seconds[name], on) for name, amount in flop.items()},
            "iteration": arithmetic.utilization(sum(flop.values()), whole, on),
        },
        "least_seconds": least,
        "card": asdict(on),
        "parameters": shape.body + shape.hidden * shape.vocabulary,
        "mismatch_mean": row["update/mismatch_mean"],
    }


def _train(
    setup: Setup,
    name: str,
    settings: Sequence[str],
    look: Callable[[list[dict[str, Any]]], None],
    stop: threading.Event | None = None,
) -> tuple[Any, float]:
    """Train as the command does; `look` sees the metrics as they come. Returns the configuration and the peak of memory."""
    import torch

    from agents.config.loading import load
    from agents.runs.failures import Interrupted
    from agents.runs.metrics import read_metrics
    from agents.train import train

    config = load([*settings, f"device={setup.device}", f"out={setup.work / 'runs'}", f"run={name}", "tracker=console"])
    file, over = setup.work / "runs" / name / "metrics.jsonl", threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            if file.exists():
                look(read_metrics(file))

    watcher = threading.Thread(target=watch)
    if setup.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    watcher.start()
    try:
        train(config, stop)
    except Interrupted:
        pass  # it has reached what it is watched for
    finally:
        over.set()
        watcher.join()
    look(read_metrics(file))
    peak = (
        torch.cuda.max_memory_allocated()
        if setup.device == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return config, float(peak)


def _memory(config: Any, peak: float) -> dict[str, Any]:
    from agents.runs.dryrun import estimate

    cost = estimate(config)
    return {"peak_bytes": peak, "estimated_bytes": cost.total, "estimated": cost.memory}
