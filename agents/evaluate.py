"""`python -m agents.evaluate run=runs/<name>`: success of a checkpoint, or of a model as it is, on a named panel.

Episodes are appended to a file as they end; an evaluation that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from agents.checks import preflight
from agents.config import EvaluateConfig
from agents.loading import load, load_evaluate


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    from agents import usage
    from agents.failures import command

    return command(
        arguments, lambda words: usage.text("evaluate", words), load_evaluate, lambda config: evaluate(config, Console())
    )


def evaluate(config: EvaluateConfig, console: Console) -> dict[str, Any]:
    """Play the panel, `repeats` times a task and temperature; returns and writes the results."""
    from rich.progress import Progress

    from agents.assembly import assemble, weights
    from agents.evaluation import by_type, pass_at, rate
    from agents.runfolder import replace_file
    from envs.trajectory import Trajectory, append, read, repair

    preflight(config)
    parts = assemble(config, policy=policy_of_run(config) if config.run else None)
    console.print(f"weights: {weights(parts.policy, config.model)}", soft_wrap=True)
    e = config.evaluation
    panel_hash = parts.env.panel_hash(e.panel)
    identity = _identity(config, panel_hash)[:12]
    folder = Path(config.run or config_out(config))
    out = Path(config.out) if config.out else folder / f"evaluation-{e.panel}-{identity}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    # An `out` of the user's is one file for whatever is evaluated; episodes may only be joined with their like.
    episodes_file = out.with_name(f"{out.stem}-{identity}.episodes.jsonl" if config.out else f"{out.stem}.episodes.jsonl")
    done: dict[str, Trajectory] = {}
    if episodes_file.exists():
        repair(episodes_file)  # a kill may have cut its last line off
        done = {t.group_id: t for t in read(episodes_file) if t.error is None}  # faults are played again
        console.print(f"going on with {len(done)} episodes of {episodes_file}", soft_wrap=True)
    results: dict[str, Any] = {
        "panel": e.panel,
        "panel_hash": panel_hash,
        "tasks": len(parts.env.tasks(e.panel)[: e.episodes]),
        "repeats": e.repeats,
        "run": config.run,
        "model": config.model.name,
        "environment": parts.env.name,
        "temperatures": {},
    }
    try:
        with Progress(console=console, transient=True) as progress:
            for temperature in e.temperature:
                planned = [replace(one, group_id=f"{one.group_id}@{temperature:g}") for one in parts.panel()]
                names = [one.group_id for one in planned]
                missing = [one for one in planned if one.group_id not in done]
                bar = progress.add_task(f"temperature {temperature:g}", total=len(names), completed=len(names) - len(missing))

                def ended(trajectory: Trajectory, bar: Any = bar) -> None:
                    append(episodes_file, [trajectory])
                    done[trajectory.group_id] = trajectory
                    progress.advance(bar)

                parts.play(parts.rollout(temperature, ended), missing)
                played = [done[name] for name in names]
                kinds = {**by_type(played, parts.env.task_type), "all": rate(played)}
                results["temperatures"][f"{temperature:g}"] = {
                    "types": {kind: {**asdict(r), "success": r.success, "interval95": r.interval} for kind, r in kinds.items()},
                    "pass@k": {str(k): pass_at(played, k) for k in range(1, e.repeats + 1)},
                }
    finally:
        parts.close()
    replace_file(out, json.dumps(results, indent=1).encode())
    show(results, console)
    console.print(f"written: {out} (episodes: {episodes_file})", soft_wrap=True)
    return results


def show(results: dict[str, Any], console: Console) -> None:
    """The results as a table a temperature."""
    for temperature, found in results["temperatures"].items():
        title = f"{results['environment']}, panel {results['panel']}, temperature {temperature}"
        # Without a frame the longest task types of the environments here stand on one line of 80 columns.
        table = Table(title=title, box=box.SIMPLE, show_edge=False, padding=0)
        table.add_column("type", overflow="fold")
        for column in ("success", "95% interval", "episodes", "faults", "score", "steps"):
            table.add_column(column, justify="right", no_wrap=True)
        for kind, r in found["types"].items():
            low, high = r["interval95"]
            if kind == "all":
                table.add_section()
            table.add_row(
                kind,
                f"{r['success']:.3f}",
                f"{low:.3f} - {high:.3f}",
                str(r["episodes"]),
                str(r["faults"]),
                f"{r['score']:.3f}",
                f"{r['steps']:.1f}",
            )
        console.print(table)
        if results["repeats"] > 1:
            console.print("  ".join(f"pass@{k} {p:.3f}" for k, p in found["pass@k"].items() if p is not None))


def policy_of_run(config: EvaluateConfig) -> Any:
    """The policy of a run's checkpoint; its vocabulary is that of the environment it was trained on."""
    from agents import checkpoint
    from agents.assembly import fresh_policy
    from agents.compose import assignment

    run, folder = Path(config.run or ""), _checkpoint(config)
    policy = fresh_policy(load([assignment("resume", run), f"device={config.device}"]))
    saved = checkpoint.load_latest(run) if config.checkpoint is None else checkpoint.load(folder)
    assert saved is not None
    policy.model.load_state_dict(saved.tensors)
    return policy


def config_out(config: EvaluateConfig) -> Path:
    """Where the results of a model without a run go."""
    return Path("runs") / "evaluations" / f"{config.env.name}-{config.model.name.replace('/', '--')}"


def _identity(config: EvaluateConfig, panel_hash: str) -> str:
    """What makes two evaluations the same: their episodes may then be joined."""
    about = {k: v for k, v in asdict(config).items() if k not in ("out", "device", "threads")}
    manifest = _checkpoint(config) / "manifest.json" if config.run else None
    about["checkpoint"] = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest and manifest.exists() else ""
    folder = Path(config.model.name)
    if not config.run and folder.is_dir():
        about["files"] = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir())
    return hashlib.sha256(json.dumps([about, panel_hash], sort_keys=True, default=str).encode()).hexdigest()


def _checkpoint(config: EvaluateConfig) -> Path:
    """The folder of the run's checkpoint. Raises CheckpointError, with those that exist."""
    from agents import checkpoint

    found = {checkpoint.iteration_of(folder): folder for folder in checkpoint.complete(Path(config.run or "") / "checkpoints")}
    if not found:
        raise checkpoint.CheckpointError(f"{config.run} has no checkpoint yet: train it first, or evaluate another run")
    wanted = max(found) if config.checkpoint is None else config.checkpoint
    if wanted not in found:
        raise checkpoint.CheckpointError(
            f"{config.run} has no checkpoint of iteration {wanted}; there are: {', '.join(map(str, found))}. A training keeps "
            "the newest ones, as many as its checkpoint.keep says"
        )
    return found[wanted]


if __name__ == "__main__":
    sys.exit(main())
